"""A search over settings by Optuna: the objective is the mean over inner folds, and the test fold stays untouched."""

import json
import shlex
import statistics
from collections.abc import Callable
from copy import deepcopy
from dataclasses import asdict
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser

from defectloc.config import TrainSettings, TuneSettings
from defectloc.errors import DefectlocError
from defectloc.files import digest_of, lock, make_directory
from defectloc.runs import training
from defectloc.runs.sweeping.finished import inputs_of
from defectloc.runs.tables import write_csv

# What is searched, by the key of `search`: the setting, and whether its values are bounds of a continuous range.
SEARCHED = {
    "learning_rate": "training.learning_rate",
    "trainable_from": "model.trainable_from",
    "class_weights": "training.class_weights",
    "patch_head_steps": "patch_head.steps",
}
RANGE = "learning_rate"
Values = dict[str, Any]


def run(settings: TuneSettings) -> tuple[Values, Any]:
    """Try settings until there are `search.trials`; returns the best values by key, and the study.

    Trials are kept in `study.db`; one that was interrupted is tried again. Raises DefectlocError without Optuna, or
    where no trial could be measured.
    """
    optuna = _optuna()
    _check(settings)
    folder = folder_of(settings)
    make_directory(folder)
    with lock(folder / ".lock", f"the same search ({folder})"):
        study = optuna.create_study(
            study_name=folder.name,
            storage=f"sqlite:///{folder.absolute() / 'study.db'}",
            load_if_exists=True,
            direction="maximize",
        )
        # Of its own place in the study, so that a search that goes on does not draw its first values again.
        study.sampler = optuna.samplers.TPESampler(seed=settings.seed + len(study.trials))
        _take_up(study, settings, optuna)
        missing = settings.search.trials - len(_measured(study))
        if missing > 0:
            study.optimize(_objective(settings, folder), n_trials=missing, catch=(DefectlocError,))
        write_csv(folder / "trials.csv", study.trials_dataframe(("number", "state", "value", "params", "user_attrs")))
    if not any(trial.value is not None for trial in study.trials):
        why = next((trial.user_attrs["error"] for trial in study.trials if "error" in trial.user_attrs), "no trials")
        raise DefectlocError(f"no trial of the search could be measured: {why}")
    best = {key: json.loads(value) if isinstance(value, str) else value for key, value in study.best_params.items()}
    typed = [*_typed_before(best), *(f"{key}={_typed(value)}" for key, value in best.items())]
    print(f"trials: {folder / 'trials.csv'}")
    print(
        f"best of {len(_measured(study))}, {settings.search.metric} {study.best_value:.4f} in the mean of inner folds:"
    )
    print(shlex.join(["defectloc", "train", f"subset={settings.subset}", f"fold={settings.fold}", *typed]))
    return best, study


def folder_of(settings: TuneSettings) -> Path:
    """Name the folder of a search by its settings and by the bytes of its images, masks and other files.

    Raises DefectlocError where the images are not there or not as they should be.
    """
    content = asdict(settings)
    for name in ("outputs", "device"):
        del content[name]
    del content["search"]["trials"]
    # Otherwise trials on other photographs would count, and errors that those had.
    content["inputs"] = inputs_of(settings)
    name = f"{settings.subset}-fold{settings.fold}-{digest_of(content)[:8]}"
    return Path(settings.outputs).expanduser() / ".tune" / name


def inner_settings(settings: TuneSettings, chosen: Values, fold: int, outputs: Path) -> TrainSettings:
    """Give the settings of an inner fold: the training images of the outer fold alone, folded again."""
    inner = TrainSettings.of(deepcopy(settings))
    inner.data.within_fold = [settings.fold, settings.n_folds]
    inner.fold, inner.n_folds, inner.outputs = fold, settings.search.folds, str(outputs)
    for key, value in chosen.items():
        section, _, name = key.partition(".")
        setattr(getattr(inner, section), name, value)
    return inner


def _check(settings: TuneSettings) -> None:
    search, rates = settings.search, settings.search.learning_rate
    if search.trials < 1 or search.folds < 2:
        raise DefectlocError("search.trials must be at least 1, and search.folds at least 2.")
    if rates and (len(rates) != 2 or not 0 < rates[0] < rates[1]):
        raise DefectlocError(f"search.learning_rate={rates} must be two numbers above 0, the lower one first.")
    if settings.data.split != "kfold" or settings.data.within_fold:
        raise DefectlocError("'tune' folds the training images of a fold again: data.split=kfold, no data.within_fold.")


def _objective(settings: TuneSettings, folder: Path) -> Callable[[Any], float]:
    def objective(trial: Any) -> float:
        try:
            chosen = _suggested(trial, settings)
            scores = []
            for fold in range(settings.search.folds):
                metrics, _ = training.run(inner_settings(settings, chosen, fold, folder))
                if metrics.get(settings.search.metric) is None:
                    raise DefectlocError(f"search.metric={settings.search.metric} is not measured.")
                scores.append(float(metrics[settings.search.metric]))
        except DefectlocError as error:
            trial.set_user_attr("error", str(error))
            raise
        return statistics.fmean(scores)

    return objective


def _suggested(trial: Any, settings: TuneSettings) -> Values:
    chosen: Values = {}
    for name, values in _space(settings).items():
        key = SEARCHED[name]
        if name == RANGE:
            chosen[key] = trial.suggest_float(key, *values, log=True)
        else:
            # Optuna takes no lists for categories.
            chosen[key] = json.loads(trial.suggest_categorical(key, [json.dumps(value) for value in values]))
    return chosen


def _space(settings: TuneSettings) -> dict[str, list[Any]]:
    """Give what is searched: the bounds of the range and the values of the others, which all hold the present value."""
    space: dict[str, list[Any]] = {}
    for name, values in ((name, list(getattr(settings.search, name))) for name in SEARCHED):
        present = _present(settings, name)
        if values and name == RANGE:
            space[name] = [min(values[0], present), max(values[1], present)]
        elif values:
            # [1, 3] and [1.0, 3.0] are equal.
            space[name] = values if present in values else [*values, present]
    return space


def _present(settings: TuneSettings, name: str) -> Any:
    section, _, leaf = SEARCHED[name].partition(".")
    return getattr(getattr(settings, section), leaf)


def _take_up(study: Any, settings: TuneSettings, optuna: Any) -> None:
    """Queue the present settings as the first trial, and those again whose process died."""
    if not study.trials:
        study.enqueue_trial(_first(settings))
    for trial in study.trials:
        if trial.state == optuna.trial.TrialState.RUNNING:
            study.tell(trial.number, state=optuna.trial.TrialState.FAIL)
            study.enqueue_trial(trial.params)


def _first(settings: TuneSettings) -> Values:
    """Give the present values of what is searched, as Optuna takes them."""
    first: Values = {}
    for name, values in _space(settings).items():
        present = _present(settings, name)
        # As it is written among the values.
        first[SEARCHED[name]] = present if name == RANGE else json.dumps(values[values.index(present)])
    return first


def _measured(study: Any) -> list[Any]:
    """List the trials that have come to an end, by a score or by an error."""
    return [trial for trial in study.trials if trial.value is not None or "error" in trial.user_attrs]


def _typed_before(best: Values) -> list[str]:
    """Give what the command line of the search says of a fit, but for what was searched, to be typed again."""
    if not HydraConfig.initialized():
        return []
    found = []
    for each in OverridesParser.create().parse_overrides(list(HydraConfig.get().overrides.task)):
        key, value = each.key_or_group, each.value()
        if key not in ("subset", "fold", *best) and not key.startswith("search."):
            # A path gets its quotes when it is typed; with escaped ones in it, they would be taken for a part of it.
            found.append(f"{key}={value}" if "\\'" in str(each.input_line) else str(each.input_line))
    return found


def _typed(value: Any) -> str:
    return json.dumps(value, separators=(",", ":")) if isinstance(value, list) else str(value)


def _optuna() -> Any:
    try:
        import optuna
    except ImportError as error:
        raise DefectlocError("'tune' needs the package optuna: pip install 'defectloc[tune]'.") from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna

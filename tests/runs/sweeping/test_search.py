"""A search on inner folds: what it may see, that it goes on, and what it says where nothing can be measured."""

import json
import shlex
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir

from defectloc import checks, config
from defectloc.data import sources
from defectloc.data.digests import Digests
from defectloc.data.splits import TEST, UNUSED, split
from defectloc.errors import DefectlocError
from defectloc.runs import training
from defectloc.runs.sweeping import search
from tests.conftest import FIT, SYNTHETIC, write_image

pytest.importorskip("optuna")

SEARCH = [
    *[typed for typed in SYNTHETIC if not typed.startswith("figures")],
    "search.folds=2",
    "search.patch_head_steps=[]",
    "search.class_weights=[[1,3],balanced]",
]


def composed(*overrides):
    config.register()
    with initialize_config_dir(version_base="1.3", config_dir=str(config.directory())):
        return checks.typed(compose("tune", [*SEARCH, *overrides]))


def test_inner_folds_hold_no_test_image_of_the_fold(tmp_path):
    settings = composed("fold=2", f"data.root={tmp_path}")
    _, whole = sources.load(settings.data, "pill", Digests(None))
    part = split(whole, settings.data, settings.n_folds, settings.fold)
    tested = set(whole.loc[part == TEST, "path"])
    seen = set()
    for fold in range(2):
        inner = search.inner_settings(settings, {"training.learning_rate": 0.5}, fold, tmp_path)
        assert (inner.training.learning_rate, inner.n_folds, inner.fold) == (0.5, 2, fold)
        _, catalog = sources.load(inner.data, "pill", Digests(None))
        part = split(catalog, inner.data, inner.n_folds, inner.fold)
        seen |= set(catalog.loc[part == TEST, "path"])
        assert not set(catalog["path"]) & tested
    # Each training image of the fold is tested once by an inner one.
    assert seen == set(whole["path"]) - tested
    # The settings that it came from are as before.
    assert settings.training.learning_rate != 0.5


def test_inner_folds_know_the_labelled_defects_of_the_fold_alone(tmp_path):
    settings = composed("fold=1", "data.n_defective=6", f"data.root={tmp_path}")
    _, whole = sources.load(settings.data, "pill", Digests(None))
    part = split(whole, settings.data, settings.n_folds, settings.fold)
    known = set(whole.loc[(part != TEST) & (part != UNUSED), "path"])
    _, catalog = sources.load(search.inner_settings(settings, {}, 0, tmp_path).data, "pill", Digests(None))
    assert set(catalog["path"]) == known
    assert (catalog["label"] == 1).sum() == 6
    part = split(catalog, search.inner_settings(settings, {}, 0, tmp_path).data, 2, 0)
    assert not (part == UNUSED).any()


@pytest.mark.parametrize("within", [[0], [5, 5], [-1, 5], [0, 1]])
def test_what_is_no_fold_is_refused(tmp_path, within):
    settings = composed(f"data.root={tmp_path}", f"data.within_fold={json.dumps(within)}")
    with pytest.raises(DefectlocError, match="within_fold"):
        sources.load(settings.data, "pill", Digests(None))


class Told:
    """Stands for a fit, whose score is told by the learning rate; raises at given calls."""

    def __init__(self, *stops: int) -> None:
        self.rates, self.stops = [], stops

    def __call__(self, settings):
        self.rates.append(settings.training.learning_rate)
        if len(self.rates) in self.stops:
            raise SystemExit(75)
        return {"balanced_accuracy": 1 - abs(settings.training.learning_rate - 1e-4)}, None


def test_a_search_starts_with_the_present_settings_and_goes_on_after_a_stop(tmp_path, monkeypatch):
    settings = composed(f"outputs={tmp_path}", "search.trials=4", "search.trainable_from=[]")
    told = Told(4)
    monkeypatch.setattr(training, "run", told)
    with pytest.raises(SystemExit):
        search.run(settings)
    assert told.rates[0] == told.rates[1] == settings.training.learning_rate
    interrupted = told.rates[-1]
    again = Told()
    monkeypatch.setattr(training, "run", again)
    best, study = search.run(settings)
    # The trial that was stopped within is tried again, whole, and four have been measured then.
    assert again.rates[:2] == [interrupted, interrupted]
    assert sum(trial.value is not None for trial in study.trials) == 4
    assert best["training.learning_rate"] == pytest.approx(1e-4)
    assert best["training.class_weights"] in ([1, 3], "balanced")
    search.run(settings)
    assert len(again.rates) == 6
    assert (search.folder_of(settings) / "trials.csv").is_file()


def test_a_search_on_other_photographs_is_another(tmp_path, monkeypatch):
    settings = composed(f"outputs={tmp_path}", f"data.root={tmp_path / 'data'}", "search.trials=1")

    def not_to_be_read(settings):
        raise DefectlocError("an image cannot be read")

    monkeypatch.setattr(training, "run", not_to_be_read)
    with pytest.raises(DefectlocError, match="cannot be read"):
        search.run(settings)
    before = search.folder_of(settings)
    assert (before / "trials.csv").is_file()
    assert search.folder_of(composed(f"outputs={tmp_path}", f"data.root={tmp_path / 'data'}")) == before
    root, catalog = sources.load(settings.data, "pill", Digests(None))
    write_image(root / catalog["path"][0], seed=1)
    told = Told()
    monkeypatch.setattr(training, "run", told)
    _, study = search.run(settings)
    assert (len(told.rates), len(study.trials)) == (2, 1)
    assert search.folder_of(settings) != before


def test_a_score_that_is_not_measured_ends_the_search_with_a_sentence(tmp_path, monkeypatch):
    settings = composed(f"outputs={tmp_path}", "search.trials=2", "search.metric=beauty")
    monkeypatch.setattr(training, "run", Told())
    with pytest.raises(DefectlocError, match=r"search\.metric=beauty is not measured"):
        search.run(settings)


@pytest.mark.parametrize("override", ["search.folds=1", "search.learning_rate=[1e-3,1e-4]", "data.split=official"])
def test_what_cannot_be_searched_is_refused(tmp_path, override):
    with pytest.raises(DefectlocError):
        search.run(composed(f"outputs={tmp_path}", override))
    assert not list(Path(tmp_path).iterdir())


def test_what_was_typed_is_typed_again_for_the_fit(command, monkeypatch):
    outputs = "it's a [folder]"
    typed = ["subset=pill", "data=synthetic", f"outputs={outputs}", "training=fast", "training.epochs=3", "fold=2"]
    typed += [*FIT[:5], "training.learning_rate=0.5", "training.class_weights=[1,7]", "patch_head.steps=12"]
    typed += ["search.trials=1", "search.class_weights=[[1,3]]", "n_folds=4"]
    monkeypatch.setattr(training, "run", Told())
    outcome = command("tune", *typed, "search.metric=balanced_accuracy")
    assert outcome.code == 0, outcome.err
    name, train, *again = shlex.split(outcome.out.splitlines()[-1])
    assert (name, train) == ("defectloc", "train")
    assert not any(each.startswith("search") for each in again)
    fitted = []
    monkeypatch.setattr(training, "run", fitted.append)
    assert command("train", *again).code == 0
    (settings,) = fitted
    assert (settings.outputs, settings.fold, settings.n_folds, settings.training.epochs) == (outputs, 2, 4, 3)
    # The first trial is what was typed, also beyond what is searched.
    assert (settings.training.class_weights, settings.training.learning_rate) == ([1, 7], 0.5)
    assert settings.patch_head.steps == 12


@pytest.mark.slow
def test_the_command_searches_and_says_what_to_type(command, tmp_path):
    outcome = command("tune", *SEARCH, "search.trials=2", f"outputs={tmp_path}", "training.epochs=1")
    assert outcome.code == 0, outcome.err
    assert "defectloc train subset=pill fold=0 data=synthetic" in outcome.out
    # The runs of a search are none of a summary's.
    assert not list(tmp_path.glob("pill"))

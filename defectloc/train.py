"""`python -m defectloc.train`: fit one fold (or find it already fitted), predict, localise, score."""

import shutil
import sys
import time
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from defectloc import cli, runs
from defectloc.config import TrainSettings
from defectloc.data import splits
from defectloc.data.images import image_size
from defectloc.draw import draw_run
from defectloc.files import lock
from defectloc.fold import Fold, dataset, fingerprint, prepare, tell_source
from defectloc.localize import post_process
from defectloc.remember import combine, remember
from defectloc.reporting.tables import print_metrics


def run(settings: TrainSettings) -> tuple[dict[str, Any], runs.Run]:
    """Do what is not done yet of a fold, and post-process it; returns (metrics, run)."""
    fold = prepare(settings)
    folder = runs.folder_of(settings.outputs, settings.subset, settings.fold, fingerprint(fold))
    with lock(folder / ".lock", f"the same fold ({folder})"):
        if not (folder / runs.RECORD).is_file():
            _fit(fold, folder)
        runs.note_root(folder, fold.root)
        if not (folder / runs.PREDICTIONS).is_file():
            _predict(fold, folder, bool(fold.rows(splits.TRAIN)["label"].any()))
        if fold.wants("memory"):
            remember(fold, folder)
        if fold.wants("fusion"):
            combine(fold, folder)
        finished = runs.Run.open(folder)
        metrics = post_process(finished, settings.localization, settings.decision)
        runs.write_json(folder / "metrics.json", metrics)
        if settings.figures:
            figure = draw_run(finished, metrics, settings.localization, settings.decision)
    print_metrics(metrics)
    print(f"run: {folder}")
    if settings.figures:
        print(f"figure: {figure}")
    return metrics, finished


def _fit(fold: Fold, folder: Path) -> None:
    """Fit the classifier, unless there is no defective image to learn from, and write the record of the run."""
    from defectloc.model import weights
    from defectloc.model.fit import balanced_weights

    settings, labels = fold.settings, list(fold.rows(splits.TRAIN)["label"])
    given = settings.training.class_weights
    class_weights = balanced_weights(labels) if given == "balanced" else [float(w) for w in given]
    history: list[dict[str, float | int | None]] = []
    seconds = {"features": 0.0, "fit": 0.0}
    if any(labels):
        history, seconds = _fit_classifier(fold, folder / ".fit", class_weights)
    else:
        print("no defective training image: the memory of good parts works alone", file=sys.stderr)
    weights.save(folder / runs.CHECKPOINT, fold.classifier, {"image_size": settings.data.image_size})
    runs.write_csv(folder / runs.HISTORY, pd.DataFrame(history))
    sizes = [image_size(fold.root / path) for path in fold.catalog["path"]]
    heights, widths = zip(*sizes, strict=True)
    runs.write_csv(folder / runs.CATALOG, fold.catalog.assign(height=heights, width=widths))
    runs.write_json(
        folder / runs.RECORD,
        {
            "format": runs.FORMAT,
            "fingerprint": folder.name.partition("-")[2],
            "subset": settings.subset,
            "fold": settings.fold,
            "root": str(fold.root),
            "settings": asdict(settings),
            "class_weights": class_weights,
            "weights_digest": fold.weights_digest,
            "preprocessing": fold.classifier.preprocessing,
            "device": fold.device,
            "precision": fold.precision,
            "n_train": len(labels),
            "epochs": len(history),
            "seconds": seconds,
            "versions": {name: version(name) for name in ("defectloc", "torch", "torchvision", "pytorch-lightning")},
        },
    )
    shutil.rmtree(folder / ".fit", ignore_errors=True)


def _fit_classifier(
    fold: Fold, unfinished: Path, class_weights: list[float]
) -> tuple[list[dict[str, float | int | None]], dict[str, float]]:
    """Fit tail and head; gives the history by epoch and the seconds of features and fit."""
    from defectloc.data.module import FoldData
    from defectloc.model.fit import DefectClassifier, fit

    settings, training = fold.settings, fold.settings.training
    started = time.perf_counter()
    train, validation = (
        dataset(fold, part, augmented=part == splits.TRAIN) for part in (splits.TRAIN, splits.VALIDATION)
    )
    stored = time.perf_counter()
    module = DefectClassifier(fold.classifier, training, class_weights, settings.seed)
    data = FoldData(train, validation, training.batch_size, settings.seed, settings.features.workers, fold.device)
    tell_source(fold)
    fit(module, data, unfinished, fold.device, fold.precision)
    fitted = time.perf_counter()
    return module.history, {"features": round(stored - started, 3), "fit": round(fitted - stored, 3)}


def _predict(fold: Fold, folder: Path, has_classes: bool) -> None:
    """Write maps and log-odds of the validation and test images; the log-odds are the means of the maps.

    Without a classifier there are no maps, and the log-odds are not known.
    """
    from defectloc.data.module import loader
    from defectloc.model import weights
    from defectloc.model.predict import maps_of

    started = time.perf_counter()
    images = pd.concat([fold.rows(splits.VALIDATION), fold.rows(splits.TEST)])
    table = images[["path", "split", "label", "defect_type"]]
    if not has_classes:
        runs.write_csv(folder / runs.PREDICTIONS, table.assign(log_odds=np.nan, probability=np.nan))
        return
    classifier = weights.restore(folder / runs.CHECKPOINT).to(fold.device)
    held_out = dataset(fold, splits.VALIDATION, splits.TEST)
    batches = loader(held_out, fold.settings.features.batch_size, None, fold.settings.features.workers)
    maps = np.concatenate([maps_of(classifier, inputs) for inputs, _ in batches])
    log_odds = maps.astype(np.float64).mean((1, 2))
    # Made from maps that are no longer: boxes and scores go with them.
    shutil.rmtree(folder / "localization", ignore_errors=True)
    runs.write_maps(folder / runs.maps_name("cam"), list(images["path"]), maps, classifier.grid)
    runs.note_seconds(folder, "predict", time.perf_counter() - started)
    probability = 0.5 * (1 + np.tanh(log_odds / 2))
    runs.write_csv(folder / runs.PREDICTIONS, table.assign(log_odds=log_odds, probability=probability))


def main() -> None:
    """Command line."""
    cli.run_command("train", run)


if __name__ == "__main__":
    main()

"""The fit of a fold's class network, and its class activation maps of the validation and test images."""

import shutil
import sys
import time
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pandas as pd

from defectloc import __version__
from defectloc.data import catalog as catalogs
from defectloc.data import splits
from defectloc.data.module import FoldData, loader
from defectloc.data.validation_split import joins_folds
from defectloc.errors import DefectlocError
from defectloc.files import are_as_written, digest
from defectloc.model import weights
from defectloc.model.fit import DefectClassifier, fit
from defectloc.model.predict import class_maps_of_features, class_maps_of_images
from defectloc.progress import say_begun
from defectloc.runs import directory, products, records, tables
from defectloc.runs.fold import FEATURES_VERSION, Fold
from defectloc.runs.products import Product

# Raised when the code changes what a class activation map holds.
VERSION = 2
UNFINISHED = ".fit"
PACKAGES = ("torch", "torchvision", "pytorch-lightning")


def fingerprint(fold: Fold) -> str:
    """Hash all that affects the fit, and nothing else."""
    s, data = fold.settings, fold.settings.data
    split = [data.split, s.n_folds, data.split_seed, data.validation, data.group, data.n_defective]
    if joins_folds(fold.catalog, data):
        # One fold was set aside before, whatever the share.
        split.append("joined")
    return directory.fingerprint(
        {
            "catalog": catalogs.digest(fold.catalog),
            "split": split,
            "image_size": fold.image_size,
            "preprocessing": fold.classifier.preprocessing,
            "model": [fold.classifier.backbone, fold.classifier.trainable_from, fold.weights_digest],
            "training": asdict(s.training) | {"precision": fold.precision},
            "augmentation": {"views": fold.views} if s.augmentation.views else s.augmentation.transforms,
            "seed": s.seed,
            "features": [FEATURES_VERSION, fold.cached, str(s.features.dtype) if fold.cached else None],
        }
    )


def fit_fold(fold: Fold, folder: Path) -> None:
    """Fit the class network, unless there is none to fit, and write the record of the run."""
    settings, train = fold.settings, fold.rows(splits.TRAIN)
    labels, given = list(train["label"]), settings.training.class_weights
    class_weights = balanced_weights(labels) if given == "balanced" else [float(w) for w in given]
    history: list[dict[str, float | int | None]] = []
    seconds = {"features": 0.0, "fit": 0.0}
    if fold.has_class_network:
        history, seconds = _fit_network(fold, folder / UNFINISHED, class_weights)
    else:
        print(f"{fold.without_class_network}: no class network is fitted{_left_out(fold)}", file=sys.stderr)
    weights.save(folder / directory.CHECKPOINT, fold.classifier, {"image_size": fold.image_size})
    tables.write_csv(folder / tables.HISTORY, pd.DataFrame(history))
    _write_catalog(fold, folder)
    written = (directory.CHECKPOINT, tables.CATALOG, tables.HISTORY)
    records.write_record(
        folder,
        {
            "format": directory.FORMAT,
            "fingerprint": folder.name.partition("-")[2],
            "subset": settings.subset,
            "fold": settings.fold,
            "root": str(fold.root),
            # A tracker may be another one tomorrow, and its address hold a password.
            "settings": {key: value for key, value in asdict(settings).items() if key != "logger"},
            "image_size": fold.image_size,
            "class_weights": class_weights,
            "weights_digest": fold.weights_digest,
            "preprocessing": fold.classifier.preprocessing,
            "device": fold.device,
            "precision": fold.precision,
            "n_train": len(labels),
            "epochs": len(history),
            "seconds": seconds,
            "versions": {"defectloc": __version__, **{name: version(name) for name in PACKAGES}},
            "files": {name: digest(folder / name) for name in written},
        },
    )
    shutil.rmtree(folder / UNFINISHED, ignore_errors=True)


def _left_out(fold: Fold) -> str:
    if fold.classifier.has_class_map:
        return ""
    what = "class activation map, shortcut check and the methods of `explain` that need them"
    return f"; {what} are left out, memory bank and patch head decide"


def balanced_weights(labels: list[int]) -> list[float]:
    """Weigh each class by n / (2 n_class), as scikit-learn's 'balanced'."""
    defective = sum(labels)
    return [len(labels) / (2 * (len(labels) - defective)), len(labels) / (2 * defective)]


def _write_catalog(fold: Fold, folder: Path) -> None:
    """Write `catalog.csv` with the size of each image, (height, width)."""
    heights, widths = zip(*(fold.sizes[path] for path in fold.catalog["path"]), strict=True)
    tables.write_csv(folder / tables.CATALOG, fold.catalog.assign(height=heights, width=widths))


def refresh_catalog(fold: Fold, folder: Path) -> None:
    """Write the catalog of a finished fit again where it was changed, or where it names other masks than now.

    Masks are no part of a fit: they may be added, renamed or taken away after it.
    """
    record = records.read_record(folder)
    assert record is not None
    if are_as_written(folder, {tables.CATALOG: record["files"].get(tables.CATALOG, "")}):
        before = tables.read_catalog(folder)
        if list(before["mask_path"]) == list(fold.catalog["mask_path"].fillna("")):
            return
    _write_catalog(fold, folder)
    files = record["files"] | {tables.CATALOG: digest(folder / tables.CATALOG)}
    records.write_record(folder, record | {"files": files})


def _fit_network(
    fold: Fold, unfinished: Path, class_weights: list[float]
) -> tuple[list[dict[str, float | int | None]], dict[str, float]]:
    """Fit tail and head; gives the history by epoch and the seconds of features and fit."""
    settings, training = fold.settings, fold.settings.training
    started = time.perf_counter()
    train = fold.dataset(fold.rows(splits.TRAIN), augmented=True)
    validation = fold.dataset(fold.rows(splits.VALIDATION))
    stored = time.perf_counter()
    module = DefectClassifier(fold.classifier, training, class_weights, settings.seed, from_images=not fold.cached)
    data = FoldData(train, validation, training.batch_size, settings.seed, settings.features.workers, fold.device)
    _say_source(fold)
    say_begun(f"class network: {len(fold.rows(splits.TRAIN))} images, at most {training.epochs} epochs")
    fit(module, data, unfinished, fold.device, fold.precision)
    if not all(bool(value.isfinite().all()) for value in module.classifier.state_dict().values()):
        # What has diverged would be resumed by the same command.
        shutil.rmtree(unfinished, ignore_errors=True)
        raise DefectlocError(
            "the fit has diverged: some weights are no finite numbers; lower training.learning_rate="
            f"{training.learning_rate:g}."
        )
    fitted = time.perf_counter()
    return module.history, {"features": round(stored - started, 3), "fit": round(fitted - module.started, 3)}


def class_maps(fold: Fold, folder: Path) -> Product | None:
    """Write the class activation maps and log-odds of the validation and test images, unless they are there.

    The log-odds are the means of the maps. Without a class network there are no maps, and the log-odds are not known.
    """
    images = fold.held_out
    table, predictions = images[["path", "split", "label", "defect_type"]], folder / tables.PREDICTIONS
    if not fold.has_class_network:
        # Nothing notes its digest, and it is as fast to write as to check.
        tables.write_csv(predictions, table.assign(log_odds=np.nan))
        return None
    product = Product(folder, "cam", {"version": VERSION})
    if product.is_whole and predictions.is_file() and product.note.get("predictions") == digest(predictions):
        return product
    started = time.perf_counter()
    classifier = weights.restore(folder / directory.CHECKPOINT).to(fold.device)
    held_out = fold.dataset(images)
    batches = loader(held_out, fold.settings.features.batch_size, None, fold.settings.features.workers)
    if fold.cached:
        found = [class_maps_of_features(classifier, inputs) for inputs, _ in batches]
    else:
        found = [class_maps_of_images(classifier, inputs, fold.precision) for inputs, _ in batches]
    maps = np.concatenate(found)
    log_odds = maps.astype(np.float64).mean((1, 2))
    tables.write_csv(predictions, table.assign(log_odds=log_odds))
    with product.making() as note:
        products.write_maps(product.folder / products.MAPS, list(images["path"]), maps, classifier.grid)
        note["predictions"] = digest(predictions)
        note["seconds"] = round(time.perf_counter() - started, 3)
    return product


def _say_source(fold: Fold) -> None:
    """Say in one line where the tail's inputs come from."""
    augmentation, names = fold.settings.augmentation, fold.views
    if fold.cached:
        source = "stored" if names == ["plain"] else f"stored in {len(names)} views of each image ({', '.join(names)})"
    else:
        reason = f"augmentation={augmentation.name} is random" if augmentation.transforms else "features.cache=false"
        source = f"streamed, since {reason}"
    print(f"features: {source}", file=sys.stderr)

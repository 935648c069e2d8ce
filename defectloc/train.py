"""`python -m defectloc.train`: fit one fold (or find it already fitted), predict, localise, score."""

import json
import os
import shutil
import sys
import time
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from defectloc import cli, runs
from defectloc.config import TrainSettings
from defectloc.data import catalog as catalogs
from defectloc.data import sources, splits
from defectloc.data.images import image_size, read_image
from defectloc.draw import draw_run
from defectloc.files import lock
from defectloc.localize import post_process
from defectloc.progress import images_bar
from defectloc.reporting.tables import print_metrics

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import torch

    from defectloc.data.module import FeatureDataset, ImageDataset
    from defectloc.model.classifier import Classifier

# Of fewer good images a memory hardly knows what varies.
FEW_GOOD = 5


@dataclass
class Fold:
    """All that a fit of one fold starts from."""

    settings: TrainSettings
    root: Path
    catalog: pd.DataFrame
    classifier: "Classifier"
    weights_digest: str
    device: str
    precision: str

    @property
    def cached(self) -> bool:
        """Tell whether the trunk's output is stored; with a random augmentation there is nothing to store."""
        return self.settings.features.cache and not self.settings.augmentation.transforms

    @property
    def views(self) -> list[str]:
        """List the views that stand for the training images; validation and test images are always plain."""
        return self.settings.augmentation.views or ["plain"]

    def rows(self, *parts: str) -> pd.DataFrame:
        """Give the images of some parts of the split."""
        return self.catalog[self.catalog["split"].isin(parts)]


def prepare(settings: TrainSettings) -> Fold:
    """Read the data, split it and load the weights; the cheap checks come first."""
    root, catalog = sources.load(settings.data, settings.subset)
    catalog = catalog.assign(split=splits.split(catalog, settings.data, settings.n_folds, settings.fold))
    import torch

    from defectloc.model import device as devices
    from defectloc.model import weights

    device = devices.choose(settings.device)
    torch.set_num_threads(settings.threads or len(os.sched_getaffinity(0)))
    classifier, digest, origin = weights.build(settings.model, settings.seed)
    print(f"{settings.subset} fold {settings.fold}: {settings.model.name}, {origin}", file=sys.stderr)
    precision = settings.training.precision
    if precision == "auto":
        precision = "bfloat16" if device == "cuda" else "float32"
    return Fold(settings, root, catalog, classifier, digest, device, precision)


def fingerprint(fold: Fold) -> str:
    """Hash all that affects the fit, and nothing else."""
    s, data = fold.settings, fold.settings.data
    return runs.fingerprint(
        {
            "catalog": catalogs.digest(fold.catalog),
            "split": [data.split, s.n_folds, data.split_seed, data.validation, data.group, data.n_defective],
            "image_size": data.image_size,
            "preprocessing": fold.classifier.preprocessing,
            "model": [s.model.name, s.model.trainable_from, fold.weights_digest],
            "training": asdict(s.training) | {"precision": fold.precision},
            "augmentation": {"views": s.augmentation.views} if s.augmentation.views else s.augmentation.transforms,
            "seed": s.seed,
            "features": [fold.cached, s.features.dtype if fold.cached else None],
        }
    )


def run(settings: TrainSettings) -> tuple[dict[str, Any], runs.Run]:
    """Do what is not done yet of a fold, and post-process it; returns (metrics, run)."""
    fold = prepare(settings)
    folder = runs.folder_of(settings.outputs, settings.subset, settings.fold, fingerprint(fold))
    with lock(folder / ".lock", f"the same fold ({folder})"):
        if not (folder / runs.RECORD).is_file():
            _fit(fold, folder)
        if not (folder / runs.PREDICTIONS).is_file():
            _predict(fold, folder)
        if settings.localization.map == "memory":
            _remember(fold, folder)
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
    from defectloc.data.module import FoldData
    from defectloc.model import weights
    from defectloc.model.fit import DefectClassifier, balanced_weights, fit

    settings, training = fold.settings, fold.settings.training
    started = time.perf_counter()
    train, validation = (
        _dataset(fold, part, augmented=part == splits.TRAIN) for part in (splits.TRAIN, splits.VALIDATION)
    )
    stored = time.perf_counter()
    labels = list(fold.rows(splits.TRAIN)["label"])
    given = training.class_weights
    class_weights = balanced_weights(labels) if given == "balanced" else [float(w) for w in given]
    module = DefectClassifier(fold.classifier, training, class_weights, settings.seed)
    data = FoldData(train, validation, training.batch_size, settings.seed, settings.features.workers, fold.device)
    _tell_source(fold)
    unfinished = folder / ".fit"
    fit(module, data, unfinished, fold.device, fold.precision)
    fitted = time.perf_counter()
    weights.save(folder / runs.CHECKPOINT, fold.classifier, {"image_size": settings.data.image_size})
    runs.write_csv(folder / runs.HISTORY, pd.DataFrame(module.history))
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
            "epochs": len(module.history),
            "seconds": {"features": round(stored - started, 3), "fit": round(fitted - stored, 3)},
            "versions": {name: version(name) for name in ("defectloc", "torch", "torchvision", "pytorch-lightning")},
        },
    )
    shutil.rmtree(unfinished, ignore_errors=True)


def _predict(fold: Fold, folder: Path) -> None:
    """Write maps and log-odds of the validation and test images; the log-odds are the means of the maps."""
    from defectloc.data.module import loader
    from defectloc.model import weights
    from defectloc.model.predict import maps_of

    started = time.perf_counter()
    classifier = weights.restore(folder / runs.CHECKPOINT).to(fold.device)
    images = pd.concat([fold.rows(splits.VALIDATION), fold.rows(splits.TEST)])
    dataset = _dataset(fold, splits.VALIDATION, splits.TEST)
    batches = loader(dataset, fold.settings.features.batch_size, None, fold.settings.features.workers)
    maps = np.concatenate([maps_of(classifier, inputs) for inputs, _ in batches])
    log_odds = maps.astype(np.float64).mean((1, 2))
    # Made from maps that are no longer: boxes and scores go with them.
    shutil.rmtree(folder / "localization", ignore_errors=True)
    runs.write_maps(folder / runs.maps_name("cam"), list(images["path"]), maps, classifier.grid)
    runs.note_seconds(folder, "predict", time.perf_counter() - started)
    table = images[["path", "split", "label", "defect_type"]]
    probability = 0.5 * (1 + np.tanh(log_odds / 2))
    runs.write_csv(folder / runs.PREDICTIONS, table.assign(log_odds=log_odds, probability=probability))


def _remember(fold: Fold, folder: Path) -> None:
    """Fit the memory of the good training images, and write its maps of the validation and test images."""
    from defectloc.model import memory

    settings, classifier = fold.settings.memory, fold.classifier
    levels = settings.levels or list(memory.LEVELS[classifier.backbone])
    key = json.dumps([levels, settings.dims, settings.budget_mb, fold.settings.seed])
    path = folder / runs.maps_name("memory")
    if path.is_file() and runs.Run.open(folder).maps("memory").key == key:
        return
    started = time.perf_counter()
    good = fold.rows(splits.TRAIN).query("label == 0")
    held_out = pd.concat([fold.rows(splits.VALIDATION), fold.rows(splits.TEST)])
    batches = _levels(fold, levels)
    budget = round(settings.budget_mb * 2**20)
    if len(good) < FEW_GOOD:
        print(f"note: the memory rests on {len(good)} good training images only", file=sys.stderr)
    known = memory.GoodMemory.fit(
        lambda: batches(good), len(good), settings.dims, budget, fold.settings.seed, fold.device
    )
    with images_bar("memory", len(held_out)) as advance:
        found = []
        for batch in batches(held_out):
            found.append(known.distances(batch))
            advance(len(found[-1]))
    grids = [classifier.grid_of(level) for level in levels]
    known.save(folder / runs.MEMORY, key)
    # Boxes and scores of an earlier memory go with it.
    for old in (folder / "localization").glob("memory-*"):
        shutil.rmtree(old)
    # On the grid of the finest level, as `patches` gives it.
    runs.write_maps(path, list(held_out["path"]), np.concatenate(found), min(grids), key)
    runs.note_seconds(folder, "memory", time.perf_counter() - started)


def _levels(fold: Fold, levels: list[str]) -> "Callable[[pd.DataFrame], Iterator[list[np.ndarray]]]":
    """Give a function from images to batches of the trunk's levels, stored or, without a store, computed."""
    from defectloc.data.resize import resize
    from defectloc.model.predict import trunk_of

    settings = fold.settings
    store = _store(fold, levels=levels) if settings.features.cache else None
    trunk = trunk_of(fold.classifier, fold.device, fold.precision)

    def batches(images: pd.DataFrame) -> "Iterator[list[np.ndarray]]":
        stored = [store.read(list(images["digest"]), level) for level in levels] if store else []
        for start in range(0, len(images), settings.features.batch_size):
            some = images.iloc[start : start + settings.features.batch_size]
            if stored:
                yield [np.stack([level[start + i] for i in range(len(some))]) for level in stored]
            else:
                found = trunk(
                    [resize(read_image(fold.root / path), settings.data.image_size) for path in some["path"]], levels
                )
                yield [found[level] for level in levels]

    return batches


def _dataset(fold: Fold, *parts: str, augmented: bool = False) -> "FeatureDataset | ImageDataset":
    """Give the images of some parts, in the order of the parts, as stored features or to be decoded."""
    from defectloc.data.augmentation import Augmentation
    from defectloc.data.module import FeatureDataset, ImageDataset
    from defectloc.data.views import Views

    settings = fold.settings
    images = pd.concat([fold.rows(part) for part in parts])
    views = Views(fold.views if augmented else ["plain"], settings.seed)
    if fold.cached:
        digests, level = list(images["digest"]), fold.classifier.level
        first, *others = [_store(fold, name).read(digests, level) for name in views.names]
        return FeatureDataset(first, list(images["label"]), others, views.draw if others else None)
    augmentation: Augmentation | Views | None = None
    if augmented and settings.augmentation.transforms:
        augmentation = Augmentation(settings.augmentation, settings.seed)
    elif views.names != ["plain"]:
        augmentation = views
    paths = [fold.root / path for path in images["path"]]
    return ImageDataset(paths, list(images["label"]), settings.data.image_size, augmentation)


def _tell_source(fold: Fold) -> None:
    """Say in one line where the tail's inputs come from."""
    augmentation, names = fold.settings.augmentation, fold.views
    if fold.cached:
        source = "stored" if names == ["plain"] else f"stored in {len(names)} views of each image ({', '.join(names)})"
    else:
        reason = f"augmentation={augmentation.name} is random" if augmentation.transforms else "features.cache=false"
        source = f"streamed, since {reason}"
    print(f"features: {source}", file=sys.stderr)


def _store(fold: Fold, view: str = "plain", levels: list[str] | None = None) -> Any:
    """Open the feature store of this setting; in it are all images of the fold, or as another view its training part.

    Raises DefectlocError for an image that cannot be read.
    """
    from defectloc.data.resize import resize
    from defectloc.data.views import flip
    from defectloc.features.store import FeatureStore
    from defectloc.model.levels import derivable
    from defectloc.model.predict import trunk_of

    settings, classifier = fold.settings, fold.classifier
    size, features = settings.data.image_size, settings.features
    key = {
        "image_size": size,
        "preprocessing": classifier.preprocessing,
        "backbone": classifier.backbone,
        "cut": classifier.trainable_from,
        "weights": fold.weights_digest,
        "dtype": features.dtype,
        "precision": fold.precision,
        "view": view,
    }
    root = Path(settings.outputs).expanduser() / ".features"
    store = FeatureStore(root, key, features.limit_gb, derivable(classifier))

    def decoded(path: str) -> "torch.Tensor":
        return resize(flip(read_image(fold.root / path), view), size)

    trunk = trunk_of(classifier, fold.device, fold.precision)
    images = fold.catalog if view == "plain" else fold.rows(splits.TRAIN)
    store.ensure(images, levels or [classifier.level], trunk, decoded, features.batch_size, features.workers)
    return store


def main() -> None:
    """Command line."""
    cli.run_command("train", run)


if __name__ == "__main__":
    main()

"""Experiment trackers, each of which logs a run once; those that write files: tables and TensorBoard."""

import logging
import shutil
import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image
from pytorch_lightning.loggers import CSVLogger, Logger, TensorBoardLogger

from defectloc.files import lock, make_directory, read_json, sealed, write_json
from defectloc.runs.directory import LOCK
from defectloc.runs.tracking.content import Tracked

# Of a run in files: written last, with the digests of its artefacts.
DONE = "tracked.json"
# What TensorBoard compares runs by.
COMPARED = ("balanced_accuracy", "auroc", "pixel_auroc", "aupro", "box_f1_30")


class Tracker(ABC):
    """A place that runs are logged to; `place` says where for people."""

    def __init__(self, folder: Path, place: str) -> None:
        self.folder, self.place = folder, place

    def add(self, run: Tracked) -> bool:
        """Tell of a run, unless that was done before; tells whether it was not.

        What a process that was killed in the middle has logged is logged anew; files that a run has only now are added.
        """
        with lock(self.folder / LOCK, f"the tracker {self.place}"):
            return self._add(run)

    @abstractmethod
    def _add(self, run: Tracked) -> bool:
        """Tell of a run while nobody else does."""


class FileTracker(Tracker):
    """Logs each run in a folder of its own, with its files in `artifacts/`."""

    kind: str

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, str(folder / self.kind))
        self._root = folder / self.kind

    def _add(self, run: Tracked) -> bool:
        folder, made_from = self._root / run.place, {"identity": run.identity, "files": run.contents()}
        before = read_json(folder / DONE)
        if before is not None and all(before.get(key) == value for key, value in made_from.items()):
            return False
        shutil.rmtree(folder, ignore_errors=True)
        make_directory(folder)
        with quiet():
            self._write(run, folder)
        for name, path in run.artifacts.items():
            make_directory((folder / "artifacts" / name).parent)
            shutil.copyfile(path, folder / "artifacts" / name)
        write_json(folder / DONE, sealed(made_from))
        return before is None

    @abstractmethod
    def _write(self, run: Tracked, folder: Path) -> None:
        """Write parameters and scores."""


class CsvTracker(FileTracker):
    """`metrics.csv`, a row per epoch and one of the final scores, and `hparams.yaml` with parameters and tags."""

    kind = "csv"

    def _write(self, run: Tracked, folder: Path) -> None:
        logger = CSVLogger(folder.parent.parent, name=folder.parent.name, version=folder.name)
        logger.log_hyperparams({**run.parameters, **run.tags})
        log_scores(logger, run)
        logger.save()


class TensorBoardTracker(FileTracker):
    """Event files: scores, the figures as images, and parameters with tags."""

    kind = "tensorboard"

    def _write(self, run: Tracked, folder: Path) -> None:
        logger = TensorBoardLogger(folder.parent.parent, name=folder.parent.name, version=folder.name)
        shown = {f"hparam/{name}": run.scores[name] for name in COMPARED if name in run.scores}
        logger.log_hyperparams({**run.parameters, **run.tags}, shown)
        log_scores(logger, run)
        for name, path in run.artifacts.items():
            if path.suffix == ".png":
                with Image.open(path) as picture:
                    pixels = np.asarray(picture.convert("RGB"))
                logger.experiment.add_image(name, pixels, dataformats="HWC")
        logger.finalize("success")


def log_scores(logger: Logger, run: Tracked) -> None:
    """Log the scores by epoch, and those at the end at the last epoch."""
    for epoch, values in run.history:
        logger.log_metrics(values, epoch)
    logger.log_metrics(run.scores, run.history[-1][0] if run.history else 0)


@contextmanager
def quiet() -> Iterator[None]:
    """Keep what the trackers tell of themselves from the terminal."""
    names = ("mlflow", "alembic", "pytorch_lightning", "lightning.pytorch")
    before = {name: logging.getLogger(name).level for name in names}
    for name in names:
        logging.getLogger(name).setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for name, level in before.items():
            logging.getLogger(name).setLevel(level)

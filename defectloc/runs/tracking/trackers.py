"""Experiment trackers, each of which logs a run once: tables, TensorBoard, MLflow."""

import importlib.util
import logging
import os
import shutil
import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from pytorch_lightning.loggers import CSVLogger, Logger, MLFlowLogger, TensorBoardLogger

from defectloc.config import LoggerConfig, LoggerName
from defectloc.errors import DefectlocError
from defectloc.files import digest_of, lock, make_directory, read_json, sealed, write_json
from defectloc.runs.directory import LOCK
from defectloc.runs.tracking.address import folder_beside, shown
from defectloc.runs.tracking.content import Tracked

FOLDER = ".tracking"
# Of a run in files: written last, with the digests of its artefacts.
DONE = "tracked.json"
# The tags by which MLflow finds a run again, and tells whether it has its numbers and its files.
IDENTITY, NUMBERS, FILES = "defectloc.identity", "defectloc.numbers", "defectloc.files"
# What TensorBoard compares runs by.
COMPARED = ("balanced_accuracy", "auroc", "pixel_auroc", "aupro", "box_f1_30")
URI_VARIABLE = "MLFLOW_TRACKING_URI"


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
        with _quiet():
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
        _log_scores(logger, run)
        logger.save()


class TensorBoardTracker(FileTracker):
    """Event files: scores, the figures as images, and parameters with tags."""

    kind = "tensorboard"

    def _write(self, run: Tracked, folder: Path) -> None:
        logger = TensorBoardLogger(folder.parent.parent, name=folder.parent.name, version=folder.name)
        shown = {f"hparam/{name}": run.scores[name] for name in COMPARED if name in run.scores}
        logger.log_hyperparams({**run.parameters, **run.tags}, shown)
        _log_scores(logger, run)
        for name, path in run.artifacts.items():
            if path.suffix == ".png":
                with Image.open(path) as picture:
                    pixels = np.asarray(picture.convert("RGB"))
                logger.experiment.add_image(name, pixels, dataformats="HWC")
        logger.finalize("success")


class MlflowTracker(Tracker):
    """A server or database of MLflow; the runs of all subsets are in one experiment."""

    def __init__(self, folder: Path, uri: str | None, experiment: str) -> None:
        """Raises DefectlocError where it cannot be reached."""
        self._uri, self._experiment = uri or f"sqlite:///{(folder / 'mlflow.db').absolute()}", experiment
        super().__init__(folder, f"MLflow {shown(self._uri)}, experiment {experiment}")
        # It reports its use otherwise, and waits for minutes for a server that is not there.
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
        make_directory(folder)
        with lock(folder / LOCK, f"the tracker {self.place}"), self._refused():
            self._client().search_experiments(max_results=1)
            self._artifacts = folder_beside(self._uri)

    def _client(self) -> Any:
        from mlflow import MlflowClient

        return MlflowClient(self._uri)

    @contextmanager
    def _refused(self) -> Iterator[None]:
        from mlflow.exceptions import MlflowException
        from sqlalchemy.exc import SQLAlchemyError

        before = os.environ.get(URI_VARIABLE)
        try:
            with _quiet():
                yield
        # MLflow lets through what its database says, and that the package of another kind of database is missing.
        except (MlflowException, SQLAlchemyError, ImportError, OSError) as error:
            reason = str(error).replace(self._uri, shown(self._uri)).strip().partition("\n")[0]
            raise DefectlocError(
                f"{self.place} cannot be used ({reason}); check logger.uri. What is fitted can be logged later with "
                "'defectloc track'."
            ) from error
        finally:
            # Lightning's logger leaves its address there, which the next job of a sweep would take for the user's.
            os.environ.pop(URI_VARIABLE, None)
            if before is not None:
                os.environ[URI_VARIABLE] = before

    def _add(self, run: Tracked) -> bool:
        with self._refused():
            client = self._client()
            before = self._before(client, run)
            if before is not None and before.data.tags.get(NUMBERS) != run.numbers:
                # Of the same run fitted again, or on another machine.
                client.delete_run(before.info.run_id)
                before = None
            if before is None:
                logger = MLFlowLogger(
                    self._experiment,
                    run_name=run.name,
                    tracking_uri=self._uri,
                    tags={**run.tags, IDENTITY: run.identity, NUMBERS: run.numbers},
                    artifact_location=self._artifacts,
                )
                logger.log_hyperparams(run.parameters)
                _log_scores(logger, run)
                number = str(logger.run_id)
                self._upload(client, number, run)
                logger.finalize("success")
                return True
            if before.data.tags.get(FILES) != digest_of(run.contents()):
                self._upload(client, before.info.run_id, run)
            return False

    def _before(self, client: Any, run: Tracked) -> Any:
        """Find a run that was logged wholly; what was not is deleted."""
        experiment = client.get_experiment_by_name(self._experiment)
        if experiment is None:
            return None
        if experiment.lifecycle_stage == "deleted":
            raise DefectlocError(f"{self.place} was deleted; choose another one with logger.experiment=NAME.")
        found = client.search_runs([experiment.experiment_id], f"tags.`{IDENTITY}` = '{run.identity}'")
        for each in found:
            if each.info.status != "FINISHED":
                client.delete_run(each.info.run_id)
        whole = [each for each in found if each.info.status == "FINISHED"]
        return whole[0] if whole else None

    def _upload(self, client: Any, number: str, run: Tracked) -> None:
        for name, path in run.artifacts.items():
            client.log_artifact(number, str(path), name.rpartition("/")[0] or None)
        client.set_tag(number, FILES, digest_of(run.contents()))


def _log_scores(logger: Logger, run: Tracked) -> None:
    """Log the scores by epoch, and those at the end at the last epoch."""
    for epoch, values in run.history:
        logger.log_metrics(values, epoch)
    logger.log_metrics(run.scores, run.history[-1][0] if run.history else 0)


@contextmanager
def _quiet() -> Iterator[None]:
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


def tracker_of(config: LoggerConfig, outputs: Path) -> Tracker | None:
    """Open the tracker of a configuration, None for none; raises DefectlocError where it cannot be used."""
    name, folder = config.name, outputs / FOLDER
    if name in (LoggerName.tensorboard, LoggerName.mlflow) and importlib.util.find_spec(str(name)) is None:
        raise DefectlocError(f"logger={name} needs the package {name}: pip install 'defectloc[{name}]'.")
    if config.uri is not None and name != LoggerName.mlflow:
        raise DefectlocError(f"logger.uri belongs to logger=mlflow, not to logger={name}.")
    if config.experiment != LoggerConfig.experiment and name != LoggerName.mlflow:
        raise DefectlocError(f"logger.experiment belongs to logger=mlflow, not to logger={name}.")
    if name == LoggerName.mlflow:
        return MlflowTracker(folder, config.uri, config.experiment)
    in_files = {LoggerName.csv: CsvTracker, LoggerName.tensorboard: TensorBoardTracker}
    return in_files[name](folder) if name in in_files else None

"""MLflow as a tracker: a server or database, and its address."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pytorch_lightning.loggers import MLFlowLogger

from defectloc.errors import DefectlocError
from defectloc.files import digest_of, lock, make_directory
from defectloc.runs.directory import LOCK
from defectloc.runs.tracking.content import Tracked
from defectloc.runs.tracking.trackers import Tracker, log_scores, quiet

# The tags by which MLflow finds a run again, and tells whether it has its numbers and its files.
IDENTITY, NUMBERS, FILES = "defectloc.identity", "defectloc.numbers", "defectloc.files"
URI_VARIABLE = "MLFLOW_TRACKING_URI"


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
            with quiet():
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
                log_scores(logger, run)
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


def shown(uri: str) -> str:
    """Give an address without name and password."""
    parts = urlsplit(uri)
    return uri.replace(f"{parts.netloc.rpartition('@')[0]}@", "") if "@" in parts.netloc else uri


def folder_beside(uri: str) -> str | None:
    """Give the folder beside an SQLite database for the files of a new experiment of MLflow, as an address.

    None for any other, whose server knows one. MLflow's own choice would be `mlruns` in the working folder.
    """
    if not uri.startswith("sqlite:"):
        return None
    # Late, since it comes with MLflow.
    from sqlalchemy.engine import make_url

    database = make_url(uri).database
    return (Path(database).absolute().parent / "mlflow-artifacts").as_uri() if database else None

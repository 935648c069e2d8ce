"""What a job of a sweep has finished, so that the same job need not be started again."""

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import asdict
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import defectloc
from defectloc.config import FitSettings, TrainSettings
from defectloc.data import catalog as catalogs
from defectloc.data import sources
from defectloc.data.digests import Digests
from defectloc.data.images import is_image_name
from defectloc.files import are_as_written, digest, digest_of, read_json, sealed, write_json
from defectloc.runs.directory import LOCALIZATION, METRICS, RECORD, Run

FINISHED = "finished.json"
# What changes neither a number nor a file of a run's results.
LEFT_OUT = ("outputs", "device", "threads")
PACKAGES = ("numpy", "opencv-python-headless", "pytorch-lightning", "scikit-learn", "scipy", "torch", "torchvision")
# Where it is installed.
OPTIONAL = ("timm",)


def _versions() -> dict[str, str]:
    return {name: version(name) for name in (*PACKAGES, *filter(find_spec, OPTIONAL))}


class Identities:
    """Hashes of all that jobs depend on; equal images are looked at once."""

    def __init__(self) -> None:
        self._code = digest_of([_code(), _versions()])
        self._images: dict[str, str] = {}

    def of(self, settings: TrainSettings) -> str:
        """Hash settings, images, masks, other files that they name, code and libraries of a job.

        Raises DefectlocError where the images are not there or not as they should be.
        """
        key = json.dumps([asdict(settings.data), settings.subset])
        if key not in self._images:
            self._images[key] = _images(settings)
        return digest_of([_kept(settings), self._images[key], _named(settings), self._code])


def inputs_of(settings: FitSettings) -> str:
    """Hash images, masks and other files that settings name, by their bytes.

    Raises DefectlocError where the images are not there or not as they should be.
    """
    return digest_of([_images(settings), _named(settings)])


def noted(folder: Path, settings: TrainSettings, fit: Callable[[TrainSettings], tuple[dict[str, Any], Run]]) -> Any:
    """Run a job of a sweep, and note in its folder that it is finished; returns what the job does."""
    # Before the job: what changes meanwhile makes it unfinished.
    identity = Identities().of(settings)
    metrics, run = fit(settings)
    written = run.folder / LOCALIZATION / metrics["localization"] / METRICS
    files = {str(path.resolve()): digest(path) for path in (run.folder / RECORD, written)}
    write_json(folder / FINISHED, sealed({"identity": identity, "files": files}))
    return metrics, run


def is_finished(folder: Path, identity: str) -> bool:
    """Tell whether a job has been finished, and its results are as it wrote them."""
    found = read_json(folder / FINISHED)
    return found is not None and found.get("identity") == identity and are_as_written(Path(), found.get("files"))


def localization_of(folder: Path) -> Path:
    """Find the localization that a job has made, by the folder of a job that is finished."""
    written = (read_json(folder / FINISHED) or {})["files"]
    return next(Path(name).parent for name in written if Path(name).name == METRICS)


def _kept(settings: FitSettings) -> dict[str, Any]:
    return {name: value for name, value in asdict(settings).items() if name not in LEFT_OUT}


def _named(settings: FitSettings) -> dict[str, str]:
    """Give the SHA-256 of the files that settings name besides images and masks."""
    names = (*_files(_kept(settings)), *_annotations(settings))
    return {path: digest(Path(path).expanduser()) for path in names}


def _images(settings: FitSettings) -> str:
    digests = Digests(Path(settings.outputs).expanduser() / ".digests")
    root, catalog = sources.load(settings.data, settings.subset, digests)
    masks = [root / name for name in catalog["mask_path"] if name is not None]
    return digest_of([catalogs.digest(catalog), [str(path) for path in masks], digests.of(masks)])


def _files(value: Any) -> Iterator[str]:
    """Give the values among nested settings that name a file, such as weights or annotations."""
    if isinstance(value, dict):
        for inner in value.values():
            yield from _files(inner)
    elif isinstance(value, str) and value and Path(value).expanduser().is_file():
        yield value


def _annotations(settings: FitSettings) -> Iterator[str]:
    """Give the files in a folder of annotations, which may be corrected in place; images are looked at elsewhere."""
    if settings.data.annotations and (folder := Path(settings.data.annotations).expanduser()).is_dir():
        yield from (str(path) for path in sorted(folder.rglob("*")) if path.is_file() and not is_image_name(path))


def _code() -> str:
    """Hash the source of this package."""
    folder, found = Path(defectloc.__file__).parent, hashlib.sha256()
    for path in sorted(folder.rglob("*.py")):
        found.update(path.relative_to(folder).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return found.hexdigest()

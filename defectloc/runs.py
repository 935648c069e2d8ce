"""Run directories: their name, what makes one whole, and how one is opened."""

import hashlib
import io
import json
import shutil
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from defectloc.errors import DefectlocError
from defectloc.files import atomic, digest, write_text

FORMAT = 1
MEMORY, FUSION, EVIDENCE = "memory.npz", "fusion.npz", "evidence.csv"
RECORD, CHECKPOINT, CATALOG, PREDICTIONS, HISTORY = (
    "run.json",
    "model.ckpt",
    "catalog.csv",
    "predictions.csv",
    "history.csv",
)


def fingerprint(parts: dict[str, Any]) -> str:
    """Hash all that a fit depends on; equal for the folds of one setting."""
    return hashlib.sha256(json.dumps({"format": FORMAT, **parts}, sort_keys=True).encode()).hexdigest()[:12]


def folder_of(outputs: str, subset: str, fold: int, print_: str) -> Path:
    """Name a run directory: `outputs/<subset>/fold<k>-<fingerprint>`; raises DefectlocError where it would leave."""
    if subset in ("", ".", "..") or "/" in subset or "\\" in subset or subset.startswith("."):
        raise DefectlocError(f"subset={subset} cannot name a folder; use letters, digits, '-' and '_'.")
    return Path(outputs).expanduser() / subset / f"fold{fold}-{print_}"


def maps_name(kind: str) -> str:
    """Name the file of a kind of map; the class activation map has the plain name."""
    return "maps.npz" if kind == "cam" else f"maps.{kind}.npz"


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write JSON atomically; NaN is refused, since what cannot be measured is null."""
    write_text(path, json.dumps(content, indent=2, allow_nan=False) + "\n")


def write_csv(path: Path, table: pd.DataFrame) -> None:
    """Write a table atomically."""
    text = io.StringIO()
    table.to_csv(text, index=False, lineterminator="\n")
    write_text(path, text.getvalue())


def write_maps(path: Path, paths: list[str], maps: np.ndarray, grid: tuple[float, float], key: str = "") -> None:
    """Write maps `(N, h, w)` float32 at grid resolution with the paths they belong to, without pickle.

    `grid` is (stride, offset) of their cells in pixels of the network's input; `key` says what they were made by.
    """
    with atomic(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(
            file,
            paths=np.array(paths, dtype=np.str_),
            maps=maps.astype(np.float32),
            grid=np.array(grid, dtype=np.float64),
            key=np.array(key),
        )


@dataclass(frozen=True)
class Maps:
    """Maps `(h, w)` by path, with (stride, offset) of their cells and what they were made by."""

    cells: dict[str, np.ndarray]
    grid: tuple[float, float]
    key: str


def read_maps(path: Path) -> Maps:
    """Read what `write_maps` wrote; raises DefectlocError where it is not that."""
    try:
        with np.load(path, allow_pickle=False) as content:
            cells = dict(zip(content["paths"].tolist(), content["maps"], strict=True))
            stride, offset = content["grid"].tolist()
            return Maps(cells, (stride, offset), str(content["key"]))
    except (ValueError, KeyError, OSError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise DefectlocError(f"{path} cannot be read as maps.") from error


def forget(folder: Path, kind: str) -> None:
    """Remove a kind of maps and all boxes and scores, since those may rest on it; nothing where there are none yet."""
    if (folder / maps_name(kind)).is_file():
        (folder / "metrics.json").unlink(missing_ok=True)
        shutil.rmtree(folder / "localization", ignore_errors=True)
        (folder / maps_name(kind)).unlink()


def note_seconds(folder: Path, stage: str, seconds: float) -> None:
    """Add the time of a stage to a run's record."""
    _note(folder, "seconds", {stage: round(seconds, 3)})


def note_root(folder: Path, root: Path) -> None:
    """Bring a run's record up to date where its data set was moved; the images are the same, or it were another run."""
    record = json.loads((folder / RECORD).read_text(encoding="utf-8"))
    if record["root"] != str(root):
        write_json(folder / RECORD, record | {"root": str(root)})


def note_digest(folder: Path, name: str) -> None:
    """Add the SHA-256 of a file of the run to its record."""
    _note(folder, "digests", {name: digest(folder / name)})


def note_taught(folder: Path, found: int, still_found: int) -> None:
    """Add how many defective training images the classifier finds, and how many of them by what is unusual alone."""
    _note(folder, "taught", {"found": found, "still_found": still_found})


def _note(folder: Path, key: str, more: dict[str, Any]) -> None:
    record = json.loads((folder / RECORD).read_text(encoding="utf-8"))
    write_json(folder / RECORD, record | {key: record.get(key, {}) | more})


@dataclass(frozen=True)
class Run:
    """A finished run."""

    folder: Path
    record: dict[str, Any]

    @classmethod
    def open(cls, folder: str | Path) -> "Run":
        """Open a run directory; raises DefectlocError where it is none, half-finished or of another version."""
        folder = Path(folder).expanduser()
        if not folder.is_dir():
            raise DefectlocError(f"run={folder} does not exist; 'defectloc summarize' lists the finished runs.")
        path = folder / RECORD
        if not path.is_file():
            raise DefectlocError(f"run={folder} holds no finished fit; start the same 'defectloc train' again.")
        try:
            record = json.loads(path.read_text(encoding="utf-8"))
            version = record["format"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DefectlocError(f"{path} cannot be read as the record of a run.") from error
        if version != FORMAT:
            raise DefectlocError(f"run={folder} has format {version}, this version reads {FORMAT}; fit it again.")
        run = cls(folder, record)
        for name in (CHECKPOINT, CATALOG, PREDICTIONS, maps_name("cam" if run.has_classes else "memory")):
            if not (folder / name).is_file():
                raise DefectlocError(f"run={folder} is half-finished ({name} is missing); start its fit again.")
        return run

    @property
    def has_classes(self) -> bool:
        """Tell whether a classifier was fitted; without a defective training image none is."""
        return bool(self.record["epochs"])

    @property
    def taught(self) -> tuple[int, int]:
        """Give what `note_taught` wrote; runs of before have none."""
        noted = self.record.get("taught", {})
        return noted.get("found", 0), noted.get("still_found", 0)

    def require_classes(self) -> None:
        """Raise DefectlocError where no classifier was fitted."""
        if not self.has_classes:
            raise DefectlocError(
                f"run={self.folder} was fitted without a defective image, so it has no class map and no class score; "
                "use localization.map=memory decision.score=memory."
            )

    def require_whole(self, name: str) -> None:
        """Raise DefectlocError where a file is not what the run wrote; runs of before had no digests."""
        wanted, path = self.record.get("digests", {}).get(name), self.folder / name
        if wanted and path.is_file() and digest(path) != wanted:
            raise DefectlocError(f"{path} is not the file that the run wrote; fit it again.")

    def images(self) -> pd.DataFrame:
        """Give the rows of `predictions.csv` with `mask_path`, `height` and `width` of `catalog.csv`.

        A run with a fusion adds the columns of `evidence.csv`.
        """
        text = {"defect_type": str, "mask_path": str}
        catalog = pd.read_csv(self.folder / CATALOG, dtype=text, keep_default_na=False)
        predictions = pd.read_csv(self.folder / PREDICTIONS, dtype=text, keep_default_na=False)
        for name in ("log_odds", "probability"):
            predictions[name] = pd.to_numeric(predictions[name]).astype(float)
        images = predictions.merge(catalog[["path", "mask_path", "height", "width"]], on="path", how="left")
        evidence = self.folder / EVIDENCE
        # Written before the maps, which alone tell that it is whole and of this memory.
        if not (self.folder / maps_name("fusion")).is_file():
            return images
        return images.merge(pd.read_csv(evidence), on="path", how="left")

    def maps(self, kind: str) -> Maps:
        """Read the maps of one kind; raises DefectlocError for a kind that the run does not have."""
        path = self.folder / maps_name(kind)
        if kind != "memory":
            self.require_classes()
        if not path.is_file():
            raise DefectlocError(
                f"run={self.folder} has no maps of localization.map={kind}; 'defectloc train' with that key makes them."
            )
        return read_maps(path)

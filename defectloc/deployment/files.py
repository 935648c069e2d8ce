"""The folder of an exported model: its files, what `model.json` says, and how both are checked."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from defectloc.data.tiles import Tiling
from defectloc.errors import DefectlocError
from defectloc.files import CHECKSUM, read_json, sealed, write_text
from defectloc.files import digest as digest_of_file
from defectloc.localization.decision import Decision
from defectloc.localization.localizer import Localizer
from defectloc.localization.maps import Grid

FORMAT = 2
ABOUT, RUNNER, TILES_RUNNER, IGNORE_MASK = "model.json", "run_model.py", "run_tiles.py", "ignore_mask.png"
# Of a graph by format; the first is the one to name.
SUFFIXES = {"onnx": (".onnx",), "openvino": (".xml", ".bin")}
# The graphs of photographs seen whole, and in tiles; that of photographs is the last.
WHOLE, IN_TILES = ("model",), ("tile", "photograph")


def model_files(runtime: str, tiling: Tiling | None) -> list[tuple[str, ...]]:
    """Name the files of each graph in the format of a runtime."""
    graphs = WHOLE if tiling is None else IN_TILES
    return [tuple(graph + suffix for suffix in SUFFIXES[runtime]) for graph in graphs]


def is_exported(path: Path) -> bool:
    """Tell whether a path is the folder of an exported model."""
    return (path / ABOUT).is_file()


def write_about(folder: Path, content: dict[str, Any], names: list[str]) -> None:
    """Write `model.json` with the digests of the files that it goes with; last, since it marks the folder as whole."""
    files = {name: digest_of_file(folder / name) for name in names}
    whole = sealed({"format": FORMAT, **content, "files": files})
    write_text(folder / ABOUT, json.dumps(whole, indent=2, allow_nan=False) + "\n")


@dataclass(frozen=True)
class Exported:
    """An exported model as `model.json` describes it, and its graphs: the bytes of the files of each, which fit it.

    `tiling` is that of the memory bank, or None.
    """

    folder: Path
    about: dict[str, Any]
    graphs: tuple[tuple[bytes, ...], ...]
    decision: Decision
    localizer: Localizer
    grid: Grid
    image_size: tuple[int, int]
    scale: tuple[float, float]
    ignore_mask: Path | None
    tiling: Tiling | None

    @property
    def map_tiling(self) -> Tiling | None:
        """Give the tiling of the map; None for a map of whole photographs."""
        return None if self.about["map"] == "cam" else self.tiling

    @classmethod
    def read(cls, folder: Path) -> "Exported":
        """Read and check an exported model; raises DefectlocError for one of another version or changed since."""
        path = folder / ABOUT
        again = "export the run again"
        about = read_json(path)
        if about is None or CHECKSUM not in about or "format" not in about:
            raise DefectlocError(f"{path} was changed since it was exported, or is not of an exported model; {again}.")
        if about["format"] != FORMAT:
            raise DefectlocError(f"{path} has format {about['format']}, this version reads {FORMAT}; {again}.")
        try:
            tiling = None if about["tiling"] is None else Tiling.from_json(about["tiling"])
            named = model_files(about["runtime"], tiling)
            graphs = tuple(tuple(_checked(folder / name, about["files"][name]) for name in names) for names in named)
            ignore_mask = None
            if IGNORE_MASK in about["files"]:
                ignore_mask = folder / IGNORE_MASK
                _checked(ignore_mask, about["files"][IGNORE_MASK])
            return cls(
                folder,
                about,
                graphs,
                Decision.from_json(about["decision"]),
                Localizer.from_json(about["localizer"]),
                Grid(**about["grid"]),
                (int(about["image_size"][0]), int(about["image_size"][1])),
                (float(about["scale"][0]), float(about["scale"][1])),
                ignore_mask,
                tiling,
            )
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise DefectlocError(f"{path} does not describe an exported model ({error!r}); {again}.") from error


def _checked(path: Path, wanted: str) -> bytes:
    """Read a file whose SHA-256 is known; what was read is what was checked."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DefectlocError(f"{path} cannot be read ({error.strerror}); export the run again.") from error
    if hashlib.sha256(content).hexdigest() != wanted:
        raise DefectlocError(
            f"{path} is not the file that {ABOUT} beside it was written for: one of them was changed or swapped; "
            "export the run again."
        )
    return content

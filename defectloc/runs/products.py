"""Map products of a run: `maps/<kind>-<hash8>/` holds maps and what made them, addressed by what it was made from.

`key.json` is written last, so a folder without one is what a killed process has left, and is made again. It names what
the product was made from and the SHA-256 of its files: what was changed since counts as missing.
"""

import json
import shutil
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from defectloc.data.tiles import Size, Tiling
from defectloc.errors import DefectlocError
from defectloc.files import are_as_written, atomic, digest, digest_of, make_directory, read_json, sealed, write_text
from defectloc.localization.maps import Grid, Stack, stack

FOLDER, KEY, MAPS = "maps", "key.json", "maps.npz"
# What a product was made from where photographs were seen in tiles.
TILING = "tiling"


@dataclass(frozen=True)
class Product:
    """A folder of maps; `made_from` is plain content that names settings and code versions."""

    run: Path
    kind: str
    made_from: dict[str, Any]

    @property
    def name(self) -> str:
        """Give the folder's name, `<kind>-<hash8>`."""
        return f"{self.kind}-{digest_of(self.made_from)[:8]}"

    @property
    def folder(self) -> Path:
        """Give the folder."""
        return self.run / FOLDER / self.name

    @property
    def note(self) -> dict[str, Any]:
        """Give what was noted when the product was made; raises DefectlocError where it is not whole."""
        note = self._whole_note()
        if note is None:
            raise DefectlocError(f"{self.folder} is not whole; start the same 'defectloc train' again.")
        return note

    @property
    def is_whole(self) -> bool:
        """Tell whether all files are there as they were written."""
        return self._whole_note() is not None

    def _whole_note(self) -> dict[str, Any] | None:
        note = read_note(self.folder)
        return note if note is not None and note.get("made_from") == self.made_from else None

    @contextmanager
    def making(self) -> Iterator[dict[str, Any]]:
        """Clear the folder for new files; after them the key is written with what was put into the yielded note."""
        shutil.rmtree(self.folder, ignore_errors=True)
        make_directory(self.folder)
        note: dict[str, Any] = {}
        yield note
        files = {path.name: digest(path) for path in sorted(self.folder.iterdir()) if path.is_file()}
        content = {"kind": self.kind, "made_from": self.made_from, "files": files, **note}
        write_text(self.folder / KEY, json.dumps(sealed(content), indent=2, allow_nan=False) + "\n")


def read_note(folder: Path) -> dict[str, Any] | None:
    """Read the key of a product's folder; None where it, or a file that it names, is not as it was written."""
    note = read_json(folder / KEY)
    return note if note is not None and are_as_written(folder, note.get("files")) else None


def products_of(run: Path, kind: str) -> list[Product]:
    """List the whole products of one kind in a run directory."""
    found = []
    for path in sorted((run / FOLDER).glob(f"{kind}-*/{KEY}")):
        note = read_json(path)
        if note is not None and isinstance(note.get("made_from"), dict):
            product = Product(run, kind, note["made_from"])
            if product.folder == path.parent and product.is_whole:
                found.append(product)
    return found


@dataclass(frozen=True)
class Maps:
    """Maps `(h, w)` float32 at grid resolution by image path, where their cells lie, and the product they are of."""

    cells: dict[str, np.ndarray]
    grid: Grid
    product: Product

    @property
    def folder(self) -> Path:
        """Give the product's folder."""
        return self.product.folder

    def input_size(self, size: Size, whole: Size) -> Size:
        """Give the size at which a photograph of `size` native pixels was seen; `whole` where it was not in tiles."""
        tiling = tiling_of(self.product)
        return whole if tiling is None else tiling.input_size(size)


def tiling_of(product: Product) -> Tiling | None:
    """Give the tiling that a product was made with; None where photographs were seen whole."""
    return Tiling.from_json(product.made_from[TILING]) if TILING in product.made_from else None


def bank_folder(product: Product) -> Path:
    """Give the folder of a product's memory bank; that which a fusion was made with lies beside it."""
    return product.folder if product.kind == "memory" else product.folder.with_name(product.made_from["memory"])


def write_maps(path: Path, paths: list[str], maps: Stack, grid: tuple[float, float]) -> None:
    """Write maps at grid resolution, as `packed` has them, with the paths they belong to, without pickle.

    `grid` is (stride, offset) of their cells in pixels of the network's input.
    """
    with atomic(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(
            file,
            paths=np.array(paths, dtype=np.str_),
            **packed(maps),
            grid=np.array(grid, dtype=np.float64),
        )


def packed(maps: Stack) -> dict[str, Any]:
    """Give the arrays that hold maps in a file: `maps (N, h, w)` float32.

    Where they have several shapes, `maps` is one row of their values, and `shapes (N, 2)` tells where each ends.
    """
    if not isinstance(maps, list):
        return {"maps": maps.astype(np.float32)}
    values = np.concatenate([each.ravel() for each in maps]).astype(np.float32)
    return {"maps": values, "shapes": np.array([each.shape for each in maps], dtype=np.int64)}


def read_maps(product: Product) -> Maps:
    """Read the maps of a product; raises DefectlocError where they cannot be read."""
    path = product.folder / MAPS
    try:
        with np.load(path, allow_pickle=False) as content:
            maps = content["maps"]
            if "shapes" in content:
                shapes = content["shapes"].tolist()
                pieces = np.split(maps, np.cumsum([height * width for height, width in shapes])[:-1])
                maps = [piece.reshape(shape) for piece, shape in zip(pieces, shapes, strict=True)]
            cells = dict(zip(content["paths"].tolist(), maps, strict=True))
            stride, offset = content["grid"].tolist()
            return Maps(cells, Grid(stride, offset), product)
    except (ValueError, KeyError, OSError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise DefectlocError(f"{path} cannot be read as maps.") from error


def stacked(maps: Maps, images: pd.DataFrame) -> Stack:
    """Give the maps `(N, h, w)` of a table's images at grid resolution; a list where they have several shapes."""
    return stack(maps.cells[path] for path in images["path"])

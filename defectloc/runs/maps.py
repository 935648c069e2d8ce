"""A run's maps in the images' own pixels, beside their ground truth."""

import hashlib
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from omegaconf import OmegaConf

from defectloc.config import Upsampling
from defectloc.data.digests import Digests
from defectloc.data.images import read_image, sides_of
from defectloc.data.masks import read_defect_mask, read_ignore_mask, read_mask
from defectloc.data.tiles import Tiling
from defectloc.errors import DefectlocError
from defectloc.files import digest_of
from defectloc.localization.guided import REFINED_GRID, guide_of, refined, shrunk
from defectloc.localization.maps import block_maxima, upsample
from defectloc.runs.directory import Run, rows_of
from defectloc.runs.products import Product, tiling_of

# Of a localization: a copy of the ignore mask, so that new images are predicted as those of the run were scored.
IGNORE_MASK = "ignore_mask.png"


class RunMaps:
    """The maps of a run's validation and test images, upsampled when asked for; a row is one of `images`."""

    def __init__(
        self,
        run: Run,
        kind: str,
        root: Path | None = None,
        ignore_mask: str | None = None,
        product: Product | None = None,
        upsampling: Upsampling | None = None,
    ) -> None:
        """`product`: another than `train` was last asked for; `upsampling`: guided, or else bilinear.

        Raises DefectlocError where the ignore mask is gone.
        """
        self.run, self.kind = run, kind
        self.root = root or Path(run.record["root"])
        self.images = run.images()
        maps = run.maps(kind, product)
        self.product, self.cells, self.grid, self._maps = maps.product, maps.cells, maps.grid, maps
        self.ignore_path = ignore_path(self.root, ignore_mask)
        self._ignored: dict[tuple[int, int], np.ndarray] = {}
        self.guided = is_guided(upsampling, tiling_of(maps.product))
        # A photograph is asked for several times in a row.
        self._refined = lru_cache(maxsize=8)(self._made_refined)

    def split(self, name: str) -> pd.DataFrame:
        """Give the rows of 'validation' or 'test'."""
        return rows_of(self.images, name)

    def map(self, row: Any, size: tuple[int, int] | None = None) -> np.ndarray:
        """Give the map `(H, W)` of one row at native resolution, or at `size`; ignored pixels have its minimum."""
        seen = self._maps.input_size((row.height, row.width), self.run.image_size)
        cells, grid = self.cells[row.path], self.grid
        if self.guided:
            cells, grid = self._refined(row.path), REFINED_GRID
        if size is not None and self.guided:
            cells = shrunk(cells, size)
            seen = (cells.shape[0], cells.shape[1])
        elif size is not None:
            cells, grid = block_maxima(cells, size, grid)
        values = upsample(cells, size or (row.height, row.width), seen, grid)
        ignored = self.ignored(row, size)
        return values if ignored is None else np.where(ignored, values.min(), values)

    def _made_refined(self, path: str) -> np.ndarray:
        if path in self._changed:
            raise DefectlocError(
                f"{self.root / path} was changed since run={self.run.folder} was fitted: put it back, or fit it again; "
                "or use localization.upsampling=bilinear, which does not look at photographs."
            )
        guide = guide_of(read_image(self.root / path), sides_of(self.run.image_size))
        return refined(self.cells[path], guide, self.grid)

    @cached_property
    def _changed(self) -> set[str]:
        return set(self.changed(list(self.images["path"])))

    def changed(self, paths: list[str]) -> list[str]:
        """List those of some photographs whose bytes are not those that the run was fitted to.

        Raises DefectlocError for one that is gone.
        """
        catalog = self.run.catalog().set_index("path")["digest"]
        found = Digests(self.run.folder.parent.parent / ".digests").of([self.root / path for path in paths])
        return [path for path, digest in zip(paths, found, strict=True) if catalog[path] != digest]

    def counted(self, row: Any) -> np.ndarray:
        """Give the values `(1, n)` of the cells of one row whose middle is not ignored; of all where none is left."""
        cells, ignored = self.cells[row.path], self.ignored(row)
        if ignored is None:
            return cells.reshape(1, -1)
        seen = self._maps.input_size((row.height, row.width), self.run.image_size)
        rows, columns = (
            np.clip((self.grid.offset + 0.5 + self.grid.stride * np.arange(n)) * size / side, 0, size - 1).astype(int)
            for n, size, side in zip(cells.shape, (row.height, row.width), seen, strict=True)
        )
        kept = cells[~ignored[np.ix_(rows, columns)]]
        return (kept if len(kept) else cells).reshape(1, -1)

    @cached_property
    def n_masks(self) -> int:
        """Count the test images with a mask file."""
        return sum(self._mask_path(row) is not None for row in self.split("test").itertuples())

    def mask(self, row: Any) -> np.ndarray | None:
        """Give the ground truth `(H, W)` of one row at native resolution; None where a defective image has none.

        Raises DefectlocError for a mask of a defective image that marks nothing.
        """
        size = (row.height, row.width)
        if row.label == 0:
            return np.zeros(size, bool)
        path = self._mask_path(row)
        return None if path is None else read_defect_mask(path, size)

    def _mask_path(self, row: Any) -> Path | None:
        path = self.root / row.mask_path if row.mask_path else None
        return path if path is not None and path.is_file() else None

    def ignored(self, row: Any, size: tuple[int, int] | None = None) -> np.ndarray | None:
        """Give the pixels `(H, W)` of one row that count for no score, None where all count."""
        if self.ignore_path is None:
            return None
        photograph = (row.height, row.width)
        size = size or photograph
        if size not in self._ignored:
            self._ignored[size] = read_ignore_mask(self.ignore_path, size, photograph)
        return self._ignored[size]


def is_guided(upsampling: Upsampling | None, tiling: Tiling | None) -> bool:
    """Tell whether maps are refined by their photographs; in tiles they are not, nor in runs before there was that."""
    return upsampling == Upsampling.guided and tiling is None


def ignore_path(root: Path, ignore_mask: str | None) -> Path | None:
    """Find the ignore mask, relative to the data root or absolute; raises DefectlocError where it is not there."""
    if ignore_mask is None:
        return None
    path = root / Path(ignore_mask).expanduser()
    if not path.is_file():
        raise DefectlocError(f"the ignore mask {ignore_mask} does not exist, also not below {root}.")
    return path


def kept_ignore_mask(run: Run) -> Path | None:
    """Find the ignore mask that the run was last post-processed with, as its localization keeps it; None for none.

    Raises DefectlocError where it was not kept.
    """
    folder = run.last_localization()
    if folder is None or not OmegaConf.select(OmegaConf.load(folder / "config.yaml"), "truth.ignore_mask"):
        return None
    if not (folder / IGNORE_MASK).is_file():
        raise DefectlocError(f"{folder} does not hold its ignore mask; start the same 'defectloc train' again.")
    return folder / IGNORE_MASK


def truth_digest(run: Run, root: Path, ignore_mask: str | None, digests: Digests) -> dict[str, str | None]:
    """Identify the ground truth: by bytes the masks of all images of the data set, by its pixels the ignore mask.

    So a localization's copy of an ignore mask is the same as the file itself.
    """
    catalog = run.catalog()
    named = [(path, name) for path, name in zip(catalog["path"], catalog["mask_path"], strict=True) if name]
    named = [(path, name) for path, name in named if (root / name).is_file()]
    ignored = ignore_path(root, ignore_mask)
    contents = digests.of([root / name for _, name in named])
    masks = digest_of([(path, each) for (path, _), each in zip(named, contents, strict=True)])[:12] if named else None
    return {"masks": masks, "ignore_mask": None if ignored is None else _pixel_digest(read_mask(ignored))}


def _pixel_digest(mask: np.ndarray) -> str:
    return digest_of([*mask.shape, hashlib.sha256(np.packbits(mask).tobytes()).hexdigest()])[:12]

"""A run's maps in the images' own pixels, beside their ground truth."""

from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from defectloc.data.images import read_mask
from defectloc.errors import DefectlocError
from defectloc.localization.maps import Grid, upsample
from defectloc.localization.normalization import GoodStatistics, normalize
from defectloc.runs import Run


class RunMaps:
    """The maps of a run's validation and test images, made when asked for; a row is one of `images`."""

    def __init__(self, run: Run, kind: str, root: Path | None = None) -> None:
        self.run, self.kind = run, kind
        self.root = root or Path(run.record["root"])
        self.images = run.images()
        maps = run.maps(kind)
        self.cells, self.grid = maps.cells, Grid(*maps.grid)
        self.image_size = int(run.record["settings"]["data"]["image_size"])
        self._ignore = run.record["settings"]["data"].get("ignore_mask")

    def part(self, name: str) -> pd.DataFrame:
        """Give the rows of 'validation' or 'test'."""
        return self.images[self.images["split"] == name]

    @cached_property
    def good(self) -> GoodStatistics:
        """Statistics of the good validation images."""
        of_good = self.part("validation").query("label == 0")
        return GoodStatistics.from_maps([self.cells[path] for path in of_good["path"]])

    def heat(self, row: Any, size: tuple[int, int] | None = None) -> np.ndarray:
        """Give the map `(H, W)` of one row at native resolution, or at `size`; pixels that do not count are cold."""
        heat = upsample(self.cells[row.path], size or (row.height, row.width), self.image_size, self.grid)
        ignored = self.ignored(row, size)
        return heat if ignored is None else np.where(ignored, heat.min(), heat)

    def normalized(self, row: Any, method: str) -> np.ndarray:
        """Give the normalised map of one row at native resolution."""
        return normalize(self.heat(row), method, good=self.good if method == "good" else None)

    @cached_property
    def n_masks(self) -> int:
        """Count the test images with a mask file."""
        return sum(bool(name) and (self.root / name).is_file() for name in self.part("test")["mask_path"])

    def mask(self, row: Any) -> np.ndarray | None:
        """Give the ground truth of one row at native resolution; None where a defective image has none."""
        size = (row.height, row.width)
        if row.label == 0:
            return np.zeros(size, bool)
        if not row.mask_path or not (self.root / row.mask_path).is_file():
            return None
        mask, ignored = read_mask(self.root / row.mask_path, size), self.ignored(row)
        return mask if ignored is None else mask & ~ignored

    def ignored(self, row: Any, size: tuple[int, int] | None = None) -> np.ndarray | None:
        """Give the pixels of one row that count for no score, None where all count."""
        if self._ignore is None:
            return None
        path = self.root / Path(self._ignore).expanduser()
        if not path.is_file():
            raise DefectlocError(f"data.ignore_mask={self._ignore} does not exist.")
        return read_mask(path, size or (row.height, row.width))

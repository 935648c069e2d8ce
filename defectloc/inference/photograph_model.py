"""What every loaded model does with photographs, wherever its scores and maps are computed."""

import os
import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, TypeAlias, overload

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from defectloc.data.images import read_image, rgb_of_array
from defectloc.data.masks import read_ignore_mask
from defectloc.data.tiles import Tiling
from defectloc.errors import DefectlocError
from defectloc.inference.prediction import UNLIKE, Prediction
from defectloc.localization.boxes import COLUMNS
from defectloc.localization.decision import Decision
from defectloc.localization.guided import REFINED_GRID, Guide, refined
from defectloc.localization.localizer import Localizer
from defectloc.localization.maps import Grid, Stack, upsample

# A file, or an array (H, W) or (H, W, 3) of uint8 or uint16.
Photograph: TypeAlias = str | os.PathLike[str] | NDArray[Any]

BATCH_SIZE = 8
# Native pixels from which maps are made one at a time, since each takes up to 60 bytes a pixel.
LARGE = 2**22
# Factor beyond the training photographs' aspect ratios from which another one changes what a network sees.
MOST_STRETCHED = 1.1


class PhotographModel(ABC):
    """A decision, a localizer, and a way from photographs to scores and maps that a subclass gives.

    Nothing of it changes once it is made, so that several threads may predict with one. `scale` are the values of the
    map without and with full colour; `identity` names all that predictions depend on.
    """

    decision: Decision
    localizer: Localizer
    grid: Grid
    image_size: tuple[int, int]
    scale: tuple[float, float]
    identity: str
    # How the map's network sees a photograph; None: whole, at `image_size`.
    tiling: Tiling | None = None
    # Least and largest width by height of the training photographs; None: unknown, or of no matter.
    aspects: tuple[float, float] | None = None

    def __init__(self, ignore_mask: Path | None) -> None:
        """Heat maps leave out the pixels of the ignore mask."""
        self.ignore_mask = ignore_mask
        # Photographs of one camera have one size.
        self._ignored = lru_cache(maxsize=4)(self._read_ignored)
        self._alone = threading.Lock()

    def distorts(self, image: NDArray[np.uint8]) -> bool:
        """Tell whether an image is narrower or wider than all training photographs, so that its resize distorts it."""
        if self.aspects is None:
            return False
        (low, high), ratio = self.aspects, image.shape[1] / image.shape[0]
        return ratio * MOST_STRETCHED < low or ratio > MOST_STRETCHED * high

    # A text is a sequence of texts as well; the first signature takes it.
    @overload
    def predict(  # type: ignore[overload-overlap]
        self, images: Photograph, batch_size: int = BATCH_SIZE
    ) -> Prediction: ...

    @overload
    def predict(self, images: Sequence[Photograph], batch_size: int = BATCH_SIZE) -> list[Prediction]: ...

    def predict(
        self, images: Photograph | Sequence[Photograph], batch_size: int = BATCH_SIZE
    ) -> Prediction | list[Prediction]:
        """Predict a photograph, or each of a list: files, or arrays `(H, W)` or `(H, W, 3)` of uint8 or uint16.

        Arrays are RGB, of any sizes; 16 bits become 8 as those of files do. Of a list `batch_size` are held at once.
        Raises DefectlocError for a file that cannot be read and for arrays of other shapes and types.
        """
        if isinstance(images, str | os.PathLike | np.ndarray):
            return next(self._batch([_rgb(images)]))
        if not isinstance(images, Sequence):
            raise DefectlocError(f"predict takes a path, a NumPy array or a list of them, not {type(images).__name__}.")
        found: list[Prediction] = []
        for start in range(0, len(images), batch_size):
            found += self._batch([_rgb(image) for image in images[start : start + batch_size]])
        return found

    def _batch(self, images: Sequence[NDArray[np.uint8]]) -> Iterator[Prediction]:
        """Predict images `(H, W, 3)` uint8 of any sizes in one batch."""
        decided, maps, guides = self._decided(images)
        for row, cells, image, guide in zip(decided.itertuples(), maps, images, guides, strict=True):
            size = (image.shape[0], image.shape[1])
            novelty = float(row.novelty) if "novelty" in decided else None
            is_unlike = novelty is not None and novelty > 1
            boxes = pd.DataFrame(columns=COLUMNS)
            native = partial(self._native, cells, size, guide)
            if row.predicted and not is_unlike:
                with self._alone if size[0] * size[1] > LARGE else nullcontext():
                    boxes = self.localizer.boxes(native())
            yield Prediction(
                probability=np.nan if is_unlike else float(row.probability),
                verdict=UNLIKE if is_unlike else str(row.verdict),
                score=float(row.score),
                boxes=boxes,
                predicted=int(row.predicted),
                log_odds=float(row.log_odds),
                novelty=novelty,
                cells=cells,
                size=size,
                _native=native,
            )

    @abstractmethod
    def _decided(self, images: Sequence[NDArray[np.uint8]]) -> tuple[pd.DataFrame, Stack, Sequence[Guide | None]]:
        """Give a row per image, the maps `(N, h, w)`, a list where they have several shapes, and what guides each map.

        The columns: those of `Decision.apply`, `log_odds`, and `novelty` where it is known.
        """

    def _native(self, cells: NDArray[np.float32], size: tuple[int, int], guide: Guide | None) -> NDArray[np.float32]:
        """Give a map `(h, w)` in the pixels of its image; ignored ones have its minimum, as in the run's own maps."""
        seen = self.image_size if self.tiling is None else self.tiling.input_size(size)
        grid = self.grid
        if guide is not None:
            cells, grid = refined(cells, guide, grid), REFINED_GRID
        values = upsample(cells, size, seen, grid)
        return values if self.ignore_mask is None else np.where(self._ignored(size), values.min(), values)

    def _read_ignored(self, size: tuple[int, int]) -> NDArray[np.bool_]:
        assert self.ignore_mask is not None
        return read_ignore_mask(self.ignore_mask, size)


def _rgb(image: Photograph) -> NDArray[np.uint8]:
    return read_image(Path(image)) if isinstance(image, str | os.PathLike) else rgb_of_array(image)

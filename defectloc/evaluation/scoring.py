"""The one loop over maps, masks and boxes: of a run, of maps made elsewhere, and of explanations side by side."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import cv2
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from defectloc.evaluation.box import BoxScores, pointing_game, visible_boxes
from defectloc.evaluation.instance import InstanceScores
from defectloc.evaluation.max_box import MAX_BOX_SIZE, MaxBoxAccV2
from defectloc.evaluation.pimo import PerImageOverlap
from defectloc.evaluation.pixel import PixelScores
from defectloc.localization.maps import finite_map


@dataclass(frozen=True)
class MapSample:
    """One image for scoring; what is None is not known, and left out of the scores that need it.

    `map` `(H, W)` is raw, comparable across images; `mask` `(H, W)` is the whole ground truth, all zeros for a good
    image, with the pixels that count for no score in `ignored` `(H, W)`. `boxes` are predicted, with the columns
    `x0, y0, x1, y1, score`, and `regions` `(H, W)` the pixels that they were made from
    (`instance.predicted_regions`). `true_boxes` `(N, 4)` stand in for a mask where only boxes are known. `small`, the
    map at 224 x 224 for MaxBoxAccV2, is resized from `map` where it is not given.

    A defect, that is an 8-connected component of the whole mask or a true box, counts as one whatever is ignored of it;
    one that is ignored as a whole is left out. An image whose defects are all ignored is neither good nor defective: of
    it only the normal pixels count.
    """

    name: str
    map: NDArray | None = None
    mask: NDArray | None = None
    ignored: NDArray | None = None
    boxes: pd.DataFrame | None = None
    true_boxes: NDArray | None = None
    small: NDArray | None = None
    regions: NDArray | None = None

    @cached_property
    def known_boxes(self) -> NDArray | None:
        """The true boxes `(N, 4)` of what is not wholly ignored, none for a good image; None: not known."""
        if self.mask is not None:
            return visible_boxes(self.mask, self.ignored)
        if self.true_boxes is None or self.ignored is None:
            return self.true_boxes
        return _not_wholly_ignored(self.true_boxes, self.ignored)

    @cached_property
    def is_hidden(self) -> bool:
        """Whether there are defects and all of them are ignored."""
        truth = self.true_boxes if self.mask is None else self.mask
        return truth is not None and bool(np.any(truth)) and self.known_boxes is not None and len(self.known_boxes) == 0

    @property
    def size(self) -> tuple[int, int] | None:
        """Height and width, in pixels."""
        known = self.map if self.mask is None else self.mask
        return None if known is None else (known.shape[0], known.shape[1])


def _not_wholly_ignored(boxes: NDArray, ignored: NDArray) -> NDArray:
    """Leave out the boxes `(N, 4)` of which every pixel, also one only touched, is ignored `(H, W)`."""
    first, last = np.floor(boxes[:, :2]).astype(int), np.ceil(boxes[:, 2:]).astype(int)
    counts = [not np.all(ignored[y0:y1, x0:x1]) for (x0, y0), (x1, y1) in zip(first, last, strict=True)]
    return boxes[np.array(counts, bool)]


class Scores(Protocol):
    """What the loop feeds: it takes samples and gives scores at the end."""

    def add(self, sample: MapSample) -> None:
        """Take one image."""

    def compute(self) -> dict[str, Any]:
        """Return the scores of all images."""


class MapScores:
    """Scores of raw maps, without any threshold: of pixels, AUPIMO, the pointing game and MaxBoxAccV2."""

    def __init__(self) -> None:
        """Start without images."""
        self._pixels, self._overlap, self._best_boxes = PixelScores(), PerImageOverlap(), MaxBoxAccV2()
        self._hits: list[float] = []

    def add(self, sample: MapSample) -> None:
        """Take one image; without a map it is left out."""
        if sample.map is None:
            return
        raw, ignored = finite_map(sample.map), sample.ignored
        if sample.mask is not None:
            self._pixels.add(raw, sample.mask, ignored)
            self._overlap.add(raw, sample.mask, ignored)
        if sample.known_boxes is None or len(sample.known_boxes) == 0:
            return
        # Where nothing counts nothing may be found either.
        shown = raw if ignored is None else np.where(ignored, raw.min(), raw)
        if sample.mask is not None:
            visible = sample.mask if ignored is None else (sample.mask != 0) & (np.asarray(ignored) == 0)
            self._hits.append(pointing_game(shown, visible))
        small = sample.small
        if small is None:
            small = cv2.resize(shown, (MAX_BOX_SIZE, MAX_BOX_SIZE), interpolation=cv2.INTER_LINEAR)
        scale = np.array([small.shape[1] / raw.shape[1], small.shape[0] / raw.shape[0]] * 2)
        self._best_boxes.add(small, sample.known_boxes * scale)

    def compute(self) -> dict[str, Any]:
        """Return the keys of `PixelScores`, `PerImageOverlap` and `MaxBoxAccV2`, and `pointing_game`."""
        return {
            **self._pixels.compute(),
            **self._overlap.compute(),
            "pointing_game": float(np.mean(self._hits)) if self._hits else None,
            **self._best_boxes.compute(),
        }


class LocatedScores:
    """Scores of what a setting found: boxes, and the regions that they were made from."""

    def __init__(self) -> None:
        """Start without images."""
        self._boxes, self._instances = BoxScores(), InstanceScores()

    def add(self, sample: MapSample) -> None:
        """Take one image; without known boxes on both sides it is left out."""
        if sample.boxes is None or sample.known_boxes is None or sample.is_hidden:
            return
        self._boxes.add(sample.name, sample.boxes, sample.known_boxes, sample.size)
        if sample.regions is not None and sample.mask is not None:
            self._instances.add(sample.regions, sample.mask, sample.ignored)

    def compute(self) -> dict[str, Any]:
        """Return the keys of `BoxScores` and `InstanceScores`."""
        return {**self._boxes.compute(), **self._instances.compute()}


def score(samples: Iterable[MapSample], *scores: Scores) -> dict[str, Any]:
    """Pass each image to all the scores, in one pass that holds one image at a time, and return their keys together."""
    for sample in samples:
        for each in scores:
            each.add(sample)
    return {key: value for each in scores for key, value in each.compute().items()}


def score_maps(samples: Iterable[MapSample]) -> dict[str, Any]:
    """Score raw maps against masks: what depends on no threshold; needs neither boxes nor regions."""
    return score(samples, MapScores())


def score_boxes(samples: Iterable[MapSample]) -> dict[str, Any]:
    """Score boxes and regions of a setting against masks; needs no maps."""
    return score(samples, LocatedScores())

"""Samples for scoring from maps made elsewhere and their ground truth."""

from collections.abc import Iterator, Mapping
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from defectloc.config import BoxConfig
from defectloc.data.masks import read_ignore_mask
from defectloc.errors import DefectlocError
from defectloc.evaluation.instance import predicted_regions
from defectloc.evaluation.map_files import Loader
from defectloc.evaluation.scoring import MapSample
from defectloc.evaluation.truth_files import Truth
from defectloc.localization.localizer import Localizer
from defectloc.notes import say_once


def samples_of_maps(
    maps: Mapping[str, Loader], truths: Mapping[str, Truth], config: BoxConfig, ignore_mask: Path | None
) -> Iterator[MapSample]:
    """Give each map, resized bilinearly to its image, with its truth and the boxes that a configuration finds on it.

    A good image without a mask takes the size of the masks where all have one. Under a normalisation per image the
    boxes of a good image are None: every map that is not flat has some, so they mean nothing. Raises DefectlocError for
    files that cannot be read, and for height and width exchanged between a map and its truth.
    """
    sizes = {truth.size for truth in truths.values() if truth.size is not None}
    common = next(iter(sizes)) if len(sizes) == 1 else None
    localizer = Localizer.fixed(config)
    for name, load in maps.items():
        truth, raw = truths[name], load()
        if truth.size is not None and raw.shape == truth.size[::-1] != truth.size:
            raise DefectlocError(
                f"the map {name} is {raw.shape[0]} x {raw.shape[1]}, its truth {truth.size[0]} x {truth.size[1]}: one "
                "was probably made from the photograph before its rotation (EXIF orientation); turn it as well."
            )
        raw = _resized(raw, truth.size or common or raw.shape, name)
        size = (raw.shape[0], raw.shape[1])
        mask = truth.read(size)
        ignored = None if ignore_mask is None else read_ignore_mask(ignore_mask, size)
        shown = raw if ignored is None else np.where(ignored, raw.min(), raw)
        good = not mask.any() if mask is not None else truth.boxes is not None and len(truth.boxes) == 0
        if good and localizer.per_image:
            yield MapSample(name, shown, mask, ignored, true_boxes=truth.boxes)
            continue
        boxes = localizer.boxes(shown)
        regions = predicted_regions(localizer.normalized(shown), localizer.threshold, boxes, localizer.min_area)
        yield MapSample(name, shown, mask, ignored, boxes, truth.boxes, regions=regions)


def _resized(raw: NDArray[np.float32], size: tuple[int, ...], name: str) -> NDArray[np.float32]:
    if raw.shape == tuple(size):
        return raw
    text = f"the map {name} is {raw.shape[0]} x {raw.shape[1]}, its image {size[0]} x {size[1]}"
    say_once("map size", f"{text}; such maps are resized bilinearly.")
    return np.asarray(cv2.resize(raw, (size[1], size[0]), interpolation=cv2.INTER_LINEAR), dtype=np.float32)

"""The test images of a report: their boxes whatever the verdict, and their pictures as text."""

import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from defectloc.data.images import read_image
from defectloc.evaluation.operating_points import BoxedImage
from defectloc.evaluation.scoring import MapSample
from defectloc.figures.embedded import HEAT_MAP_SIDE, heat_map_uri, outline_path, photograph_uri
from defectloc.figures.thumbnails import thumbnail_size
from defectloc.localization.boxes import CORNERS
from defectloc.localization.decision import Decision
from defectloc.localization.localizer import Localizer
from defectloc.progress import images_bar
from defectloc.reporting.run_page import Photograph
from defectloc.runs.maps import RunMaps

# More make a page that no browser scrolls through.
MOST_PHOTOGRAPHS = 600
# Longer side of a photograph in pixels, up to so many photographs.
SIDES = ((150, 640), (300, 448), (MOST_PHOTOGRAPHS, 320))
# Of one image; a map cut far too low breaks into thousands.
MOST_BOXES = 50
WORKERS = 4


def most_wrong_first(test: pd.DataFrame, decision: Decision) -> pd.DataFrame:
    """Order images by how far their score lies on the wrong side of the threshold, then by path."""
    beyond = test["score"] - decision.threshold.score
    wrong = np.where(test["label"] == 1, -beyond, beyond)
    return test.assign(_wrong=-wrong).sort_values(["_wrong", "path"]).drop(columns="_wrong")


def photographs(
    maps: RunMaps, test: pd.DataFrame, localizer: Localizer, scale: tuple[float, float]
) -> tuple[list[BoxedImage], list[Photograph]]:
    """Give the boxes of all images of a table, and the pictures of the first `MOST_PHOTOGRAPHS`, in their order.

    Each image and mask is read and each map made at native size once, a few at a time.
    """
    shown = min(len(test), MOST_PHOTOGRAPHS)
    side = next(side for most, side in SIDES if shown <= most)
    has_masks = bool(maps.n_masks)

    def made(place: int, row: Any) -> tuple[BoxedImage, Photograph | None]:
        boxes = localizer.boxes(maps.map(row))
        mask = maps.mask(row) if has_masks else None
        sample = MapSample(row.path, mask=mask, ignored=maps.ignored(row))
        # As for the scores, an image whose defects are all ignored is neither good nor defective.
        known = None if sample.is_hidden else sample.known_boxes
        boxed = BoxedImage(row.path, float(row.score), boxes, known)
        if place >= shown:
            return boxed, None
        small = maps.map(row, thumbnail_size(row.height, row.width, min(HEAT_MAP_SIDE, max(row.height, row.width))))
        return boxed, Photograph(
            path=row.path,
            width=int(row.width),
            height=int(row.height),
            photograph=photograph_uri(read_image(maps.root / row.path), side),
            heat_map=heat_map_uri(small, scale),
            boxes=_sides(boxes[CORNERS].to_numpy()[:MOST_BOXES]),
            n_boxes=len(boxes),
            outline="" if mask is None or not mask.any() else outline_path(mask),
            peak=float(maps.cells[row.path].max()),
        )

    boxed: list[BoxedImage] = []
    pictures: list[Photograph] = []
    rows = list(test.itertuples())
    if changed := maps.changed(list(test["path"])):
        print(
            f"note: changed since the fit: {len(changed)} of {len(test)} test photographs, such as "
            f"{maps.root / changed[0]}; the report shows them as they are now, with the maps and boxes of before",
            file=sys.stderr,
        )
    with ThreadPoolExecutor(WORKERS) as pool, images_bar("report", len(rows)) as advance:
        for start in range(0, len(rows), WORKERS):
            places: Sequence[int] = range(start, min(start + WORKERS, len(rows)))
            for one, picture in pool.map(made, places, rows[start : start + WORKERS]):
                boxed.append(one)
                pictures += [] if picture is None else [picture]
                advance(1)
    return boxed, pictures


def _sides(corners: NDArray) -> list[tuple[int, int, int, int]]:
    return [(int(x0), int(y0), int(x1 - x0), int(y1 - y0)) for x0, y0, x1, y1 in corners]

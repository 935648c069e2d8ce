"""Box scores of a run by the threshold of its maps."""

import copy
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from defectloc.evaluation.box import BoxScores
from defectloc.figures.thumbnails import thumbnail_size
from defectloc.localization.boxes import CORNERS
from defectloc.localization.localizer import Localizer
from defectloc.runs.maps import RunMaps

# Quantiles and peaks of a map are read at this size: finer than any grid, and quick.
COARSE = (56, 56)
# Longer side, in pixels, of the maps on which the curve of thresholds finds boxes: a tenth of the time of 800 px.
CURVE_SIDE = 256
N_THRESHOLDS = 20
CURVE = ("box_f1_30", "box_f1_50", "box_accuracy_30", "false_boxes_per_good_image")


def threshold_curve(
    maps: RunMaps, test: pd.DataFrame, true_boxes: Mapping[str, NDArray[np.int64]], localizer: Localizer
) -> pd.DataFrame:
    """Score the test images' boxes at 20 thresholds around the one in use: a figure, nothing to choose a threshold by.

    `test` has a run's images with `predicted`, `true_boxes` the boxes `(N, 4)`, in native pixels, of those whose truth
    is known. The thresholds go from the median of the maps to the peak that most images reach: a few may reach a
    hundred times as high. Boxes are found on maps of `CURVE_SIDE` pixels. No rows where no image is predicted
    defective.
    """
    predicted_defective = test[(test["predicted"] == 1) & test["path"].isin(list(true_boxes))]
    if predicted_defective.empty:
        return pd.DataFrame()
    coarse = [localizer.normalized(maps.map(row, COARSE)) for row in predicted_defective.itertuples()]
    low = min(localizer.threshold, *(float(np.median(each)) for each in coarse))
    beyond = localizer.threshold + 0.2 * abs(localizer.threshold)
    high = max(float(np.quantile([each.max() for each in coarse], 0.75)), beyond)
    thresholds = np.linspace(low, high, N_THRESHOLDS + 1)[:-1]
    # What has no boxes scores the same at every threshold.
    without = BoxScores()
    none = pd.DataFrame(columns=[*CORNERS, "score"], dtype=float)
    for row in test[(test["predicted"] != 1) & test["path"].isin(list(true_boxes))].itertuples():
        without.add(row.path, none, true_boxes[row.path])
    scores = [copy.deepcopy(without) for _ in thresholds]
    for row in predicted_defective.itertuples():
        size = curve_size(row.height, row.width)
        values = localizer.normalized(maps.map(row, size))
        # The IoU is the same at every scale.
        true = true_boxes[row.path] * np.tile([size[1] / row.width, size[0] / row.height], 2)
        at_size = _of_normalized(localizer, max(size) / max(row.height, row.width))
        for threshold, collected in zip(thresholds, scores, strict=True):
            collected.add(row.path, replace(at_size, threshold=float(threshold)).boxes(values), true)
    results = [collected.compute() for collected in scores]
    return pd.DataFrame({"threshold": thresholds, **{name: [each[name] for each in results] for name in CURVE}})


def curve_size(height: int, width: int) -> tuple[int, int]:
    """Return (height, width) of the maps on which the curve finds the boxes of an image."""
    return (height, width) if max(height, width) <= CURVE_SIDE else thumbnail_size(height, width, CURVE_SIDE)


def _of_normalized(localizer: Localizer, factor: float) -> Localizer:
    """Give a localizer for maps that it has normalised already, `factor` times the size of the image."""
    area, distance = localizer.min_area * factor**2, localizer.merge_distance * factor
    return replace(localizer, normalization="none", scale=None, min_area=area, merge_distance=distance)

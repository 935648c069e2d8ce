"""Rescale maps, so that one threshold fits all."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from defectloc.errors import DefectlocError
from defectloc.localization.maps import finite_map

METHODS = ("minmax", "max", "ivr", "none", "good")
# Each map by its own values.
PER_IMAGE = ("minmax", "max", "ivr")
IVR_PERCENTILE = 0.4


@dataclass(frozen=True)
class GoodStatistics:
    """Mean and standard deviation of all map values of good validation images, in the map's own unit."""

    mean: float
    sd: float

    @classmethod
    def from_maps(cls, maps: Iterable[ArrayLike]) -> "GoodStatistics":
        """Pool the values of maps `(h, w)` of any sizes; constant maps give sd = 1, that is plain differences.

        Raises DefectlocError without a map and for NaN or infinities.
        """
        values = [finite_map(each).ravel().astype(np.float64) for each in maps]
        if not values:
            raise DefectlocError(
                "localization.normalization=good needs good validation images and there are none: "
                "raise data.validation or take another normalization."
            )
        pooled = np.concatenate(values)
        sd = float(pooled.std()) if np.ptp(pooled) > 0 else 0.0
        return cls(float(pooled.mean()), sd if sd > 0 else 1.0)


def _check_method(method: str) -> None:
    if method not in METHODS:
        raise DefectlocError(f"localization.normalization={method} is unknown: choose one of {', '.join(METHODS)}.")


def normalize(
    values: ArrayLike, method: str, good: GoodStatistics | None = None, percentile: float = IVR_PERCENTILE
) -> NDArray[np.float32]:
    """Normalise one map `(H, W)`; with s its sorted n values:

    - `minmax`: (x - min) / (max - min), in [0, 1];
    - `max`: max(x, 0) / max, in [0, 1];
    - `ivr`: max(x - m, 0) / max(x - m) with m = s[int(n * percentile)] of this very map, in [0, 1] (inferior value
      removal, Kim et al., "Normalization Matters in Weakly Supervised Object Localization", ICCV 2021, in the form of
      its published code; there the percentile is tuned per data set, here it defaults to 0.4);
    - `none`: x, the log-odds;
    - `good`: (x - mean) / sd of good validation maps.

    A map that is flat (`max`: nowhere above 0; `ivr`: nowhere above m) becomes zeros under the first three. These
    (`PER_IMAGE`) stretch the map of a good image as far as that of a defective one, so whether a pixel lies above a
    threshold tells nothing about whether the image is defective, and boxes on good images mean nothing. Only `none` and
    `good` keep maps comparable across images. Raises DefectlocError for an unknown method, `good`
    without statistics, NaN and infinities.
    """
    _check_method(method)
    # In double precision, since the range of a map of large values may not fit a float32.
    array = finite_map(values).astype(np.float64)
    if method == "none":
        return array.astype(np.float32)
    if method == "good":
        if good is None:
            raise DefectlocError(
                "localization.normalization=good needs the statistics of good validation maps: pass GoodStatistics."
            )
        return ((array - good.mean) / good.sd).astype(np.float32)
    floor = 0.0
    if method == "minmax":
        floor = float(array.min())
    elif method == "ivr":
        if not 0 <= percentile < 1:
            raise DefectlocError(f"The percentile of ivr is {percentile}: choose a share from 0 to below 1.")
        rank = int(array.size * percentile)
        floor = float(np.partition(array, rank, axis=None)[rank])
    above = np.maximum(array - floor, 0)
    top = float(above.max())
    return (above / top if top > 0 else np.zeros_like(above)).astype(np.float32)


def threshold_range(method: str) -> tuple[float, float]:
    """Return (lowest, bound) of the thresholds that fit a normalisation: lowest <= threshold < bound, and finite.

    `minmax`, `max` and `ivr` give (0, 1); `none` and `good` (-inf, inf). Raises DefectlocError for an unknown
    method.
    """
    _check_method(method)
    return (0.0, 1.0) if method in PER_IMAGE else (-math.inf, math.inf)


def check_threshold(method: str, threshold: float) -> None:
    """Raise DefectlocError if a map threshold does not fit the normalisation."""
    low, bound = threshold_range(method)
    if not (math.isfinite(threshold) and low <= threshold < bound):
        allowed = "any finite number" if math.isinf(bound) else f"a number from {low:g} to below {bound:g}"
        raise DefectlocError(
            f"localization.threshold={threshold} does not fit localization.normalization={method}: give {allowed}."
        )

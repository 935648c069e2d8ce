"""Rescale maps, so that one threshold fits all."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from defectloc.config import BoxConfig
from defectloc.errors import DefectlocError
from defectloc.localization.maps import Stack, finite_map
from defectloc.localization.scores import top_k_mean

# Each map by its own values.
PER_IMAGE = ("minmax", "max", "ivr")
IVR_PERCENTILE = 0.4
# By validation images.
SCALED = ("good", "classes")
# Fewer defective images give no median to scale by.
FEWEST = 5
# Of standard deviations of good maps, so that 0.55 and 0.7 are about where the memory bank's map is cut.
LEAST = 8.0
# Threshold and least peak of each normalization, where none are given.
CUTS: dict[str, tuple[float, float | None]] = {
    "minmax": (0.8, None),
    "max": (0.8, None),
    "ivr": (0.8, None),
    "none": (2.0, None),
    "good": (4.0, 6.0),
    "classes": (0.55, 0.7),
}
METHODS = tuple(CUTS)


@dataclass(frozen=True)
class Scale:
    """A linear scale of maps, in their own unit: x becomes (x - `zero`) / `unit`."""

    zero: float
    unit: float

    @classmethod
    def of_good(cls, maps: Iterable[ArrayLike], method: str = "good") -> "Scale":
        """Take mean and standard deviation of all values of the maps `(h, w)` of good validation images.

        Constant maps give a unit of 1, that is plain differences. Raises DefectlocError without a map and for NaN or
        infinities.
        """
        pooled = _pooled(maps, method)
        sd = float(pooled.std()) if np.ptp(pooled) > 0 else 0.0
        return cls(float(pooled.mean()), sd if sd > 0 else 1.0)

    @classmethod
    def of_classes(cls, good: Iterable[ArrayLike], defective: Stack) -> tuple["Scale", str]:
        """Put the mean of the maps `(h, w)` of good validation images at 0, the median score of defective ones at 1.

        The score of an image is its map's top-k mean. With fewer than `FEWEST` defective images, or where they do not
        stand out, 1 lies `LEAST` standard deviations of good maps above 0; the sentence that is returned beside the
        scale says so, and is empty otherwise. Raises DefectlocError as `of_good`.
        """
        of_good, n = cls.of_good(good, "classes"), len(defective)
        least = LEAST * of_good.unit
        instead = f"on the map's scale 1 is {LEAST:g} standard deviations of good validation maps above their mean."
        if n < FEWEST:
            images = "image" if n == 1 else "images"
            few = f"The validation split has {n} defective {images}, and {FEWEST} are needed to scale the map by"
            return cls(of_good.zero, least), f"{few}; {instead}"
        unit = float(np.median(top_k_mean([finite_map(each) for each in defective]))) - of_good.zero
        if unit < least:
            return cls(of_good.zero, least), f"Defective validation images hardly stand out on the map; {instead}"
        return cls(of_good.zero, unit), ""


def _pooled(maps: Iterable[ArrayLike], method: str) -> NDArray[np.float64]:
    values = [finite_map(each).ravel().astype(np.float64) for each in maps]
    if not values:
        raise DefectlocError(
            f"localization.normalization={method} needs good validation images and there are none: "
            "raise data.validation or take another normalization."
        )
    return np.concatenate(values)


def _check_method(method: str) -> None:
    if method not in METHODS:
        raise DefectlocError(f"localization.normalization={method} is unknown: choose one of {', '.join(METHODS)}.")


def normalize(
    values: ArrayLike, method: str, scale: Scale | None = None, percentile: float = IVR_PERCENTILE
) -> NDArray[np.float32]:
    """Normalise one map `(H, W)`; with s its sorted n values:

    - `minmax`: (x - min) / (max - min), in [0, 1];
    - `max`: max(x, 0) / max, in [0, 1];
    - `ivr`: max(x - m, 0) / max(x - m) with m = s[int(n * percentile)] of this very map, in [0, 1] (inferior value
      removal, Kim et al., "Normalization Matters in Weakly Supervised Object Localization", ICCV 2021, in the form of
      its published code; there the percentile is tuned per data set, here it defaults to 0.4);
    - `none`: x, the log-odds;
    - `good`: standard deviations of good validation maps from their mean (`Scale.of_good`);
    - `classes`: 0 at the mean of good validation maps, 1 at the median score of defective ones (`Scale.of_classes`).

    A map that is flat (`max`: nowhere above 0; `ivr`: nowhere above m) becomes zeros under the first three. These
    (`PER_IMAGE`) stretch the map of a good image as far as that of a defective one, so whether a pixel lies above a
    threshold tells nothing about whether the image is defective, and boxes on good images mean nothing. The others
    keep maps comparable across images. Raises DefectlocError for an unknown method, a missing scale, NaN and
    infinities.
    """
    _check_method(method)
    # In double precision, since the range of a map of large values may not fit a float32.
    array = finite_map(values).astype(np.float64)
    if method == "none":
        return array.astype(np.float32)
    if method in SCALED:
        if scale is None:
            raise DefectlocError(f"localization.normalization={method} needs the scale of validation maps: pass one.")
        return ((array - scale.zero) / scale.unit).astype(np.float32)
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


def cut_of(config: BoxConfig) -> tuple[float, float | None]:
    """Give threshold and least peak, those of the normalization where none are given."""
    threshold, peak = CUTS[str(config.normalization)]
    return (
        threshold if config.threshold is None else config.threshold,
        peak if config.min_peak is None else config.min_peak,
    )


def threshold_range(method: str) -> tuple[float, float]:
    """Return (lowest, bound) of the thresholds that fit a normalisation: lowest <= threshold < bound, and finite.

    `minmax`, `max` and `ivr` give (0, 1); the others (-inf, inf). Raises DefectlocError for an unknown
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

"""From a raw map at native resolution to boxes."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from defectloc.config import BoxConfig, LocalizationConfig
from defectloc.errors import DefectlocError
from defectloc.localization import map_thresholds
from defectloc.localization.boxes import find_boxes
from defectloc.localization.normalization import PER_IMAGE, Scale, cut_of, normalize
from defectloc.localization.thresholds import Chosen, NoThresholdError, by_balanced_accuracy


@dataclass(frozen=True, eq=False)
class ValidationMap:
    """A raw map `(H, W)` at native resolution, its label 0/1, and its mask and ignored pixels `(H, W)` where known."""

    map: NDArray
    label: int
    mask: NDArray | None = None
    ignored: NDArray | None = None


@dataclass(frozen=True)
class Localizer:
    """All between a raw map and its boxes: normalisation, threshold and how boxes are made (`find_boxes`).

    Where `per_image` is true every map that is not flat reaches 1, that of a good image as well, so boxes mean
    something only on images that are known or predicted to be defective.
    """

    normalization: str
    threshold: float
    threshold_from: str
    mode: str
    min_area: float = 0
    min_peak: float | None = None
    max_boxes: int | None = None
    merge_distance: float = 0
    scale: Scale | None = None
    scale_from: str = ""
    fallback: bool = False

    @classmethod
    def fixed(cls, config: BoxConfig) -> "Localizer":
        """Take all from the configuration, without a validation split."""
        threshold, peak = cut_of(config)
        return cls(
            normalization=str(config.normalization),
            threshold=float(threshold),
            threshold_from="Fixed.",
            mode=str(config.boxes),
            min_area=config.min_area,
            min_peak=peak,
            max_boxes=config.max_boxes,
            merge_distance=config.merge_distance,
        )

    @classmethod
    def fit(
        cls,
        config: LocalizationConfig,
        validation: Callable[[], Iterable[ValidationMap]] = tuple,
        cells: Callable[[int], Iterable[NDArray]] = lambda label: (),
    ) -> "Localizer":
        """Take the scale of validation maps and choose the threshold, as far as the configuration asks for either.

        `validation` is called at most once and its maps are held one at a time; `cells` gives the maps `(h, w)` of
        validation images of a label 0/1 at grid resolution, for normalization=good and classes. Raises DefectlocError
        where that needs good images and there are none, and for NaN and infinities.
        """
        scale, scale_from = _scale(str(config.normalization), cells)
        scaled = replace(cls.fixed(config), scale=scale, scale_from=scale_from)
        if config.threshold_from == "fixed":
            return scaled

        def normalized() -> Iterator[ValidationMap]:
            for each in validation():
                yield ValidationMap(scaled.normalized(each.map), each.label, each.mask, each.ignored)

        try:
            chosen = _choose(config, normalized)
        except NoThresholdError as error:
            sentence = f"{error}; localization.threshold={scaled.threshold:g} is used instead."
            return replace(scaled, threshold_from=sentence, fallback=True)
        return replace(scaled, threshold=float(chosen.value), threshold_from=chosen.sentence)

    @property
    def per_image(self) -> bool:
        """Whether each map is normalised by its own values, so that maps of different images do not compare."""
        return self.normalization in PER_IMAGE

    @property
    def messages(self) -> list[str]:
        """What could not be fitted, as sentences to print."""
        return [sentence for sentence in (self.scale_from, self.threshold_from if self.fallback else "") if sentence]

    def normalized(self, values: ArrayLike) -> NDArray[np.float32]:
        """Return a raw map `(H, W)` on the scale of the threshold."""
        return normalize(values, self.normalization, self.scale)

    def boxes(self, values: ArrayLike) -> pd.DataFrame:
        """Return the boxes of a raw map `(H, W)`: `x0, y0, x1, y1, score, score_mean`, scores as normalised."""
        return find_boxes(
            self.normalized(values),
            self.threshold,
            self.mode,
            min_area=self.min_area,
            min_peak=self.min_peak,
            max_boxes=self.max_boxes,
            merge_distance=self.merge_distance,
        )

    def to_json(self) -> dict[str, Any]:
        """Return all that `from_json` needs, as plain numbers, strings and dicts."""
        return asdict(self)

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> "Localizer":
        """Rebuild a Localizer from `to_json`; raises DefectlocError for anything else."""
        try:
            scale = None if content["scale"] is None else Scale(**content["scale"])
            return cls(**content | {"scale": scale})
        except (KeyError, TypeError) as error:
            raise DefectlocError(f"This is no localizer of a run ({error}): localise the run again.") from error


def _scale(method: str, cells: Callable[[int], Iterable[NDArray]]) -> tuple[Scale | None, str]:
    """Give the scale that a normalisation asks for, and the sentence that says why it is not the data's own."""
    if method == "good":
        return Scale.of_good(cells(0)), ""
    if method != "classes":
        return None, ""
    return Scale.of_classes(cells(0), list(cells(1)))


def _choose(config: LocalizationConfig, maps: Callable[[], Iterator[ValidationMap]]) -> Chosen:
    if config.threshold_from == "good_quantile":
        good = ((each.map, each.ignored) for each in maps() if each.label == 0)
        return map_thresholds.good_quantile(good, config.quantile)
    if config.use_masks:
        return map_thresholds.from_masks(_masked(maps()))
    # An image is predicted defective where any pixel is: only the maxima are needed.
    maxima = [(each.label, float(each.map.max())) for each in maps()]
    return by_balanced_accuracy([label for label, _ in maxima], [highest for _, highest in maxima])


def _masked(maps: Iterable[ValidationMap]) -> Iterator[tuple[NDArray, NDArray, NDArray | None]]:
    """Give map, mask and ignored pixels of the images whose mask is known; a good image without one has no defect."""
    for each in maps:
        mask = np.zeros(each.map.shape, bool) if each.mask is None and each.label == 0 else each.mask
        if mask is not None:
            yield each.map, mask, each.ignored

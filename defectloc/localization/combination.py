"""The patch head's log-odds and the memory bank's distances as one map, weighted by what training images show."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.metrics import roc_auc_score

from defectloc.errors import DefectlocError
from defectloc.localization.maps import Stack, mapped, stack
from defectloc.localization.scores import top_k_mean

# Weights of the log-odds and of the distances (see `_saturated`), and how far each choice is from the one that few
# defective images leave, in powers of two.
CHOICES = ((1.0, 0.0, 2), (1.0, 0.25, 1), (1.0, 0.5, 0), (1.0, 1.0, 1), (1.0, 2.0, 2), (0.0, 1.0, 4))
# Standard deviations that a distance saturates at: beyond some, a larger one says nothing more about where the defect
# ends, and its surroundings would pass for worse than a small defect (docs/experiments/patch_head.md).
SATURATION = 10.0
# Without anything to choose by.
EVEN = (1.0, 1.0)
# Of fewer defective images a choice is chance.
FEWEST = 5
# What a power of two must gain in image AUROC, over the number of defective images that show it.
PRIOR = 0.1
TOO_LITTLE = "Patch head and memory bank count alike: there are too few defective images to choose by."


@dataclass(frozen=True)
class Combination:
    """Weights of a patch head's log-odds and of a memory bank's distances, whose `mean` and `sd` good images gave.

    Labels alone do not know the defects that they do not show, and the bank knows nothing about parts that never
    repeat. Which counts how far is decided on training images that neither has learned from, so that few labels leave
    the even weights, and many choose by image AUROC (stacking, as in Wolpert, "Stacked generalization", Neural Networks
    1992).
    """

    head_weight: float
    bank_weight: float
    mean: float
    sd: float
    message: str
    saturation: float = SATURATION

    @classmethod
    def fit(
        cls,
        scale: tuple[float, float],
        labels: ArrayLike | None = None,
        folds: ArrayLike | None = None,
        log_odds: Stack | None = None,
        distances: Stack | None = None,
    ) -> "Combination":
        """Choose the weights on training images `(N,)` with labels, in folds, by maps `(N, h, w)` made without them.

        `scale` is (mean, sd) of the distances on good validation images. An image's `log_odds` and `distances` are by a
        head and by a bank that left its fold out. Without images, with fewer than `FEWEST` defective ones, or where no
        fold holds both classes, the weights are even. Raises DefectlocError for maps that are not finite or of unequal
        shapes.
        """
        mean, sd = float(scale[0]), float(scale[1]) or 1.0
        head, bank = EVEN
        if labels is None or folds is None or log_odds is None or distances is None:
            return cls(head, bank, mean, sd, TOO_LITTLE)
        truth, part = np.asarray(labels) == 1, np.asarray(folds)
        first = _maps(log_odds)
        second = mapped(lambda values: _saturated(values, mean, sd, SATURATION), _maps(distances))
        shapes = [[each.shape for each in maps] for maps in (first, second)]
        if shapes[0] != shapes[1] or len(first) != len(truth) or len(part) != len(truth):
            raise DefectlocError(
                f"log-odds of shape {_shape(first)} and distances of shape {_shape(second)} do not belong to "
                f"{len(truth)} labels in {len(part)} folds."
            )
        usable = [fold for fold in np.unique(part) if 0 < truth[part == fold].sum() < (part == fold).sum()]
        if not usable or truth.sum() < FEWEST:
            return cls(head, bank, mean, sd, TOO_LITTLE)
        gains = []
        for a, b, far in CHOICES:
            # One after the other, since all together are those of whole photographs.
            pairs = zip(first, second, strict=True)
            scores = top_k_mean(stack(a * of_head + b * of_bank for of_head, of_bank in pairs))
            within = [roc_auc_score(truth[part == fold], scores[part == fold]) for fold in usable]
            gains.append(float(np.mean(within)) - PRIOR * far / int(truth.sum()))
        head, bank, _ = CHOICES[int(np.argmax(gains))]
        message = (
            f"Log-odds of the patch head x {head:g} + saturated distances of the memory bank x {bank:g}, by image "
            f"AUROC on {len(truth)} training images left out in turn, {int(truth.sum())} of them defective."
        )
        return cls(head, bank, mean, sd, message)

    def apply(self, log_odds: NDArray, distances: NDArray) -> NDArray[np.float32]:
        """Return the combined maps `(N, h, w)` of a head's log-odds and a bank's distances, each `(N, h, w)`."""
        bank = _saturated(_maps(distances), self.mean, self.sd, self.saturation)
        return (self.head_weight * _maps(log_odds) + self.bank_weight * bank).astype(np.float32)

    def to_json(self) -> dict[str, Any]:
        """Return all fields as plain values."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> "Combination":
        """Make the combination of `to_json`; raises DefectlocError where it is not that."""
        try:
            head, bank, mean, sd = (float(values[name]) for name in ("head_weight", "bank_weight", "mean", "sd"))
            return cls(head, bank, mean, sd, str(values["message"]), float(values["saturation"]))
        except (KeyError, TypeError, ValueError) as error:
            raise DefectlocError(
                f"this is no combination of patch head and memory bank ({error!r}); start the same 'defectloc train' "
                "again."
            ) from error


def _saturated(distances: NDArray, mean: float, sd: float, limit: float) -> NDArray:
    """Standardise distances of any shape, and let them approach the limit."""
    return limit * np.tanh((distances - mean) / (sd * limit))


def _shape(maps: Stack) -> object:
    return "several" if isinstance(maps, list) else maps.shape


def _maps(values: Stack) -> Any:
    if isinstance(values, list):
        return [_maps(each[None])[0] for each in values]
    maps = np.asarray(values, dtype=np.float64)
    if maps.ndim != 3 or not np.isfinite(maps).all():
        raise DefectlocError(f"maps must be finite and of shape (N, h, w), not {maps.shape}.")
    return maps

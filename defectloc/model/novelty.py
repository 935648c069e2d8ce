"""How far a photograph is from all that a memory bank's run was trained on: another part or camera, a covered lens.

A defect is local; what is unlike the training photographs is so almost everywhere. So each photograph is described by
its mean patch alone, and its novelty is the distance to the nearest training photograph, good or defective.
"""

import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from defectloc.errors import DefectlocError
from defectloc.files import atomic

# Levels of a trunk `(n, C_i, h_i, w_i)`.
Arrays = Sequence[np.ndarray]

# Beyond so many median distances of validation images, and so many of their largest distance, an image is unlike the
# training photographs. The second keeps sets whose photographs differ much from being marked.
LIMIT, LIMIT_OF_LARGEST = 1.5, 1.1
# Share of a channel's mean below which values differ on a linear scale, above it on a logarithmic one; and the least
# such mean, for channels that are silent on good parts.
LINEAR, SMALLEST = 0.01, 1e-3
# A channel that hardly varies among good images must not decide: its standard deviation is raised to this share of the
# median one, and no channel counts for more than so many standard deviations, which a defect may well reach in some.
LEAST_SD, MOST_SDS = 0.1, 10.0
# Training photographs that are kept, evenly chosen; they take 6 MB.
MOST_KEPT = 2048
NAMES = ("unit", "mean", "sd", "known", "limit")


class Novelty:
    """Distances of mean patches to the nearest training photograph, as shares of a limit: above 1 one is unlike them.

    Channels are compared on a logarithmic scale, since light and contrast multiply them, and in standard deviations of
    good training images.
    """

    def __init__(self, unit: NDArray, mean: NDArray, sd: NDArray, known: NDArray, limit: NDArray) -> None:
        """`unit`, `mean` and `sd` `(C,)` of the channels' scale, `known` `(N, C)` on that scale, and the limit `()`."""
        self.unit, self.mean, self.sd, self.known, self.limit = unit, mean, sd, known, limit

    @classmethod
    def fit(cls, good: NDArray, training: NDArray, validation: NDArray) -> "Novelty":
        """Keep the training photographs, and set the limit by the distances of the validation split.

        All are `mean_patches` `(n, C)`: of good training images, of all training images, and of validation images.
        """
        unit = LINEAR * np.maximum(np.abs(good).mean(0), SMALLEST)
        scaled = np.arcsinh(good / unit)
        sd = scaled.std(0)
        sd = np.maximum(sd, max(LEAST_SD * float(np.median(sd)), 1e-6))
        empty, one = np.zeros((0, good.shape[1]), np.float32), np.ones(())
        scale = cls(unit, scaled.mean(0), sd, empty, one)
        kept = np.unique(np.linspace(0, len(training) - 1, min(len(training), MOST_KEPT)).round().astype(np.intp))
        novelty = cls(unit, scale.mean, sd, scale.scaled(training[kept]), one)
        distances = novelty.of_means(validation)
        # A single training photograph may be the validation split's as well.
        limit = max(LIMIT * float(np.median(distances)), LIMIT_OF_LARGEST * float(distances.max()), 1e-6)
        return cls(unit, scale.mean, sd, novelty.known, np.array(limit))

    def scaled(self, means: NDArray) -> NDArray[np.float32]:
        """Give mean patches `(n, C)` on the scale on which they are compared."""
        deviations = (np.arcsinh(means / self.unit) - self.mean) / self.sd
        return np.clip(deviations, -MOST_SDS, MOST_SDS).astype(np.float32)

    def of_means(self, means: NDArray) -> NDArray[np.float64]:
        """Give the novelty `(n,)` of images by their mean patches `(n, C)`."""
        found = [np.sqrt(np.square(self.known - each).mean(1, dtype=np.float64).min()) for each in self.scaled(means)]
        return np.array(found) / self.limit

    def __call__(self, levels: Arrays) -> NDArray[np.float64]:
        """Give the novelty `(n,)` of images by the memory bank's levels `(n, C_i, h_i, w_i)`."""
        return self.of_means(mean_patches(levels))

    def save(self, path: Path) -> None:
        """Write the arrays without pickle."""
        with atomic(path) as temporary, temporary.open("wb") as file:
            np.savez(file, **{name: getattr(self, name) for name in NAMES})

    @classmethod
    def load(cls, path: Path) -> "Novelty":
        """Read what `save` wrote; raises DefectlocError where it is not that."""
        try:
            with np.load(path, allow_pickle=False) as content:
                return cls(*(content[name] for name in NAMES))
        except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile) as error:
            raise DefectlocError(f"{path} cannot be read as training photographs; fit the bank again.") from error


def mean_patches(levels: Arrays) -> NDArray[np.float64]:
    """Give the mean over each image `(n, C)` of levels `(n, C_i, h_i, w_i)`, side by side."""
    return np.concatenate([level.mean((2, 3), dtype=np.float64) for level in levels], 1)

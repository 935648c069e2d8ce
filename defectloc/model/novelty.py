"""How far a photograph is from all that a memory bank was made of: another part, another camera, a covered lens.

A defect is local; what is unlike the training photographs is so almost everywhere. Two measures see it. The *shift* is
the root mean square, over the channels, of the image's mean patch in standard deviations of good training images; it
also sees a plain black picture, whose patches may all lie in the bank of a part on a black ground. The *remoteness* is
the distance to the bank that most patches exceed (a low quantile of the map); it also sees what only on average looks
like the parts.
"""

import zipfile
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from defectloc.errors import DefectlocError
from defectloc.files import atomic
from defectloc.model.memory_bank import Arrays, MemoryBank

# Share of the patches at or below the remoteness.
QUANTILE = 0.25
# In standard deviations of patches: a channel whose mean varies less among good images would weigh rounding.
SMALLEST_SD = 0.05
# Robust standard deviations of known images, on a logarithmic scale, between their median and the limit; and the least
# of such a standard deviation, since few images may happen to be alike.
WIDTH, LEAST_SPREAD = 6.0, 0.1
# What reads a file's arrays back.
NAMES = ("bank_mean", "bank_sd", "mean", "sd", "limits")


class Novelty:
    """Both measures of an image as shares of their limits, of which the larger counts: above 1 it is unlike them."""

    def __init__(self, bank_mean: NDArray, bank_sd: NDArray, mean: NDArray, sd: NDArray, limits: NDArray) -> None:
        """Of C channels: mean and sd of good training patches, and of the means of good training images; two limits."""
        self.bank_mean, self.bank_sd, self.mean, self.sd, self.limits = bank_mean, bank_sd, mean, sd, limits

    @classmethod
    def fit(cls, bank: MemoryBank, good: NDArray, known: NDArray, distances: NDArray) -> "Novelty":
        """Take the moments of good training images and set the limits by known images that the bank was not made of.

        `good` `(M, C)` are `mean_patches` of good training images; `known` `(N, C)` and `distances` `(N, h, w)` those
        of the validation split, good or defective. The limit of a measure lies `WIDTH` robust standard deviations above
        the median of their logarithms.
        """
        bank_mean, bank_sd = (values.cpu().numpy().astype(np.float64) for values in (bank.mean, bank.sd))
        standardized = (good - bank_mean) / bank_sd
        sd = np.maximum(standardized.std(0), SMALLEST_SD)
        novelty = cls(bank_mean, bank_sd, standardized.mean(0), sd, np.ones(2))
        measures = novelty.measures(known, distances)
        return cls(bank_mean, bank_sd, novelty.mean, sd, np.array([_limit(each) for each in measures.T]))

    def measures(self, means: NDArray, distances: NDArray) -> NDArray[np.float64]:
        """Give shift and remoteness `(N, 2)` of images by their `mean_patches` `(N, C)` and distances `(N, h, w)`."""
        deviations = ((means - self.bank_mean) / self.bank_sd - self.mean) / self.sd
        shift = np.sqrt(np.square(deviations).mean(1))
        remoteness = np.quantile(distances.reshape(len(distances), -1), QUANTILE, axis=1)
        return np.stack([shift, remoteness], 1)

    def __call__(self, levels: Arrays, distances: NDArray) -> NDArray[np.float64]:
        """Give the novelty `(N,)` of images by the bank's levels `(N, C_i, h_i, w_i)` and distances `(N, h, w)`."""
        return (self.measures(mean_patches(levels), distances) / self.limits).max(1)

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
            raise DefectlocError(f"{path} cannot be read as limits of a memory bank; fit it again.") from error


def mean_patches(levels: Arrays) -> NDArray[np.float64]:
    """Give the mean over each image `(N, C)` of levels `(N, C_i, h_i, w_i)`, side by side."""
    return np.concatenate([level.mean((2, 3), dtype=np.float64) for level in levels], 1)


def _limit(values: ArrayLike) -> float:
    logarithms = np.log(np.maximum(np.asarray(values), 1e-12))
    middle = np.median(logarithms)
    spread = 1.4826 * np.median(np.abs(logarithms - middle))
    return float(np.exp(middle + WIDTH * max(spread, LEAST_SPREAD)))

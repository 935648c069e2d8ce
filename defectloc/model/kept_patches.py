"""The patches of training images that a patch head learns from, at half precision and of bounded size."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

# Standard deviations of good patches beyond which a feature says no more.
CLAMP = 8.0
# The label of a patch of which nothing is known.
UNKNOWN = -2


@dataclass(frozen=True)
class KeptPatches:
    """Patches `(n, P, C)` at half precision, and which members `(M, n)` may learn from each image."""

    patches: torch.Tensor
    allowed: torch.Tensor

    # Distances `(n, P)` in standard deviations, where they label the patches.
    distances: torch.Tensor | None = None
    # Labels `(n, P)` that a person has given, `UNKNOWN` where none.
    known: torch.Tensor | None = None

    def draw(self, values: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """Draw images for each member, with replacement, into `values` `(M, count, P, C)`; any where it has none.

        Returns their numbers `(M, count)`.
        """
        weights = self.allowed.float()
        weights[weights.sum(1) == 0] = 1.0
        drawn = torch.multinomial(weights, values.shape[1], replacement=True, generator=generator)
        # One copy an image into memory that is there: gathering at half precision first takes ten times as long.
        for row, numbers in zip(values, drawn.tolist(), strict=True):
            for place, number in zip(row, numbers, strict=True):
                place.copy_(self.patches[number])
        return drawn


def drawn_images(truth: NDArray[np.bool_], seed: int, room: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Draw as many good and defective images `(N,)` as there is `room` for, at least one good one; sorted numbers.

    At least half of the room is for the good ones where there are so many.
    """
    rng, room = np.random.default_rng(seed), max(2, room)
    good, defective = (rng.permutation(np.flatnonzero(truth == label)) for label in (False, True))
    n_defective = min(len(defective), max(room // 2, room - len(good)))
    return np.sort(good[: max(1, room - n_defective)]), np.sort(defective[:n_defective])

"""The patches of training images that a patch head learns from, at half precision and of bounded size."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

# Standard deviations of good patches beyond which a feature says no more.
CLAMP = 8.0
# The label of a patch of which nothing is known.
UNKNOWN = -2
# Images at a time, where they are read or labelled.
READ = 8


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


def read(
    patches: Callable[[NDArray[np.intp]], torch.Tensor],
    truth: NDArray[np.bool_],
    members: NDArray[np.bool_],
    seed: int,
    device: str,
    budget: int,
    distances: NDArray | list[NDArray] | None,
    known: NDArray[np.int8] | list[NDArray] | None = None,
) -> tuple[KeptPatches, KeptPatches | None]:
    """Read good and defective images (None without one) as far as the `budget` in bytes holds.

    Of N images `truth` `(N,)` tells which are defective, `members` `(M, N)` which of M members may learn from each.
    `distances` `(N, h, w)` are in standard deviations, `known` `(N, h, w)` labels by a person: 1 a defect, 0 none, -1
    neither, `UNKNOWN` otherwise. `patches` gives standardised patches `(n, h, w, C)` of images by their numbers `(n,)`.
    Where the budget holds fewer images, they are drawn by `seed` (see `drawn_images`).
    """
    good, _ = drawn_images(truth, seed, 2)
    first = _half(patches(good[:1]), device)
    kept = []
    for numbers in drawn_images(truth, seed, budget // (2 * first[0].numel())):
        store = torch.empty((len(numbers), *first.shape[1:]), dtype=torch.float16, device=device)
        for start in range(0, len(numbers), READ):
            store[start : start + READ] = _half(patches(numbers[start : start + READ]), device)
        kept_distances = (
            None
            if distances is None
            else torch.from_numpy(np.asarray(distances)[numbers]).float().flatten(1).to(device)
        )
        given = None if known is None else torch.from_numpy(np.asarray(known)[numbers]).flatten(1).to(device)
        kept.append(KeptPatches(store, torch.from_numpy(members[:, numbers]).to(device), kept_distances, given))
    return kept[0], kept[1] if len(kept[1].patches) else None


def drawn_images(truth: NDArray[np.bool_], seed: int, room: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Draw as many good and defective images `(N,)` as there is `room` for, at least one good one; sorted numbers.

    At least half of the room is for the good ones where there are so many.
    """
    rng, room = np.random.default_rng(seed), max(2, room)
    good, defective = (rng.permutation(np.flatnonzero(truth == label)) for label in (False, True))
    n_defective = min(len(defective), max(room // 2, room - len(good)))
    return np.sort(good[: max(1, room - n_defective)]), np.sort(defective[:n_defective])


def _half(patches: torch.Tensor, device: str) -> torch.Tensor:
    return patches.to(device).clamp(-CLAMP, CLAMP).half().flatten(1, 2)

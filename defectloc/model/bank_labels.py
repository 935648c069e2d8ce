"""Labels of patches by their distances to a memory bank, and how far these can be relied on."""

import numpy as np
import torch
from numpy.typing import NDArray

# Standard deviations of good patches' distances to the bank beyond which a patch of a defective image is at first
# labelled a defect, and up to which it is labelled good.
ANOMALOUS, NORMAL = 4.0, 2.0
# Reliability of the bank from which on its distances label patches.
RELIABLE = 0.5


def bank_reliability(distances: NDArray | list[NDArray], truth: NDArray[np.bool_]) -> float:
    """Return how far a bank tells patches of defective images from good ones, 0 to 1.

    `distances` `(N, h, w)` are distances in standard deviations, of good images to a bank that left them out. Of the
    patches beyond `ANOMALOUS` in defective images let a share s not be there in good ones: max(0, 2 s - 1).
    """
    if truth.all() or not truth.any():
        return 0.0
    of_defective, of_good = (_beyond(distances, truth == label) for label in (True, False))
    return max(0.0, 2 * (1 - of_good / of_defective) - 1) if of_defective > 0 else 0.0


def _beyond(distances: NDArray | list[NDArray], images: NDArray[np.bool_]) -> float:
    if isinstance(distances, list):
        distances = np.concatenate([each.ravel() for each, is_one in zip(distances, images, strict=True) if is_one])
        return float((distances > ANOMALOUS).mean())
    return float((distances[images] > ANOMALOUS).mean())


def labels_by_bank(distances: torch.Tensor, n_members: int) -> torch.Tensor:
    """Label patches of defective images by their distances `(n, P)`, for all members alike.

    Gives `(M, n, P)`: 1 defect, 0 good, -1 neither.
    """
    labels = (distances > ANOMALOUS).to(torch.int8) - ((distances > NORMAL) & (distances <= ANOMALOUS)).to(torch.int8)
    return labels.expand(n_members, -1, -1)

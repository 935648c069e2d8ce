"""Fewer dimensions and fewer patches for the memory of good parts."""

import torch

from defectloc.errors import DefectlocError


def principal_axes(covariance: torch.Tensor, dims: int) -> torch.Tensor:
    """Give the `dims` orthonormal directions of largest variance, `(C, dims)`, of a covariance `(C, C)`.

    Raises DefectlocError where there are fewer: the channels already are all directions.
    """
    if dims > len(covariance):
        raise DefectlocError(
            f"memory.dims={dims} is more than memory.reduction=pca can give: the levels have {len(covariance)} "
            "channels; lower memory.dims."
        )
    return torch.linalg.eigh(covariance)[1].flip(1)[:, :dims]


def k_center(points: torch.Tensor, n: int, start: int) -> torch.Tensor:
    """Pick `n` of the points `(P, D)`, each the farthest from those picked before; indices `(n,)`, `start` first.

    At most twice as far from all points as the best choice (Gonzalez 1985); PatchCore's choice of its bank.
    """
    picked = torch.empty(n, dtype=torch.long, device=points.device)
    picked[0] = start
    least = torch.full((len(points),), torch.inf, device=points.device)
    for i in range(1, n):
        last = picked[i - 1 : i]
        # Not by a matrix product, which would be no faster for one column, and less exact.
        gaps = torch.cdist(points, points[last], compute_mode="donot_use_mm_for_euclid_dist")
        least = torch.minimum(least, gaps[:, 0])
        # So that no point is picked twice where others equal it.
        least[last] = -torch.inf
        picked[i] = least.argmax()
    return picked

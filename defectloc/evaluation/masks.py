"""Ground truth and ignored pixels beside a map, of one size."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from defectloc.errors import DefectlocError


def masks_beside(
    shape: tuple[int, ...], mask: ArrayLike | None, ignore: ArrayLike | None
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Return defect pixels (mask None: none) and pixels to leave out (ignore None: none), both `(H, W)` bool.

    Raises DefectlocError where they have not the `shape` of their map.
    """
    truth = np.zeros(shape, bool) if mask is None else np.asarray(mask) != 0
    left_out = np.zeros(shape, bool) if ignore is None else np.asarray(ignore) != 0
    if truth.shape != shape or left_out.shape != shape:
        raise DefectlocError(
            f"A map of shape {shape} has a mask of shape {truth.shape} and an ignore mask of shape {left_out.shape}: "
            "resize them to one size."
        )
    return truth, left_out

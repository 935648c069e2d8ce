"""The score of an image by its anomaly map."""

import numpy as np
from numpy.typing import NDArray

from defectloc.localization.maps import Stack

# Cells that stand for an image.
TOP_K = 5


def top_k_mean(maps: Stack, k: int = TOP_K) -> NDArray[np.float64]:
    """Return the mean of the `k` largest values of each map `(N, h, w)`, of all where it has fewer: `(N,)`.

    Maps of several shapes are a list of `(h, w)`.
    """
    if isinstance(maps, list):
        return np.concatenate([top_k_mean(each[None], k) for each in maps])
    flat = np.sort(maps.reshape(len(maps), -1), axis=1)[:, -k:]
    return flat.mean(1, dtype=np.float64)

"""Stored feature maps as a sequence."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from defectloc.features.claims import Claim
from defectloc.features.shards import Shard

Derive = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Place:
    """Where the maps of one image are stored; `steps` make of them, one after the other, those of another level."""

    shard: Shard
    row: int
    steps: tuple[Derive, ...] = ()


class Features(Sequence[np.ndarray]):
    """Feature maps `(C, H, W)` that stay on disk until one is asked for; may be read in any order, again and again.

    Raises DefectlocError where a file was removed by hand or damaged meanwhile.
    """

    def __init__(self, places: list[Place], dtype: np.dtype, claim: Claim) -> None:
        # The claim keeps the files from being evicted.
        self._places, self._dtype, self._claim = places, dtype, claim

    def __len__(self) -> int:
        """Count the images."""
        return len(self._places)

    def __getitem__(self, index: Any) -> Any:
        """Give the maps of one image as they are stored, or as they would be."""
        place = self._places[index]
        values = place.shard.row(place.row)
        for step in place.steps:
            values = rounded(step(values[None].astype(np.float32)), self._dtype)[0]
        return values


def rounded(values: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Round to the type of a store."""
    # A float16 ends at 65504; beyond it a feature would turn into infinity.
    limit = np.finfo(dtype).max
    return np.clip(values, -limit, limit).astype(dtype)

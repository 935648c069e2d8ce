"""The memory bank: patches of good parts from the trunk's own features; nothing is trained.

The idea is PatchCore's (Roth et al., "Towards Total Recall in Industrial Anomaly Detection", CVPR 2022): a patch of a
new image is as anomalous as it is far from the nearest patch of a good one.
"""

import math
import zipfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import ArrayLike

from defectloc.errors import DefectlocError
from defectloc.files import atomic
from defectloc.model.bands import bands, is_large
from defectloc.model.grids import StrideOffset, interpolate
from defectloc.model.nearest import Nearest
from defectloc.model.sampling import PatchSampler

# Below it a channel is the same on all good parts, and scaling would only amplify rounding. A floor relative to the
# other channels did better on some validation splits and worse on the real photographs (docs/localization.md).
SMALLEST_SD = 1e-6
NAMES = ("mean", "sd", "projection", "vectors", "origins")

Arrays = Sequence[np.ndarray]


def patches(levels: Arrays, grids: Sequence[StrideOffset], device: str | torch.device = "cpu") -> torch.Tensor:
    """Give `(N, h, w, C)` patch vectors of levels `(N, C_i, h_i, w_i)`: local 3x3 means, side by side.

    They lie on the finest of the grids, to which the other levels are interpolated.
    """
    parts = _aligned([_tensor(level, device) for level in levels], grids)
    return torch.cat(parts, 1).permute(0, 2, 3, 1)


def _aligned(levels: Sequence[torch.Tensor], grids: Sequence[StrideOffset]) -> list[torch.Tensor]:
    """Take local means of levels, all on the finest grid."""
    finest = min(grids)
    height, width = levels[list(grids).index(finest)].shape[2:]
    means = [_local_mean(level) for level in levels]
    return [interpolate(mean, grid, finest, (height, width)) for mean, grid in zip(means, grids, strict=True)]


def _local_mean(level: torch.Tensor) -> torch.Tensor:
    if level.device.type == "cpu":
        # With the channels last in memory it takes a twelfth of the time there, for the same numbers.
        level = level.contiguous(memory_format=torch.channels_last)
    return F.avg_pool2d(level, 3, stride=1, padding=1, count_include_pad=False)


def _tensor(level: np.ndarray, device: str | torch.device) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(level)).to(device).float()


@dataclass(frozen=True)
class _Moments:
    """Of patches of good images: the channels of each level, mean and sd `(C,)` in double."""

    channels: list[int]
    mean: torch.Tensor
    sd: torch.Tensor


def _moments(images: Iterable[Arrays], grids: Sequence[StrideOffset], device: str) -> _Moments | None:
    """Go through good images once; None where there is none."""
    n, total, squares, channels = 0, torch.zeros(1), torch.zeros(1), []
    for batch in images:
        channels = [level.shape[1] for level in batch]
        for band, rows in bands(batch, grids):
            vectors = patches(band, grids, device)[:, rows]
            # On the CPU, since not every device counts in double precision.
            vectors = vectors.reshape(-1, vectors.shape[-1]).cpu().double()
            total, squares = total + vectors.sum(0), squares + vectors.square().sum(0)
            n += len(vectors)
    if n == 0:
        return None
    mean = total / n
    sd = (squares / n - mean.square()).clamp_min(0).sqrt()
    return _Moments(channels, mean, torch.where(sd > SMALLEST_SD, sd, torch.ones_like(sd)))


def _projection(moments: _Moments, dims: int, generator: torch.Generator) -> torch.Tensor:
    """Give a random projection `(C, D)` of standardised patches.

    Each level counts alike, however many channels it has: the finer one has fewer.
    """
    n_channels, channels = len(moments.mean), moments.channels
    weight = torch.cat([torch.full((c,), (n_channels / len(channels) / c) ** 0.5) for c in channels])
    axes = torch.randn(n_channels, dims, generator=generator) / dims**0.5
    return (weight[:, None] * axes).contiguous()


def _samples(
    batch: Arrays, grids: Sequence[StrideOffset], sampler: PatchSampler, device: str
) -> Iterator[torch.Tensor]:
    """Give a sample `(n, C)` of the patches of each image of a batch."""
    if not is_large(batch, grids):
        for image in patches(batch, grids, device).flatten(1, 2):
            yield image[sampler.indices(len(image)).to(device)]
        return
    n_cells = math.prod(batch[list(grids).index(min(grids))].shape[2:])
    for number in range(len(batch[0])):
        chosen, at, sample = sampler.indices(n_cells).sort().values, 0, []
        for band, rows in bands([level[number : number + 1] for level in batch], grids):
            part = patches(band, grids, device)[0, rows].flatten(0, 1)
            here = chosen[(chosen >= at) & (chosen < at + len(part))] - at
            sample.append(part[here.to(device)])
            at += len(part)
        yield torch.cat(sample)


class MemoryBank:
    """Patches of good training images, standardised and projected to fewer dimensions."""

    def __init__(
        self,
        mean: torch.Tensor,
        sd: torch.Tensor,
        projection: torch.Tensor,
        vectors: torch.Tensor,
        origins: torch.Tensor,
        grids: Sequence[StrideOffset],
    ) -> None:
        """Mean and sd `(C,)`, projection `(C, D)`, vectors `(M, D)` of images `(M,)`; the grid of each level."""
        self.mean, self.sd, self.projection, self.vectors, self.grids = mean, sd, projection, vectors, tuple(grids)
        self.origins = origins
        self._nearest = Nearest(vectors)

    @classmethod
    def fit(
        cls,
        images: Callable[[], Iterable[Arrays]],
        n_images: int,
        grids: Sequence[StrideOffset],
        dims: int,
        budget: int,
        seed: int,
        device: str = "cpu",
    ) -> "MemoryBank":
        """Sample patches of good images, given twice in batches of levels; `budget` in bytes caps the bank.

        Each image gives the same share of its patches, at least one; where there are more images than places, a random
        selection of them does. Deterministic in `seed`. Raises DefectlocError where there is no image, or the budget
        holds no patch.
        """
        moments, places = _moments(images(), grids, device), budget // (4 * dims)
        if moments is None or places == 0:
            raise DefectlocError(
                f"the memory bank would be empty: {n_images} good training images, places for {places} patches; "
                "add good images or raise memory.budget_mb."
            )
        # On the CPU, since random numbers differ between devices.
        generator = torch.Generator().manual_seed(seed)
        projection = _projection(moments, dims, generator).to(device)
        mean, sd = moments.mean.float().to(device), moments.sd.float().to(device)
        sampler, kept = PatchSampler(n_images, places, generator), []
        for batch in images():
            for sample in _samples(batch, grids, sampler, device):
                kept.append(((sample - mean) / sd) @ projection)
        numbers = torch.arange(len(kept)).repeat_interleave(torch.tensor([len(each) for each in kept]))
        return cls(mean, sd, projection, torch.cat(kept), numbers.to(device), grids)

    def without(self, images: ArrayLike) -> "MemoryBank | None":
        """Give the bank without the patches of some of its images, by their numbers in `fit`; None if none is left.

        Mean, sd and projection are still those of all images.
        """
        left = ~torch.isin(self.origins, torch.as_tensor(np.asarray(images, dtype=np.int64), device=self.device))
        if not left.any():
            return None
        return MemoryBank(self.mean, self.sd, self.projection, self.vectors[left], self.origins[left], self.grids)

    @property
    def device(self) -> torch.device:
        """Where the bank lies, and where distances are computed."""
        return self.vectors.device

    @property
    def grid(self) -> StrideOffset:
        """Give (stride, offset) of the cells of its maps, in pixels of the network's input."""
        return min(self.grids)

    def standardized(self, levels: Arrays) -> torch.Tensor:
        """Give the patch vectors `(N, h, w, C)` in standard deviations of good training patches."""
        return (patches(levels, self.grids, self.device) - self.mean) / self.sd

    def projected(self, levels: Arrays, matrix: torch.Tensor) -> torch.Tensor:
        """Give the `standardized` patch vectors times a matrix `(C, D)`: `(N, h, w, D)`.

        All of it is linear, so the means of neighbours are taken last, of D values instead of C.
        """
        channels, mixed = [level.shape[1] for level in levels], []
        means, matrices = self.mean[:, None, None].split(channels), (matrix / self.sd[:, None]).split(channels)
        for level, mean, each in zip(levels, means, matrices, strict=True):
            values = _tensor(level, self.device) - mean
            mixed.append(torch.matmul(each.T, values.flatten(2)).unflatten(2, values.shape[2:]))
        return torch.stack(_aligned(mixed, self.grids)).sum(0).permute(0, 2, 3, 1)

    def distances(self, levels: Arrays) -> np.ndarray:
        """Give each patch's exact Euclidean distance to the nearest of the bank, `(N, h, w)` float32, 0 or more."""
        found = [self._distances(band)[:, rows] for band, rows in bands(levels, self.grids)]
        return found[0] if len(found) == 1 else np.concatenate(found, 1)

    def _distances(self, levels: Arrays) -> np.ndarray:
        vectors = self.projected(levels, self.projection)
        return self._nearest(vectors.flatten(0, 2)).reshape(vectors.shape[:3]).cpu().numpy()

    def save(self, path: Path) -> None:
        """Write the bank without pickle."""
        arrays = {name: getattr(self, name).cpu().numpy() for name in NAMES}
        with atomic(path) as temporary, temporary.open("wb") as file:
            np.savez(file, grids=np.array(self.grids, dtype=np.float64), **arrays)

    @classmethod
    def load(cls, path: Path, device: str = "cpu") -> "MemoryBank":
        """Read what `save` wrote; raises DefectlocError where it is not that."""
        try:
            with np.load(path, allow_pickle=False) as content:
                grids = [(float(stride), float(offset)) for stride, offset in content["grids"]]
                mean, sd, projection, vectors, origins = (torch.from_numpy(content[name]).to(device) for name in NAMES)
                return cls(mean, sd, projection, vectors, origins, grids)
        except (OSError, EOFError, ValueError, KeyError, TypeError, zipfile.BadZipFile) as error:
            raise DefectlocError(f"{path} cannot be read as a memory bank; fit it again.") from error

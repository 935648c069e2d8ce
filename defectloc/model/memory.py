"""What good parts look like, patch by patch, from the trunk's own features; nothing is trained.

The idea is PatchCore's (Roth et al., "Towards Total Recall in Industrial Anomaly Detection", CVPR 2022): a patch of a
new image is as suspicious as it is far from the nearest patch of a good one.
"""

import zipfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from defectloc.config import KCENTER_POOL
from defectloc.errors import DefectlocError
from defectloc.files import atomic
from defectloc.model.reduction import k_center, principal_axes

# Where a trunk has both texture and shape, on a grid finer than the class map's.
LEVELS = {
    "vgg16": ("conv3_3.pool2", "conv4_3"),
    "resnet50": ("layer2", "layer3"),
    "densenet121": ("denseblock2", "denseblock3"),
}
# Distances of this many patches to this many of the bank at once, so that their table stays in a core's cache.
CHUNK, PIECE = 256, 1024
# Below it a channel is the same on all good parts, and scaling would only amplify rounding. A floor relative to the
# other channels did better on some validation parts and worse on the real photographs (docs/localization.md).
SMALLEST_SD = 1e-6

Arrays = Sequence[np.ndarray]


def patches(levels: Arrays, device: str = "cpu") -> torch.Tensor:
    """Give `(N, h, w, C)` patch vectors of levels `(N, C_i, h_i, w_i)`: local 3x3 means, side by side.

    They lie on the grid of the largest level, to which smaller ones are interpolated.
    """
    size = _largest(levels)
    parts = [_local_means(_tensor(level, device), size) for level in levels]
    return torch.cat(parts, 1).permute(0, 2, 3, 1)


def _largest(levels: Arrays) -> tuple[int, int]:
    height, width = max((level.shape[2:] for level in levels), key=lambda shape: shape[0])
    return height, width


def _tensor(level: np.ndarray, device: str | torch.device) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(level)).to(device).float()


def _local_means(values: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    values = F.avg_pool2d(values, 3, stride=1, padding=1, count_include_pad=False)
    if values.shape[2:] == size:
        return values
    return F.interpolate(values, size, mode="bilinear", align_corners=False)


def _places(vectors: torch.Tensor) -> torch.Tensor:
    """Give row and column of each patch of `(N, h, w, C)`, in shares of the grid's sides: `(h * w, 2)` in [0, 1)."""
    rows, columns = (torch.arange(side, device=vectors.device) / side for side in vectors.shape[1:3])
    return torch.stack(torch.meshgrid(rows, columns, indexing="ij"), -1).reshape(-1, 2)


@dataclass(frozen=True)
class _Moments:
    """Of patches of good images: their number in an image, the channels of each level, mean and sd `(C,)` in double.

    `products` `(C, C)` is the mean of their outer products, where it was asked for.
    """

    n_patches: int
    channels: list[int]
    mean: torch.Tensor
    sd: torch.Tensor
    products: torch.Tensor | None


def _moments(images: Iterable[Arrays], device: str, with_products: bool) -> _Moments | None:
    """Go through good images once; None where there is none."""
    n, total, squares, products = 0, torch.zeros(1), torch.zeros(1), torch.zeros(1)
    n_patches, channels = 0, []
    for batch in images:
        vectors = patches(batch, device)
        channels = [level.shape[1] for level in batch]
        n_patches = vectors.shape[1] * vectors.shape[2]
        # On the CPU, since not every device counts in double precision.
        vectors = vectors.reshape(-1, vectors.shape[-1]).cpu().double()
        total, squares = total + vectors.sum(0), squares + vectors.square().sum(0)
        if with_products:
            products = products + vectors.T @ vectors
        n += len(vectors)
    if n == 0:
        return None
    mean = total / n
    sd = (squares / n - mean.square()).clamp_min(0).sqrt()
    sd = torch.where(sd > SMALLEST_SD, sd, torch.ones_like(sd))
    return _Moments(n_patches, channels, mean, sd, products / n if with_products else None)


def _projection(moments: _Moments, dims: int, generator: torch.Generator) -> torch.Tensor:
    """Give the projection `(C, D)` of standardised patches: at random, or with products on their principal axes.

    Each level counts alike, however many channels it has: the finer one has fewer.
    """
    mean, sd, channels = moments.mean, moments.sd, moments.channels
    weight = torch.cat([torch.full((c,), (len(mean) / len(channels) / c) ** 0.5) for c in channels])
    if moments.products is None:
        axes = torch.randn(len(mean), dims, generator=generator) / dims**0.5
    else:
        covariance = (moments.products - torch.outer(mean, mean)) / torch.outer(sd / weight, sd / weight)
        axes = principal_axes(covariance, dims).float()
    return (weight[:, None] * axes).contiguous()


class GoodMemory:
    """A bank of patches of good training images, standardised and projected to fewer dimensions."""

    def __init__(
        self,
        mean: torch.Tensor,
        sd: torch.Tensor,
        projection: torch.Tensor,
        bank: torch.Tensor,
        reach: torch.Tensor | None = None,
    ) -> None:
        """Mean and sd `(C,)`, projection `(C, D)`, bank `(M, D)`.

        A bank `(M, D + 2)` ends in each patch's row and column, in shares of the grid's sides times `reach` `()`: the
        distance that a whole side counts as.
        """
        self.mean, self.sd, self.projection, self.bank = mean, sd, projection, bank
        self.reach = torch.zeros((), device=bank.device) if reach is None else reach
        self._pieces = [(piece.square().sum(1), piece.T.contiguous()) for piece in bank.split(PIECE)]

    @classmethod
    def fit(
        cls,
        images: Callable[[], Iterable[Arrays]],
        n_images: int,
        dims: int,
        budget: int,
        seed: int,
        device: str = "cpu",
        reduction: str = "random",
        sampling: str = "random",
        position: float = 0.0,
    ) -> "GoodMemory":
        """Remember the patches of good images, given twice in batches of levels; `budget` in bytes caps the bank.

        The same share of each image's patches is drawn at random, at least one; with `sampling="kcenter"` about
        KCENTER_POOL of them are, of which the bank is then picked. `reduction` is `random` or `pca` (of the
        standardised patches), `position` the weight of a patch's place: at 1 a whole side of the grid counts as much
        as two random good patches differ. Deterministic in `seed`. Raises DefectlocError where there is no image, the
        budget holds no patch or there are fewer principal axes than `dims`.
        """
        moments = _moments(images(), device, with_products=reduction == "pca")
        room = budget // (4 * (dims + 2 * (position > 0)))
        if moments is None or room == 0:
            raise DefectlocError(
                f"the memory of good parts would be empty: {n_images} good training images, room for {room} patches; "
                "add good images or raise memory.budget_mb."
            )
        # On the CPU, since every device draws other numbers.
        generator = torch.Generator().manual_seed(seed)
        projection = _projection(moments, dims, generator).to(device)
        mean, sd = moments.mean.float().to(device), moments.sd.float().to(device)
        pool_size = max(room, KCENTER_POOL) if sampling == "kcenter" else room
        kept, places, quota = [], [], max(1, min(moments.n_patches, pool_size // n_images))
        for batch in images():
            vectors = patches(batch, device)
            grid = _places(vectors)
            for image in vectors.reshape(len(vectors), -1, vectors.shape[-1]):
                drawn = torch.randperm(len(image), generator=generator)[:quota].to(device)
                kept.append(((image[drawn] - mean) / sd) @ projection)
                places.append(grid[drawn])
        pool, reach = torch.cat(kept)[:pool_size], None
        if position > 0:
            # Half the pool further is another image where there are several; within one the order is random.
            reach = position * (pool - pool.roll(len(pool) // 2, 0)).norm(dim=1).mean()
            pool = torch.cat([pool, reach * torch.cat(places)[:pool_size]], 1)
        if len(pool) > room:
            start = int(torch.randint(len(pool), (), generator=generator))
            pool = pool[k_center(pool, room, start)]
        return cls(mean, sd, projection, pool, reach)

    def standardized(self, levels: Arrays) -> torch.Tensor:
        """Give the patch vectors `(N, h, w, C)` in standard deviations of good training patches."""
        return (patches(levels, str(self.bank.device)) - self.mean) / self.sd

    def projected(self, levels: Arrays, matrix: torch.Tensor) -> torch.Tensor:
        """Give the `standardized` patch vectors times a matrix `(C, D)`: `(N, h, w, D)`.

        All of it is linear, so the means of neighbours are taken last, of D values instead of C.
        """
        size, channels, parts = _largest(levels), [level.shape[1] for level in levels], []
        means, matrices = self.mean[:, None, None].split(channels), (matrix / self.sd[:, None]).split(channels)
        for level, mean, each in zip(levels, means, matrices, strict=True):
            values = _tensor(level, self.bank.device) - mean
            mixed = torch.matmul(each.T, values.flatten(2)).unflatten(2, values.shape[2:])
            parts.append(_local_means(mixed, size))
        return torch.stack(parts).sum(0).permute(0, 2, 3, 1)

    def distances(self, levels: Arrays) -> np.ndarray:
        """Give each patch's exact Euclidean distance to the nearest good one, `(N, h, w)` float32, 0 or more."""
        return self.nearest(self.projected(levels, self.projection))

    def nearest(self, vectors: torch.Tensor) -> np.ndarray:
        """Give the `distances` of patch vectors `(N, h, w, D)` that are `projected` by `self.projection`."""
        shape, projected = vectors.shape[:3], vectors.flatten(0, 2)
        if self.bank.shape[1] > self.projection.shape[1]:
            places = self.reach * _places(vectors)
            projected = torch.cat([projected, places.repeat(shape[0], 1)], 1)
        nearest = torch.full((len(projected),), torch.inf, device=projected.device)
        for squares, columns in self._pieces:
            for chunk, so_far in zip(projected.split(CHUNK), nearest.split(CHUNK), strict=True):
                # |a - b|^2 by one matrix product; the part that all of a row share is added at the end.
                torch.minimum(so_far, torch.addmm(squares, chunk, columns, alpha=-2).amin(1), out=so_far)
        return (nearest + projected.square().sum(1)).clamp_min(0).sqrt().reshape(shape).cpu().numpy()

    def save(self, path: Path, key: str) -> None:
        """Write the memory without pickle, with the key of what it was made of."""
        arrays = {name: getattr(self, name).cpu().numpy() for name in ("mean", "sd", "projection", "bank", "reach")}
        with atomic(path) as temporary, temporary.open("wb") as file:
            np.savez(file, key=np.array(key), **arrays)

    @classmethod
    def load(cls, path: Path, key: str, device: str = "cpu") -> "GoodMemory":
        """Read what `save` wrote; raises DefectlocError where it is not that, or was made of something else."""
        try:
            with np.load(path, allow_pickle=False) as content:
                if str(content["key"]) != key:
                    raise KeyError("key")
                # Memories from before there was a reach have none.
                names = ("mean", "sd", "projection", "bank", *(["reach"] if "reach" in content else []))
                return cls(*(torch.from_numpy(content[name]).to(device) for name in names))
        except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile) as error:
            raise DefectlocError(f"{path} cannot be read as this run's memory of good parts; fit it again.") from error

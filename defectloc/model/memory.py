"""What good parts look like, patch by patch, from the trunk's own features; nothing is trained.

The idea is PatchCore's (Roth et al., "Towards Total Recall in Industrial Anomaly Detection", CVPR 2022): a patch of a
new image is as suspicious as it is far from the nearest patch of a good one.
"""

import zipfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from defectloc.errors import DefectlocError
from defectloc.files import atomic

# Where a trunk has both texture and shape, on a grid finer than the class map's.
LEVELS = {
    "vgg16": ("conv3_3.pool2", "conv4_3"),
    "resnet50": ("layer2", "layer3"),
    "densenet121": ("denseblock2", "denseblock3"),
}
# Distances of this many patches at once.
CHUNK = 4096
# Below it a channel is the same on all good parts, and scaling would only amplify rounding.
SMALLEST_SD = 1e-6

Arrays = Sequence[np.ndarray]


def patches(levels: Arrays, device: str = "cpu") -> torch.Tensor:
    """Give `(N, h, w, C)` patch vectors of levels `(N, C_i, h_i, w_i)`: local 3x3 means, side by side.

    They lie on the grid of the largest level, to which smaller ones are interpolated.
    """
    size = max((level.shape[2:] for level in levels), key=lambda shape: shape[0])
    parts = []
    for level in levels:
        values = torch.from_numpy(np.ascontiguousarray(level)).to(device).float()
        values = F.avg_pool2d(values, 3, stride=1, padding=1, count_include_pad=False)
        if values.shape[2:] != size:
            values = F.interpolate(values, size, mode="bilinear", align_corners=False)
        parts.append(values)
    return torch.cat(parts, 1).permute(0, 2, 3, 1)


class GoodMemory:
    """A bank of patches of good training images, standardised and projected at random to fewer dimensions."""

    def __init__(self, mean: torch.Tensor, sd: torch.Tensor, projection: torch.Tensor, bank: torch.Tensor) -> None:
        """Mean and sd `(C,)`, projection `(C, D)`, bank `(M, D)`."""
        self.mean, self.sd, self.projection, self.bank = mean, sd, projection, bank
        self._squares = bank.square().sum(1)

    @classmethod
    def fit(
        cls,
        images: Callable[[], Iterable[Arrays]],
        n_images: int,
        dims: int,
        budget: int,
        seed: int,
        device: str = "cpu",
    ) -> "GoodMemory":
        """Remember the patches of good images, given twice in batches of levels; `budget` in bytes caps the bank.

        The same share of each image's patches is drawn at random, at least one. Deterministic in `seed`. Raises
        DefectlocError where there is no image or the budget holds no patch.
        """
        n, total, squares = 0, torch.zeros(1), torch.zeros(1)
        n_patches = 0
        for batch in images():
            vectors = patches(batch, device)
            n_patches = vectors.shape[1] * vectors.shape[2]
            vectors = vectors.reshape(-1, vectors.shape[-1]).double()
            total, squares = total.to(device) + vectors.sum(0), squares.to(device) + vectors.square().sum(0)
            n += len(vectors)
        room = budget // (4 * dims)
        if n == 0 or room == 0:
            raise DefectlocError(
                f"the memory of good parts would be empty: {n_images} good training images, room for {room} patches; "
                "add good images or raise memory.budget_mb."
            )
        mean = total / n
        sd = (squares / n - mean.square()).clamp_min(0).sqrt()
        mean, sd = mean.float(), torch.where(sd > SMALLEST_SD, sd, torch.ones_like(sd)).float()
        # On the CPU, since every device draws other numbers.
        generator = torch.Generator().manual_seed(seed)
        projection = (torch.randn(len(mean), dims, generator=generator) / dims**0.5).to(device)
        kept, quota = [], max(1, min(n_patches, room // n_images))
        for batch in images():
            vectors = patches(batch, device)
            for image in vectors.reshape(len(vectors), -1, vectors.shape[-1]):
                drawn = torch.randperm(len(image), generator=generator)[:quota].to(device)
                kept.append(((image[drawn] - mean) / sd) @ projection)
        return cls(mean, sd, projection, torch.cat(kept)[:room])

    def standardized(self, levels: Arrays) -> torch.Tensor:
        """Give the patch vectors `(N, h, w, C)` in standard deviations of good training patches."""
        return (patches(levels, str(self.bank.device)) - self.mean) / self.sd

    def distances(self, levels: Arrays) -> np.ndarray:
        """Give each patch's exact Euclidean distance to the nearest good one, `(N, h, w)` float32, 0 or more."""
        vectors = self.standardized(levels)
        shape = vectors.shape[:3]
        projected = vectors.reshape(-1, vectors.shape[-1]) @ self.projection
        nearest = []
        for chunk in projected.split(CHUNK):
            # |a - b|^2 by one matrix product; the part that all of a row share is added at the end.
            nearest.append((self._squares - 2 * chunk @ self.bank.T).amin(1) + chunk.square().sum(1))
        return torch.cat(nearest).clamp_min(0).sqrt().reshape(shape).cpu().numpy()

    def save(self, path: Path, key: str) -> None:
        """Write the memory without pickle, with the key of what it was made of."""
        arrays = {name: getattr(self, name).cpu().numpy() for name in ("mean", "sd", "projection", "bank")}
        with atomic(path) as temporary, temporary.open("wb") as file:
            np.savez(file, key=np.array(key), **arrays)

    @classmethod
    def load(cls, path: Path, key: str, device: str = "cpu") -> "GoodMemory":
        """Read what `save` wrote; raises DefectlocError where it is not that, or was made of something else."""
        try:
            with np.load(path, allow_pickle=False) as content:
                if str(content["key"]) != key:
                    raise KeyError("key")
                names = ("mean", "sd", "projection", "bank")
                return cls(*(torch.from_numpy(content[name]).to(device) for name in names))
        except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile) as error:
            raise DefectlocError(f"{path} cannot be read as this run's memory of good parts; fit it again.") from error

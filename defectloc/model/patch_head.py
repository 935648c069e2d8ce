"""How much each patch looks like a defect, learned from labels of whole images by multiple-instance learning."""

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from defectloc.errors import DefectlocError
from defectloc.files import atomic
from defectloc.model.bags import Bags
from defectloc.model.kept_patches import CLAMP
from defectloc.model.patch_training import FEWEST_SPLIT, Settings, Weights, train

# Patches at once, so that the hidden layer of a large photograph does not have to fit in memory.
CHUNK = 2**14
FOLDS = 3
NAMES = ("hidden_weight", "hidden_bias", "output_weight", "output_bias")


def inner_folds(labels: NDArray[np.integer], seed: int, groups: NDArray | None = None) -> NDArray[np.intp]:
    """Give each training image `(N,)` a fold, 0 to `FOLDS` - 1, each class in its share; a group stays in one.

    The same for equal seeds. The groups are any values that compare equal for photographs of one part.
    """
    truth, rng = np.asarray(labels), np.random.default_rng(seed)
    units = np.arange(len(truth)) if groups is None else np.unique(np.asarray(groups), return_inverse=True)[1]
    # A group counts as defective if one of its images is; the units of each class are dealt out in turn.
    defective = np.bincount(units, weights=truth == 1) > 0
    folds = np.zeros(len(defective), np.intp)
    for of_class in (defective, ~defective):
        members = rng.permutation(np.flatnonzero(of_class))
        folds[members] = np.arange(len(members)) % FOLDS
    return folds[units]


class PatchHead:
    """Small networks (linear, GELU, linear) from a standardised patch to its log-odds, whose outputs are averaged.

    An image is a bag of patches that is defective if some are (Dietterich et al., "Solving the multiple instance
    problem with axis-parallel rectangles", Artificial Intelligence 1997); its witnesses are the patches of the largest
    log-odds. A memory bank that tells defective images from good ones helps to find them at first; where it does not,
    as with parts that never repeat, nothing is taken from it. Good patches with noise on their features stand for
    unseen defects (as in Liu et al., "SimpleNet", CVPR 2023).

    The first member learns from all images. Each of the others leaves one fold of them out, and gives the log-odds of
    that fold that a combination with other scores is chosen by.
    """

    def __init__(self, weights: Weights) -> None:
        """Of M members: `hidden_weight` `(M, C, H)`, `hidden_bias` `(M, 1, H)`, `output_weight` `(M, H, 1)`, ..."""
        self.weights = {name: weights[name] for name in NAMES}

    @property
    def n_members(self) -> int:
        """Count the networks."""
        return len(self.weights["hidden_weight"])

    @property
    def device(self) -> torch.device:
        """Tell where the weights are."""
        return self.weights["hidden_weight"].device

    @classmethod
    def fit(
        cls,
        bags: Bags,
        labels: NDArray[np.integer],
        folds: NDArray[np.integer],
        seed: int,
        device: str = "cpu",
        settings: Settings | None = None,
        distances: NDArray | list[NDArray] | None = None,
        known: NDArray[np.int8] | list[NDArray] | None = None,
    ) -> "PatchHead":
        """Learn from images with labels `(N,)` (0 good, 1 defective), in folds `(N,)` numbered from 0.

        `settings.budget` bytes of the images' standardised patches are kept, at half precision (see `Bags`). Maps of
        several shapes are lists of `(h, w)`. `distances` `(N, h, w)` are the images' distances to a memory bank that
        left them out, in standard deviations of good ones; they label patches at first where they are reliable
        (`bank_reliability`). `known` `(N, h, w)` are labels of patches that a person has given: 1 a defect, 0 none, -1
        neither, -2 not known. With fewer than `FEWEST_SPLIT` defective images there is one member; without any, it
        learns good patches against noisy ones. Deterministic in `seed` for equal devices. Raises DefectlocError without
        a good image.
        """
        truth, part = np.asarray(labels) == 1, np.asarray(folds)
        if truth.all():
            raise DefectlocError("the patch head needs good training images; there is none.")
        left_out = [-1, *np.unique(part).tolist()] if truth.sum() >= FEWEST_SPLIT else [-1]
        members = np.stack([part != fold for fold in left_out])
        return cls(train(bags, truth, members, seed, device, settings or Settings(), distances, known))

    def log_odds(self, patches: torch.Tensor) -> NDArray[np.float32]:
        """Give the log-odds `(N, h, w)` of standardised patches `(N, h, w, C)`: the mean of all members."""
        return self._each(patches).mean(0).cpu().numpy()

    def held_out_log_odds(self, patches: torch.Tensor, folds: NDArray[np.integer]) -> NDArray[np.float32]:
        """Give the log-odds `(N, h, w)` of training images in folds `(N,)`, each by the member that left it out.

        Raises DefectlocError where no member left anything out (see `fit`).
        """
        if self.n_members == 1:
            raise DefectlocError("this patch head was fitted on too few defective images to leave some of them out.")
        each, member = self._each(patches), torch.from_numpy(np.asarray(folds) + 1).to(self.device)
        return each[member, torch.arange(len(member), device=self.device)].cpu().numpy()

    def _each(self, patches: torch.Tensor) -> torch.Tensor:
        """Give the log-odds of each member, `(M, N, h, w)`."""
        flat = patches.to(self.device).float().flatten(0, 2)
        with torch.inference_mode():
            found = [self._members(chunk.clamp(-CLAMP, CLAMP)) for chunk in flat.split(CHUNK)]
        return torch.cat(found, 1).unflatten(1, patches.shape[:3])

    def _members(self, vectors: torch.Tensor) -> torch.Tensor:
        first, first_bias, second, second_bias = (self.weights[name] for name in NAMES)
        # One matrix product for all members, since they share their input.
        n_members, _, hidden = first.shape
        sums = vectors @ first.permute(1, 0, 2).flatten(1) + first_bias.flatten()
        active = F.gelu(sums).unflatten(1, (n_members, hidden))
        return (active * second[..., 0]).sum(2).T + second_bias[..., 0]

    def save(self, path: Path) -> None:
        """Write the weights without pickle."""
        arrays: dict[str, Any] = {name: value.cpu().numpy() for name, value in self.weights.items()}
        with atomic(path) as temporary, temporary.open("wb") as file:
            np.savez(file, **arrays)

    @classmethod
    def load(cls, path: Path, device: str = "cpu") -> "PatchHead":
        """Read what `save` wrote; raises DefectlocError where it is not that."""
        try:
            with np.load(path, allow_pickle=False) as content:
                return cls({name: torch.from_numpy(content[name]).to(device) for name in NAMES})
        except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile) as error:
            raise DefectlocError(f"{path} cannot be read as a patch head; fit it again.") from error

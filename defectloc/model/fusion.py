"""Memory bank and labels together: one map, and what the classifier's decision rests on."""

import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from defectloc.errors import DefectlocError
from defectloc.files import atomic
from defectloc.model.counterfactual import NormalFeatures
from defectloc.model.memory_bank import Arrays, MemoryBank
from defectloc.model.patch_classifier import PatchClassifier


class Scale(NamedTuple):
    """Mean and standard deviation of a memory bank's distances on good validation images."""

    mean: float
    sd: float

    def anomaly(self, distances: np.ndarray) -> np.ndarray:
        """Give distances `(N, h, w)` in standard deviations from the mean."""
        return (distances - self.mean) / self.sd


@dataclass(frozen=True)
class Fusion:
    """A memory bank, the scale of its distances, and what labels and good images add to it."""

    bank: MemoryBank
    scale: Scale
    patch_classifier: PatchClassifier | None
    normal_features: NormalFeatures

    @classmethod
    def fit(
        cls,
        bank: MemoryBank,
        scale: Scale,
        held_out_anomaly: np.ndarray,
        good: Iterable[Arrays],
        defective: Iterable[tuple[Arrays, np.ndarray]],
        inputs: Iterable[np.ndarray],
        n_good: int,
        seed: int,
    ) -> "Fusion":
        """Fit to the levels of good training images, and of defective ones with their distances `(N, h, w)`.

        `held_out_anomaly` `(N, h, w)` is that of good validation images, in standard deviations; `inputs`
        `(N, C, h', w')` are the tail's on the good training images. Each iterable is gone through once. Deterministic
        in `seed`.
        """
        scale = Scale(*scale)
        candidates = ((bank.standardized(levels), scale.anomaly(distances)) for levels, distances in defective)
        patches = PatchClassifier.fit(map(bank.standardized, good), candidates, held_out_anomaly, n_good, seed)
        return cls(bank, scale, patches, NormalFeatures.fit(inputs, n_good, seed, bank.device))

    def anomaly(self, distances: np.ndarray) -> np.ndarray:
        """Give the memory bank's distances `(N, h, w)` in standard deviations of good validation images."""
        return self.scale.anomaly(distances)

    def fuse(self, levels: Arrays, distances: np.ndarray) -> np.ndarray:
        """Give the fused map `(N, h, w)`, 0 or more, of images by their levels and their distances in the bank.

        It is the anomaly times the probability that it is a defect: one half where the labels gave no example.
        """
        log_odds = 0.0 if self.patch_classifier is None else self.patch_classifier.log_odds(self.bank, levels)
        return self.anomaly(distances).clip(0) * 0.5 * (1 + np.tanh(log_odds / 2))

    def save(self, path: Path) -> None:
        """Write all but the memory bank without pickle."""
        patches = self.patch_classifier or PatchClassifier(torch.zeros(0), 0.0, 0.0)
        with atomic(path) as temporary, temporary.open("wb") as file:
            np.savez(
                file,
                scale=np.array(self.scale, dtype=np.float64),
                weights=patches.weights.numpy(),
                bias=np.array(patches.bias),
                reliability=np.array(patches.reliability),
                normal_features=self.normal_features.vectors.half().cpu().numpy(),
            )

    @classmethod
    def load(cls, path: Path, bank: MemoryBank) -> "Fusion":
        """Read what `save` wrote, to go with its memory bank; raises DefectlocError where it is not that."""
        try:
            with np.load(path, allow_pickle=False) as content:
                scale = Scale(*content["scale"].tolist())
                weights = torch.from_numpy(content["weights"])
                bias, reliability = float(content["bias"]), float(content["reliability"])
                normal = NormalFeatures(torch.from_numpy(content["normal_features"]).to(bank.device).float())
        except (OSError, EOFError, ValueError, KeyError, TypeError, zipfile.BadZipFile) as error:
            raise DefectlocError(
                f"{path} cannot be read as a fusion of memory bank and labels; fit it again."
            ) from error
        return cls(bank, scale, PatchClassifier(weights, bias, reliability) if len(weights) else None, normal)

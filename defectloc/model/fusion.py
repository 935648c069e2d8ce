"""Memory and labels together: one map, and what the classifier's decision rests on."""

import zipfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from defectloc.errors import DefectlocError
from defectloc.files import atomic
from defectloc.model.classifier import Classifier
from defectloc.model.memory import Arrays, GoodMemory
from defectloc.model.patches import PatchClassifier
from defectloc.model.reference import GoodReference

Batches = Callable[[], Iterable[Arrays]]


@dataclass(frozen=True)
class Seen:
    """What the fusion gives for a batch: maps `(N, h, w)`, log-odds `(N,)`, cells `(N, h', w')` of the class map."""

    distances: np.ndarray
    fused: np.ndarray
    kept_log_odds: np.ndarray
    kept: np.ndarray


@dataclass(frozen=True)
class Fusion:
    """A memory, the scale of its distances on good validation images, and what labels and good parts add to it."""

    memory: GoodMemory
    mean: float
    sd: float
    patches: PatchClassifier | None
    reference: GoodReference

    @classmethod
    def fit(
        cls,
        memory: GoodMemory,
        scale: tuple[float, float],
        held_out: np.ndarray,
        good: Batches,
        defective: Batches,
        inputs: Iterable[np.ndarray],
        n_good: int,
        seed: int,
    ) -> "Fusion":
        """Learn from the levels of good and of defective training images, and the tail's `inputs` of the good ones.

        `scale` is (mean, sd) of the distances `held_out` `(N, h, w)` on good validation images.
        """
        mean, sd = scale
        suspects = ((memory.standardized(some), (memory.distances(some) - mean) / sd) for some in defective())
        quiet = (held_out - mean) / sd
        patches = PatchClassifier.fit(map(memory.standardized, good()), suspects, quiet, n_good, seed)
        return cls(memory, mean, sd, patches, GoodReference.fit(inputs, n_good, seed, str(memory.bank.device)))

    def look(self, classifier: Classifier, levels: Arrays, inputs: np.ndarray) -> Seen:
        """Look at images by their levels and the tail's inputs `(N, C, h', w')`."""
        distances = self.memory.distances(levels)
        unusual = (distances - self.mean) / self.sd
        # Unusual, times the probability that it is a defect: an even chance where the labels teach nothing.
        log_odds = 0.0 if self.patches is None else self.patches.log_odds(self.memory, levels)
        fused = unusual.clip(0) * 0.5 * (1 + np.tanh(log_odds / 2))
        return Seen(distances, fused, *self.reference.kept(classifier, inputs, unusual))

    def save(self, path: Path, key: str) -> None:
        """Write all but the memory without pickle, with the key of what it was made of."""
        taught = self.patches
        with atomic(path) as temporary, temporary.open("wb") as file:
            np.savez(
                file,
                key=np.array(key),
                scale=np.array([self.mean, self.sd]),
                weights=np.zeros(0) if taught is None else taught.weights.numpy(),
                bias=np.array(0.0 if taught is None else taught.bias),
                trust=np.array(0.0 if taught is None else taught.trust),
                bank=self.reference.bank.half().cpu().numpy(),
            )

    @classmethod
    def load(cls, path: Path, key: str, memory: GoodMemory) -> "Fusion":
        """Read what `save` wrote; raises DefectlocError where it is not that, or was made of something else."""
        device = memory.bank.device
        try:
            with np.load(path, allow_pickle=False) as content:
                if str(content["key"]) != key:
                    raise KeyError("key")
                mean, sd = content["scale"].tolist()
                weights = torch.from_numpy(content["weights"])
                bias, trust = float(content["bias"]), float(content["trust"])
                taught = PatchClassifier(weights, bias, trust) if len(weights) else None
                reference = GoodReference(torch.from_numpy(content["bank"]).to(device).float())
        except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile) as error:
            raise DefectlocError(f"{path} cannot be read as this run's fusion; fit it again.") from error
        return cls(memory, mean, sd, taught, reference)

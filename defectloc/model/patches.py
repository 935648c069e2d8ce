"""Which patches look like the labelled defects: a logistic model per patch, taught by labels of whole images."""

from collections.abc import Iterable

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression

from defectloc.model.memory import Arrays, GoodMemory

# Standard deviations of good parts' distances beyond which a patch of a defective image counts as its defect.
HOT = 4.0
# Fewer hot patches teach nothing.
FEWEST = 10
# Good patches to learn from, and defective ones.
MOST = 40_000
# Of the squared weights, relative to the mean loss.
PENALTY = 1e-2
ROUNDS = 60


class PatchClassifier:
    """Log-odds that a patch shows a defect, linear in its standardised features.

    Only images have labels, so the patches of defective images are labelled by the memory of good parts: those that it
    finds unusual are taken for defects (multiple instances with selected witnesses, as in Andrews et al., "Support
    Vector Machines for Multiple-Instance Learning", NIPS 2002), all patches of good images are not. What all images of
    a class share, such as their light, is not unusual enough to be learnt from.
    """

    def __init__(self, weights: torch.Tensor, bias: float) -> None:
        """Weights `(C,)` of the memory's standardised levels."""
        self.weights, self.bias = weights, bias

    @classmethod
    def fit(
        cls,
        memory: GoodMemory,
        good: Iterable[Arrays],
        defective: Iterable[tuple[Arrays, np.ndarray]],
        n_good: int,
        seed: int,
    ) -> "PatchClassifier | None":
        """Learn from batches of good images' levels, and of defective ones with how unusual `(N, h, w)` they are.

        How unusual is in standard deviations of good parts' distances. Deterministic in `seed`. None where fewer than
        `FEWEST` patches are unusual.
        """
        generator = torch.Generator().manual_seed(seed)
        quota = max(1, MOST // max(n_good, 1))
        cold, hot = [], []
        for levels in good:
            for image in memory.standardized(levels).flatten(1, 2):
                cold.append(image[torch.randperm(len(image), generator=generator)[:quota].to(image.device)].cpu())
        for levels, unusual in defective:
            chosen = torch.from_numpy(unusual > HOT)
            hot.append(memory.standardized(levels).cpu()[chosen])
        found = torch.cat(hot) if hot else torch.zeros(0, len(memory.mean))
        if len(found) < FEWEST or not cold:
            return None
        if len(found) > MOST:
            found = found[torch.randperm(len(found), generator=generator)[:MOST]]
        values = torch.cat([*cold, found]).numpy()
        labels = np.repeat([0, 1], [len(values) - len(found), len(found)])
        # Both classes weigh the same, whatever share of the patches is hot.
        model = LogisticRegression(C=0.5 / PENALTY / len(values), class_weight="balanced", max_iter=ROUNDS, tol=1e-3)
        model.fit(values, labels)
        weights = torch.from_numpy(model.coef_[0]).float().to(memory.mean.device)
        return cls(weights, float(model.intercept_[0]))

    def log_odds(self, memory: GoodMemory, levels: Arrays) -> np.ndarray:
        """Give the log-odds of each patch `(N, h, w)` float32."""
        return (memory.standardized(levels) @ self.weights + self.bias).cpu().numpy()

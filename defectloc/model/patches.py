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
    """Log-odds that a patch shows a defect, linear in its features `GoodMemory.standardized`.

    Only images have labels, so the patches of defective images are labelled by the memory of good parts: those that it
    finds unusual are taken for defects (multiple instances with selected witnesses, as in Andrews et al., "Support
    Vector Machines for Multiple-Instance Learning", NIPS 2002), all patches of good images are not. What all images of
    a class share, such as their light, is not unusual enough to be learnt from.

    What is unusual on good images as well teaches the wrong thing. So the log-odds count as far as the examples can be
    trusted: by 2 s - 1, with s the share of the unusual patches of defective images that good ones do not have too.
    """

    def __init__(self, weights: torch.Tensor, bias: float, trust: float = 1.0) -> None:
        """Weights `(C,)` of the standardised features; trust in [0, 1]."""
        self.weights, self.bias, self.trust = weights, bias, trust

    @classmethod
    def fit(
        cls,
        good: Iterable[torch.Tensor],
        defective: Iterable[tuple[torch.Tensor, np.ndarray]],
        held_out: np.ndarray,
        n_good: int,
        seed: int,
    ) -> "PatchClassifier | None":
        """Learn from batches `(N, h, w, C)` of good images, and of defective ones with how unusual `(N, h, w)` each is.

        How unusual is in standard deviations of good parts' distances; `held_out` `(N, h, w)` says it of good images
        that nothing was learnt from. Deterministic in `seed`. None where fewer than `FEWEST` patches are unusual.
        """
        generator = torch.Generator().manual_seed(seed)
        quota = max(1, MOST // max(n_good, 1))
        cold, hot, n_seen = [], [], 0
        for vectors in good:
            for image in vectors.flatten(1, 2):
                cold.append(image[torch.randperm(len(image), generator=generator)[:quota].to(image.device)].cpu())
        for vectors, unusual in defective:
            hot.append(vectors.cpu()[torch.from_numpy(unusual > HOT)])
            n_seen += unusual.size
        if sum(map(len, hot)) < FEWEST or not cold:
            return None
        found = torch.cat(hot)
        false_share = float((held_out > HOT).mean()) * n_seen / len(found)
        if len(found) > MOST:
            found = found[torch.randperm(len(found), generator=generator)[:MOST]]
        values = torch.cat([*cold, found]).numpy()
        labels = np.repeat([0, 1], [len(values) - len(found), len(found)])
        # Both classes weigh the same, whatever share of the patches is hot.
        model = LogisticRegression(C=0.5 / PENALTY / len(values), class_weight="balanced", max_iter=ROUNDS, tol=1e-3)
        model.fit(values, labels)
        trust = max(0.0, 2 * (1 - false_share) - 1)
        return cls(torch.from_numpy(model.coef_[0]).float(), float(model.intercept_[0]), trust)

    def log_odds(self, memory: GoodMemory, levels: Arrays) -> np.ndarray:
        """Give the log-odds `(N, h, w)` float32 of each patch of an image's levels, as far as they are trusted."""
        sums = memory.projected(levels, self.weights[:, None].to(memory.bank.device))[..., 0]
        return (self.trust * (sums + self.bias)).cpu().numpy()

"""The supervised patch classifier: a logistic model per patch, fitted with labels of whole images."""

from collections.abc import Iterable

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression

from defectloc.model.memory_bank import Arrays, MemoryBank
from defectloc.model.sampling import PatchSampler, Reservoir

# Standard deviations of good parts' distances beyond which a patch of a defective image is an example of a defect.
ANOMALOUS = 4.0
# Of fewer examples nothing is fitted.
FEWEST = 10
# Patches of good images to fit to, and of defective ones; of more, a random sample.
MOST = 40_000
# Of the squared weights, relative to the mean loss.
PENALTY = 1e-2
ROUNDS = 60


class PatchClassifier:
    """Log-odds that a patch shows a defect, linear in its features `MemoryBank.standardized`.

    Only images have labels, so the memory bank labels the patches of defective images: the anomalous ones are examples
    of defects (multiple-instance learning with selected witnesses, as in Andrews et al., "Support Vector Machines for
    Multiple-Instance Learning", NIPS 2002), and all patches of good images are examples of good ones. What all images
    of a class share, such as their light, is not anomalous enough to be an example.

    What is anomalous on good images as well is a wrong example. So the log-odds are multiplied by a reliability weight
    2 s - 1, with s the share of the anomalous patches of defective images that good ones do not have too.
    """

    def __init__(self, weights: torch.Tensor, bias: float, reliability: float = 1.0) -> None:
        """Weights `(C,)` of the standardised features; reliability in [0, 1]."""
        self.weights, self.bias, self.reliability = weights, bias, reliability

    @classmethod
    def fit(
        cls,
        good: Iterable[torch.Tensor],
        defective: Iterable[tuple[torch.Tensor, np.ndarray]],
        held_out_anomaly: np.ndarray,
        n_good: int,
        seed: int,
    ) -> "PatchClassifier | None":
        """Fit to patches `(N, h, w, C)` of good images, and of defective ones with the anomaly `(N, h, w)` of each.

        The anomaly is in standard deviations of good parts' distances; `held_out_anomaly` `(N, h, w)` is that of good
        images that nothing was fitted to. Deterministic in `seed`. None where fewer than `FEWEST` patches of defective
        images are anomalous, or there is no good image.
        """
        generator = torch.Generator().manual_seed(seed)
        sampler, negatives = PatchSampler(n_good, MOST, generator), []
        for vectors in good:
            for image in vectors.flatten(1, 2):
                negatives.append(image[sampler.indices(len(image)).to(image.device)].cpu())
        positives, n_patches = Reservoir(MOST, generator), 0
        for vectors, anomaly in defective:
            positives.add(vectors.cpu()[torch.from_numpy(anomaly > ANOMALOUS)])
            n_patches += anomaly.size
        if positives.n_added < FEWEST or not negatives:
            return None
        false_share = float((held_out_anomaly > ANOMALOUS).mean()) * n_patches / positives.n_added
        values = torch.cat([*negatives, positives.rows]).numpy()
        labels = np.repeat([0, 1], [len(values) - len(positives.rows), len(positives.rows)])
        # Both classes weigh the same, whatever share of the patches is anomalous.
        model = LogisticRegression(C=0.5 / PENALTY / len(values), class_weight="balanced", max_iter=ROUNDS, tol=1e-3)
        model.fit(values, labels)
        reliability = max(0.0, 2 * (1 - false_share) - 1)
        return cls(torch.from_numpy(model.coef_[0]).float(), float(model.intercept_[0]), reliability)

    def log_odds(self, bank: MemoryBank, levels: Arrays) -> np.ndarray:
        """Give the log-odds `(N, h, w)` float32 of each patch of an image's levels, times the reliability weight."""
        sums = bank.projected(levels, self.weights[:, None].to(bank.device))[..., 0]
        return (self.reliability * (sums + self.bias)).cpu().numpy()

"""The shortcut check: the classifier's decision on an image whose unremarkable cells are replaced by good ones."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F

from defectloc.model.classifier import Classifier, class_activation_map
from defectloc.model.nearest import CHUNK
from defectloc.model.sampling import PatchSampler

# Good cells to replace others with.
MOST = 2048
# Standard deviations of good parts' distances beyond which a patch is anomalous.
ANOMALOUS = 3.0


class Retained(NamedTuple):
    """What a decision retains: log-odds `(N,)` float64, and the retained cells `(N, h', w')` of the class map."""

    log_odds: np.ndarray
    cells: np.ndarray


class NormalFeatures:
    """Cells of the tail's input on good training images, to replace those of an image.

    Each cell is replaced by the good one nearest to it, so that pose and place are retained while what sets the image
    apart from good parts is removed.
    """

    def __init__(self, vectors: torch.Tensor) -> None:
        """Take some good cells `(M, C)`."""
        self.vectors = vectors
        # A channel that is almost the same on all good parts must not outweigh the others.
        self.sd = vectors.std(0, unbiased=False) + 1e-3 * vectors.std()
        self._mean = vectors.mean(0)
        self._scaled = self._standardized(vectors)
        self._squares = self._scaled.square().sum(1)

    def _standardized(self, cells: torch.Tensor) -> torch.Tensor:
        return (cells - self._mean) / self.sd

    @classmethod
    def fit(
        cls, good: Iterable[np.ndarray], n_good: int, seed: int, device: str | torch.device = "cpu"
    ) -> "NormalFeatures":
        """Sample up to `MOST` cells of good images, given once in batches `(N, C, h, w)`; deterministic in `seed`.

        Where there are more images than places, a random selection of them gives one cell each.
        """
        sampler = PatchSampler(n_good, MOST, torch.Generator().manual_seed(seed))
        sample = [
            image[:, sampler.indices(image.shape[1])].T
            for batch in good
            for image in torch.from_numpy(np.ascontiguousarray(batch)).float().flatten(2)
        ]
        return cls(torch.cat(sample).to(device))

    def retained(
        self, classifier: Classifier, features: np.ndarray, anomaly: np.ndarray | Sequence[np.ndarray]
    ) -> Retained:
        """Give what the decision retains once every cell without an anomalous patch in or beside it is replaced.

        `features` `(N, C, h, w)` are the tail's input, `anomaly` `(N, H, W)`, or `(H, W)` of each image, that of each
        patch, in standard deviations; a cell is as anomalous as the most anomalous patch of its share of the image.
        """
        values = torch.from_numpy(np.ascontiguousarray(features)).to(self.vectors.device).float()
        of_cells = [
            F.adaptive_max_pool2d(torch.from_numpy((each > ANOMALOUS).astype(np.float32))[None], values.shape[2:])
            for each in anomaly
        ]
        anomalous = F.max_pool2d(torch.stack(of_cells).to(values.device), 3, stride=1, padding=1)
        cells = values.permute(0, 2, 3, 1)
        replaced = cells.clone()
        swap = anomalous[:, 0] == 0
        nearest = [
            torch.addmm(self._squares, self._standardized(chunk), self._scaled.T, alpha=-2).argmin(1)
            for chunk in cells[swap].split(CHUNK)
        ]
        if nearest:
            replaced[swap] = self.vectors[torch.cat(nearest)]
        with torch.inference_mode():
            maps = class_activation_map(classifier.channels(replaced.permute(0, 3, 1, 2).contiguous()))
        retained = F.adaptive_max_pool2d(anomalous, maps.shape[1:])[:, 0].bool()
        return Retained(maps.mean((1, 2)).cpu().numpy().astype(np.float64), retained.cpu().numpy())

"""What a decision rests on: the classifier asked again, with all that is not unusual replaced by good parts."""

from collections.abc import Iterable

import numpy as np
import torch
import torch.nn.functional as F

from defectloc.model.classifier import Classifier, class_activation_map
from defectloc.model.memory import CHUNK

# Good cells that stand in.
MOST = 2048
# Standard deviations of good parts' distances beyond which a patch is unusual.
UNUSUAL = 3.0


class GoodReference:
    """Cells of the tail's input on good training images, to stand in for those of an image.

    Each cell is replaced by the good one nearest to it, so that pose and place stay while what sets the image apart
    from good parts goes.
    """

    def __init__(self, bank: torch.Tensor) -> None:
        """Take some good cells `(M, C)`."""
        self.bank = bank
        # A channel that is almost the same on all good parts must not outweigh the others.
        self.sd = bank.std(0, unbiased=False) + 1e-3 * bank.std()
        self._mean = bank.mean(0)
        self._scaled = self._standardized(bank)
        self._squares = self._scaled.square().sum(1)

    def _standardized(self, cells: torch.Tensor) -> torch.Tensor:
        return (cells - self._mean) / self.sd

    @classmethod
    def fit(cls, good: Iterable[np.ndarray], n_good: int, seed: int, device: str = "cpu") -> "GoodReference":
        """Draw up to `MOST` cells of good images, given once in batches `(N, C, h, w)`; deterministic in `seed`."""
        generator = torch.Generator().manual_seed(seed)
        quota = max(1, MOST // max(n_good, 1))
        drawn = []
        for batch in good:
            for image in torch.from_numpy(np.ascontiguousarray(batch)).float().flatten(2):
                drawn.append(image[:, torch.randperm(image.shape[1], generator=generator)[:quota]].T)
        # At the precision of the file, so that a run read again gives the same.
        return cls(torch.cat(drawn)[:MOST].half().float().to(device))

    def kept(self, classifier: Classifier, features: np.ndarray, unusual: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Give the log-odds `(N,)` that stay once what is not unusual is replaced, and what stayed.

        `features` `(N, C, h, w)` are the tail's input, `unusual` `(N, H, W)` how unusual each patch is, in standard
        deviations. A cell stays if it or a neighbour holds an unusual patch; the second result says so for the cells
        of the class map, `(N, h', w')`.
        """
        values = torch.from_numpy(np.ascontiguousarray(features)).to(self.bank.device).float()
        hot = torch.from_numpy((unusual > UNUSUAL).astype(np.float32))[:, None].to(values.device)
        hot = F.max_pool2d(F.adaptive_max_pool2d(hot, values.shape[2:]), 3, stride=1, padding=1)
        cells = values.permute(0, 2, 3, 1)
        replaced = cells.clone()
        swap = hot[:, 0] == 0
        nearest = [
            torch.addmm(self._squares, self._standardized(chunk), self._scaled.T, alpha=-2).argmin(1)
            for chunk in cells[swap].split(CHUNK)
        ]
        if nearest:
            replaced[swap] = self.bank[torch.cat(nearest)]
        with torch.inference_mode():
            maps = class_activation_map(classifier.channels(replaced.permute(0, 3, 1, 2).contiguous()))
        stayed = F.adaptive_max_pool2d(hot, maps.shape[1:])[:, 0].bool()
        return maps.mean((1, 2)).cpu().numpy().astype(np.float64), stayed.cpu().numpy()

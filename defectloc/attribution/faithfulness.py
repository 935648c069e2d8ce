"""Whether the places that a map calls important are: the probability while they are taken away, or put in."""

import numpy as np
import torch

from defectloc.attribution.hiding import blurred
from defectloc.attribution.network import ClassScore, undisturbed


def insertion_deletion(
    score: ClassScore, image: torch.Tensor, importance: np.ndarray, steps: int, batch_size: int, seed: int
) -> tuple[float, float]:
    """Give the areas under the curves of insertion (high is good) and deletion (low is good), in [0, 1].

    Pixels of the image `(1, 3, H, W)` are taken in falling order of `importance` `(H, W)`, ties in random order, in
    equal steps: into a blurred image, or out of the image, where the preprocessing's zero takes their place (Petsiuk
    et al. 2018).
    """
    image = image.to(score.model.device)
    ties = np.random.default_rng(seed).random(importance.size)
    order = np.lexsort((ties, -importance.ravel()))
    rank = np.empty(importance.size, np.int64)
    rank[order] = np.arange(importance.size)
    ranks = torch.from_numpy(rank.reshape(importance.shape)).to(image.device)
    counts = np.linspace(0, importance.size, steps + 1).round()
    baseline = score.model.baseline.expand_as(image)
    areas = []
    with undisturbed(score.model.network):
        for start, end in ((blurred(image, 0.1), image), (image, baseline)):
            mixed = torch.cat([torch.where(ranks < count, end, start) for count in counts])
            curve = score.in_batches(mixed, batch_size, probability=True).cpu().double().numpy()
            areas.append(float(((curve[1:] + curve[:-1]) / 2).mean()))
    return areas[0], areas[1]

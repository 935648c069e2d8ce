"""Whether the places that a map calls important are: the probability while they are taken away, or put in."""

import numpy as np
import torch

from defectloc.attribution.hiding import blurred
from defectloc.attribution.subject import Question, undisturbed


def insertion_deletion(
    question: Question, image: torch.Tensor, heat: np.ndarray, steps: int, chunk: int, seed: int
) -> tuple[float, float]:
    """Give the areas under the curves of insertion (high is good) and deletion (low is good), in [0, 1].

    Pixels of the image `(1, 3, S, S)` go by the map `(S, S)`, hottest first, ties in random order, in equal steps:
    into a blurred image, or out of the image, where the preprocessing's zero takes their place (Petsiuk et al. 2018).
    """
    image = image.to(question.subject.device)
    drawn = np.random.default_rng(seed).random(heat.size)
    order = np.lexsort((drawn, -heat.ravel()))
    rank = np.empty(heat.size, np.int64)
    rank[order] = np.arange(heat.size)
    ranks = torch.from_numpy(rank.reshape(heat.shape)).to(image.device)
    counts = np.linspace(0, heat.size, steps + 1).round()
    blank = question.subject.blank.expand_as(image)
    areas = []
    with undisturbed(question.subject.network):
        for start, end in ((blurred(image, 0.1), image), (image, blank)):
            seen = torch.cat([torch.where(ranks < count, end, start) for count in counts])
            curve = question.in_chunks(seen, chunk, probability=True).cpu().double().numpy()
            areas.append(float(((curve[1:] + curve[:-1]) / 2).mean()))
    return areas[0], areas[1]

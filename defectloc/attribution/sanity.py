"""Whether a map depends on what the network has learnt (Adebayo et al., "Sanity Checks for Saliency Maps", 2018)."""

import copy
import dataclasses

import numpy as np
import pandas as pd
import torch

from defectloc.attribution.network import ExplainedModel


def randomized(model: ExplainedModel, seed: int) -> ExplainedModel:
    """Copy a model with the numbers of each of its weights and biases in random order, by `seed`."""
    network = copy.deepcopy(model.network)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in network.parameters():
            order = torch.randperm(parameter.numel(), generator=generator).to(parameter.device)
            parameter.copy_(parameter.flatten()[order].view_as(parameter))
    return dataclasses.replace(model, network=network, key=f"{model.key} randomised {seed}")


def change(before: np.ndarray, after: np.ndarray) -> float | None:
    """Give 1 - |rank correlation| of two maps `(h, w)` of one shape, in [0, 1]: 1 where their ranks are unrelated.

    0 where their ranks agree or are reversed. None where a map is flat, or holds NaN or infinities, and so has no
    order.
    """
    if not np.isfinite([before, after]).all() or np.ptp(before) == 0 or np.ptp(after) == 0:
        return None
    ranks = [pd.Series(each.ravel()).rank().to_numpy() for each in (before, after)]
    return 1 - abs(float(np.corrcoef(*ranks)[0, 1]))

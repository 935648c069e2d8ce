"""Whether a map depends on what the network has learnt (Adebayo et al., "Sanity Checks for Saliency Maps", 2018)."""

import copy
import dataclasses

import numpy as np
import pandas as pd
import torch

from defectloc.attribution.subject import Subject


def shuffled(subject: Subject, seed: int) -> Subject:
    """Copy a subject with the numbers of each of its weights and biases in random order."""
    network = copy.deepcopy(subject.network)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in network.parameters():
            order = torch.randperm(parameter.numel(), generator=generator).to(parameter.device)
            parameter.copy_(parameter.flatten()[order].view_as(parameter))
    return dataclasses.replace(subject, network=network, key=f"{subject.key} shuffled {seed}")


def change(before: np.ndarray, after: np.ndarray) -> float | None:
    """Give 1 - |rank correlation| of two maps of one size: 0 where the same places are hot, 1 where nothing is left.

    None where a map is flat or overflowed, and so has no order.
    """
    if not np.isfinite([before, after]).all() or np.ptp(before) == 0 or np.ptp(after) == 0:
        return None
    ranks = [pd.Series(each.ravel()).rank().to_numpy() for each in (before, after)]
    return 1 - abs(float(np.corrcoef(*ranks)[0, 1]))

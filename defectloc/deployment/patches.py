"""Memory bank, patch head and novelty as nodes of an ONNX graph: from levels of the trunk to maps."""

from collections.abc import Sequence

import numpy as np
import torch

from defectloc.deployment.graph import Graph
from defectloc.deployment.image import moved
from defectloc.localization.combination import Combination
from defectloc.model.kept_patches import CLAMP
from defectloc.model.memory_bank import MemoryBank
from defectloc.model.novelty import MOST_SDS, Novelty
from defectloc.model.patch_head import PatchHead

# Patches of the bank, or hidden units, at once: a table of distances to those of an image takes 6 MB at 28 x 28 cells.
PIECE = 2048


def standardized(graph: Graph, bank: MemoryBank, levels: Sequence[str]) -> tuple[str, str]:
    """Give the patches `(N h w, C)` of levels in standard deviations of good ones, and the shape (N, h, w)."""
    finest = levels[list(bank.grids).index(bank.grid)]
    parts = []
    for level, grid in zip(levels, bank.grids, strict=True):
        mean = graph.add(
            "AveragePool", level, kernel_shape=[3, 3], strides=[1, 1], pads=[1, 1, 1, 1], count_include_pad=0
        )
        parts.append(mean if grid == bank.grid else moved(graph, mean, grid, bank.grid, finest))
    patches = parts[0] if len(parts) == 1 else graph.add("Concat", *parts, axis=1)
    patches = graph.add("Transpose", patches, perm=[0, 2, 3, 1])
    patches = graph.add("Reshape", patches, graph.integers(-1, len(bank.mean)))
    centred = graph.add("Sub", patches, graph.constant(_numbers(bank.mean)))
    shape = graph.add("Concat", graph.integers(-1), graph.sides(finest, 2, 3), axis=0)
    return graph.add("Div", centred, graph.constant(_numbers(bank.sd))), shape


def distances(graph: Graph, bank: MemoryBank, patches: str, shape: str, piece: int = PIECE) -> str:
    """Give the distances `(N, h, w)` of standardised patches `(N h w, C)` to the nearest of the bank.

    `piece` of its patches at once.
    """
    projected = graph.add("MatMul", patches, graph.constant(_numbers(bank.projection)))
    nearest = []
    for some in bank.vectors.split(piece):
        columns, squares = graph.constant(_numbers(some.T)), graph.constant(_numbers(some.square().sum(1)))
        table = graph.add("Gemm", projected, columns, squares, alpha=-2.0)
        nearest.append(graph.reduce("Min", table, 1))
    lowest = nearest[0] if len(nearest) == 1 else graph.add("Min", *nearest)
    squared = graph.add("Add", lowest, graph.reduce("SumSquare", projected, 1))
    return graph.add("Reshape", graph.add("Sqrt", graph.add("Relu", squared)), shape)


def log_odds(graph: Graph, head: PatchHead, patches: str, shape: str, piece: int = PIECE) -> str:
    """Give the patch head's log-odds `(N, h, w)` of standardised patches `(N h w, C)`: the mean of all members.

    `piece` of all members' hidden units at once.
    """
    hidden, hidden_bias = head.weights["hidden_weight"], head.weights["hidden_bias"]
    output, output_bias = head.weights["output_weight"] / head.n_members, head.weights["output_bias"].mean()
    clamped = graph.add("Clip", patches, graph.constant(-CLAMP), graph.constant(CLAMP))
    first, bias, last = hidden.permute(1, 0, 2).flatten(1), hidden_bias.flatten(), output.reshape(-1, 1)
    found = graph.constant(float(output_bias))
    for columns, shifts, rows in zip(first.split(piece, 1), bias.split(piece), last.split(piece), strict=True):
        sums = graph.add("Gemm", clamped, graph.constant(_numbers(columns)), graph.constant(_numbers(shifts)))
        found = graph.add("Add", found, graph.add("MatMul", _gelu(graph, sums), graph.constant(_numbers(rows))))
    return graph.add("Reshape", found, shape)


def _gelu(graph: Graph, values: str) -> str:
    error = graph.add("Erf", graph.add("Div", values, graph.constant(2**0.5)))
    share = graph.add("Mul", graph.add("Add", error, graph.constant(1.0)), graph.constant(0.5))
    return graph.add("Mul", values, share)


def combined(graph: Graph, combination: Combination, log_odds_: str, distances_: str) -> str:
    """Give the fused maps `(N, h, w)`."""
    centred = graph.add("Sub", distances_, graph.constant(combination.mean))
    share = graph.add("Mul", centred, graph.constant(1 / (combination.sd * combination.saturation)))
    highest = graph.constant(combination.bank_weight * combination.saturation)
    bank = graph.add("Mul", graph.add("Tanh", share), highest)
    return graph.add("Add", graph.add("Mul", log_odds_, graph.constant(combination.head_weight)), bank)


def novelty(graph: Graph, known: Novelty, levels: Sequence[str]) -> str:
    """Give the novelty `(N,)` of images by the bank's levels `(N, C_i, h_i, w_i)`."""
    means = [graph.reduce("Mean", level, 2, 3, keep=False) for level in levels]
    joined = means[0] if len(means) == 1 else graph.add("Concat", *means, axis=1)
    values = graph.add("Asinh", graph.add("Div", joined, graph.constant(known.unit)))
    values = graph.add("Div", graph.add("Sub", values, graph.constant(known.mean)), graph.constant(known.sd))
    values = graph.add("Clip", values, graph.constant(-MOST_SDS), graph.constant(MOST_SDS))
    # The nearest photograph by a product of matrices, then the distance to it alone, which loses no digits.
    kept = graph.constant(known.known)
    squares = graph.constant(np.square(known.known, dtype=np.float64).sum(1))
    table = graph.add("Gemm", values, graph.add("Transpose", kept, perm=[1, 0]), squares, alpha=-2.0)
    nearest = graph.add("Gather", kept, graph.add("ArgMin", table, axis=1, keepdims=0), axis=0)
    difference = graph.add("Sub", values, nearest)
    squared = graph.reduce("Mean", graph.add("Mul", difference, difference), 1, keep=False)
    return graph.add("Div", graph.add("Sqrt", squared), graph.constant(float(known.limit)))


def _numbers(tensor: torch.Tensor) -> np.ndarray:
    return tensor.detach().cpu().float().numpy()

"""From a map to score, probability, label and mask, as nodes of an ONNX graph."""

import numpy as np
from scipy.special import logit

from defectloc.deployment.graph import Graph
from defectloc.localization.decision import Decision
from defectloc.localization.localizer import Localizer
from defectloc.localization.normalization import IVR_PERCENTILE, PER_IMAGE, SCALED, normalize
from defectloc.localization.scores import TOP_K

# IVR_PERCENTILE in whole numbers, since the rank of one pixel is meant.
_IVR = (2, 5)
assert _IVR[0] / _IVR[1] == IVR_PERCENTILE


def top_k_mean(graph: Graph, maps: str) -> str:
    """Give the top-k mean `(N,)` of maps `(N, h, w)`."""
    flat = graph.add("Reshape", maps, graph.integers(0, -1))
    highest = graph.top(flat, graph.add("Min", graph.sides(flat, 1), graph.integers(TOP_K)))
    return graph.reduce("Mean", highest, 1, keep=False)


def score(graph: Graph, decision: Decision, map_score: str | None, log_odds: str | None, name: str) -> str:
    """Give the score `(N,)`, log-odds before calibration, of top-k means and class log-odds `(N,)`."""
    weights = decision.weights
    total = graph.constant([weights.bias])
    for weight, values in ((weights.of_map, map_score), (weights.of_class, log_odds)):
        if weight != 0 and values is not None:
            total = graph.add("Add", total, graph.add("Mul", values, graph.constant(weight)))
    return graph.add("Identity", total, name=name)


def probability(graph: Graph, decision: Decision, scores: str) -> str:
    """Give the probability `(N,)` of a defect at the stated prevalence."""
    calibration = decision.calibration
    shift = calibration.intercept
    if decision.prevalence is not None:
        shift += float(logit(decision.prevalence) - logit(calibration.prevalence))
    scaled = graph.add("Mul", scores, graph.constant(calibration.slope))
    return graph.add("Sigmoid", graph.add("Add", scaled, graph.constant(shift)))


def normalized(graph: Graph, localizer: Localizer, maps: str) -> str:
    """Give maps `(N, H, W)` on the scale of the localizer's threshold, as `localization/normalization.py` does."""
    method = localizer.normalization
    if method == "none":
        return maps
    if method in SCALED:
        assert localizer.scale is not None
        centred = graph.add("Sub", maps, graph.constant(localizer.scale.zero))
        return graph.add("Div", centred, graph.constant(localizer.scale.unit))
    above = maps
    if method != "max":
        floor = graph.reduce("Min", maps, 1, 2) if method == "minmax" else _inferior(graph, maps)
        above = graph.add("Sub", maps, floor)
    above = graph.add("Relu", above)
    highest = graph.reduce("Max", above, 1, 2)
    flat = graph.add("Equal", highest, graph.constant(0.0))
    return graph.add("Div", above, graph.add("Where", flat, graph.constant(1.0), highest))


def _inferior(graph: Graph, maps: str) -> str:
    """Give the value `(N, 1, 1)` that a share IVR_PERCENTILE of each map lies below."""
    flat = graph.add("Reshape", maps, graph.integers(0, -1))
    n = graph.add("Unsqueeze", graph.side(flat, 1), graph.integers(0))
    twice = graph.add("Mul", n, graph.integers(_IVR[0]))
    rank = graph.add("Div", twice, graph.integers(_IVR[1]))
    # Of the highest n - rank values the lowest.
    highest = graph.top(flat, graph.add("Sub", n, rank))
    return graph.add("Unsqueeze", graph.reduce("Min", highest, 1), graph.integers(2))


def shown(graph: Graph, localizer: Localizer, maps: str, full_colour: float, name: str) -> str:
    """Give normalised maps `(N, H, W)` as `(N, 1, H, W)` in [0, 1], as heat maps are shown: 0.5 at the threshold.

    Linear on both sides of it: 1 from `full_colour` on, a value of the map before normalisation, and 0 from 0 down.
    """
    threshold = localizer.threshold
    low, high = _ends(localizer, full_colour)
    difference = graph.add("Sub", maps, graph.constant(threshold))
    over = graph.add("Div", difference, graph.constant(2 * (high - threshold)))
    under = graph.add("Div", difference, graph.constant(2 * (threshold - low)))
    is_over = graph.add("Greater", difference, graph.constant(0.0))
    values = graph.add("Add", graph.add("Where", is_over, over, under), graph.constant(0.5))
    values = graph.add("Clip", values, graph.constant(0.0), graph.constant(1.0))
    return graph.add("Unsqueeze", values, graph.integers(1), name=name)


def _ends(localizer: Localizer, full_colour: float) -> tuple[float, float]:
    threshold = localizer.threshold
    if localizer.normalization in PER_IMAGE:
        # A threshold of 0 leaves nothing below it.
        return min(0.0, threshold - 1e-6), 1.0
    zero, full = (
        float(normalize(np.array([[each]]), localizer.normalization, localizer.scale)[0, 0])
        for each in (0.0, full_colour)
    )
    reach = max(full - threshold, 0.1 * abs(threshold), 1e-6)
    return (zero if zero < threshold else threshold - reach), threshold + reach


def mask(graph: Graph, localizer: Localizer, maps: str, judged_defective: str, name: str) -> str:
    """Give the pixels `(N, 1, H, W)` strictly above the map's threshold, of images `(N,)` that are judged defective."""
    above = graph.add("Greater", maps, graph.constant(localizer.threshold))
    both = graph.add("And", above, graph.add("Unsqueeze", judged_defective, graph.integers(1, 2)))
    return graph.add("Unsqueeze", both, graph.integers(1), name=name)

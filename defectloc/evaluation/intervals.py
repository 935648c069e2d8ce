"""Confidence intervals of rates and of ranking scores, without resampling; none of them has zero width at 0 or 1."""

from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray


def normal_quantile(level: float) -> float:
    """Return z of a two-sided interval: 1.96 for a level of 0.95, in (0, 1)."""
    return NormalDist().inv_cdf((1 + level) / 2)


def wilson(rate: float, n: float, level: float, continuity: bool = False) -> tuple[float, float]:
    """Return Wilson's score interval (low, high) of a rate, in [0, 1], over n trials.

    Without the continuity correction its coverage is near the level on average over the true rates, with it hardly
    ever below for any of them (Wilson, JASA 1927; Newcombe, "Two-sided confidence intervals for the single proportion",
    Stat. Med. 1998, methods 3 and 4).
    """
    z = normal_quantile(level)
    c = 1.0 if continuity else 0.0
    # One formula for both ends: the lower end of the rate of failures is what the upper end leaves to 1.
    ends = []
    for p in (rate, 1 - rate):
        root = z * z - c * (2 + 1 / n) + 4 * p * (n * (1 - p) + c)
        end = (2 * n * p + z * z - c - z * max(root, 0) ** 0.5) / (2 * (n + z * z))
        ends.append(0.0 if p == 0 else max(end, 0.0))
    return ends[0], 1 - ends[1]


def weighted_rates(
    rates: tuple[float, float], n: tuple[int, int], weights: tuple[float, float], level: float
) -> tuple[float, float]:
    """Return the interval of a weighted mean of two independent rates, weights summing to 1.

    From each rate's own interval, by the method of variance estimates recovery (Newcombe, "Interval estimation for the
    difference between independent proportions", Stat. Med. 1998, method 11).
    """
    own = [wilson(rate, m, level, continuity=True) for rate, m in zip(rates, n, strict=True)]
    value = sum(w * rate for w, rate in zip(weights, rates, strict=True))
    below, above = (
        sum((w * (rate - each[end])) ** 2 for w, rate, each in zip(weights, rates, own, strict=True)) ** 0.5
        for end in (0, 1)
    )
    return max(value - below, 0.0), min(value + above, 1.0)


def auroc_interval(
    truth: NDArray[np.bool_], scores: NDArray[np.float64], auroc: float, level: float
) -> tuple[float, float]:
    """Return an interval of the AUROC of N images, labels and scores `(N,)`, both classes present.

    Wilson's interval over an effective number of images, AUROC x (1 - AUROC) / variance. The variance is the larger of
    DeLong's (Biometrics 1988), which knows the spread within each class but is 0 for a perfect separation, and that of
    Newcombe's method 5 ("Confidence intervals for an effect size measure based on the Mann-Whitney statistic, part 2",
    Stat. Med. 2006); at most that of as many pairs as the smaller class has images, which no distribution exceeds.
    """
    bad, good = scores[truth], np.sort(scores[~truth])
    m, n = len(bad), len(good)
    smaller = min(m, n)
    variance = auroc * (1 - auroc)
    if variance == 0:
        return wilson(auroc, smaller, level)
    around = (m + n) / 2 - 1
    model = variance / (m * n) * (1 + around * (1 - auroc) / (2 - auroc) + around * auroc / (1 + auroc))
    of_bad = (np.searchsorted(good, bad, "left") + np.searchsorted(good, bad, "right")) / (2 * n)
    ordered = np.sort(bad)
    of_good = (np.searchsorted(ordered, good, "left") + np.searchsorted(ordered, good, "right")) / (2 * m)
    delong = sum(float(each.var(ddof=1)) / len(each) for each in (of_bad, of_good) if len(each) > 1)
    return wilson(auroc, max(smaller, variance / max(model, delong)), level)

"""Coverage of the intervals, exactly where the outcomes can be counted, else by a seeded simulation."""

from itertools import product
from math import comb

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import average_precision_score, roc_auc_score

from defectloc.evaluation.image import intervals
from defectloc.evaluation.intervals import auroc_interval, weighted_rates, wilson

# Defective and good test images of the smallest and of a middling subset of MVTec AD.
SIZES = [(6, 15), (28, 59)]
TRUE_RATES = (0.5, 0.7, 0.786, 0.847, 0.9, 0.95, 0.98, 0.99)


def binomial(n: int, rate: float) -> np.ndarray:
    return np.array([comb(n, k) * rate**k * (1 - rate) ** (n - k) for k in range(n + 1)])


@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("balanced", [True, False])
def test_balanced_accuracy_and_accuracy_are_covered_whatever_the_true_rates(n: tuple[int, int], balanced: bool) -> None:
    weights = (0.5, 0.5) if balanced else (n[0] / sum(n), n[1] / sum(n))
    outcomes = list(product(range(n[0] + 1), range(n[1] + 1)))
    ends = np.array([weighted_rates((a / n[0], b / n[1]), n, weights, 0.95) for a, b in outcomes])
    for recall, specificity in product(TRUE_RATES, TRUE_RATES):
        true = weights[0] * recall + weights[1] * specificity
        chance = np.outer(binomial(n[0], recall), binomial(n[1], specificity)).ravel()
        covered = chance[(ends[:, 0] <= true) & (true <= ends[:, 1])].sum()
        assert covered >= (0.93 if balanced else 0.92), (recall, specificity)


def test_perfect_results_have_an_interval_with_a_width() -> None:
    labels = np.repeat([1, 0], [6, 15])
    found = intervals(labels, labels, labels)
    for name in ("recall", "specificity", "balanced_accuracy", "accuracy", "auroc", "average_precision"):
        low, high = found[name]
        assert high == 1
        assert 0.4 < low < 0.95
    worst = intervals(labels, 1 - labels, 1 - labels)
    assert worst["balanced_accuracy"][0] == 0
    assert worst["balanced_accuracy"][1] > 0.1
    assert worst["auroc"][0] == 0
    assert worst["auroc"][1] > 0.1


def test_wilson_agrees_with_scipy() -> None:
    for n, k in ((6, 6), (6, 0), (28, 22), (59, 50), (1, 1)):
        for corrected, name in ((False, "wilson"), (True, "wilsoncc")):
            expected = stats.binomtest(k, n).proportion_ci(0.95, method=name)
            assert wilson(k / n, n, 0.95, corrected) == pytest.approx((expected.low, expected.high), abs=1e-12)


def scores_of(kind: str, rng: np.random.Generator, shape: tuple[int, int], distance: float) -> np.ndarray:
    """Scores of defective images: normal, wide, or one in seven not noticed at all."""
    noise = rng.normal(size=shape)
    if kind == "wide":
        return 2 * noise + distance
    return noise + distance * (rng.random(shape) > (1 / 7 if kind == "unnoticed" else 0))


@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("kind", ["normal", "wide", "unnoticed"])
@pytest.mark.parametrize("distance", [0.5, 1.5, 3.0])
def test_auroc_and_average_precision_are_covered(n: tuple[int, int], kind: str, distance: float) -> None:
    rng = np.random.default_rng(0)
    bad, good = scores_of(kind, rng, (400, n[0]), distance), rng.normal(size=(400, n[1]))
    many = np.concatenate([scores_of(kind, rng, (1, 40_000), distance)[0], rng.normal(size=40_000)])
    labels, truth = np.repeat([1, 0], [40_000, 40_000]), np.repeat([True, False], n)
    true_auroc = roc_auc_score(labels, many)
    # At the prevalence of the small set.
    true_ap = average_precision_score(labels, many, sample_weight=np.where(labels == 1, n[0], n[1]))
    scores = np.concatenate([bad, good], axis=1)
    aurocs = (bad[:, :, None] > good[:, None]).mean((1, 2))
    hits = truth[np.argsort(-scores, axis=1)]
    precision = hits.cumsum(1) / np.arange(1, sum(n) + 1)
    auroc = [auroc_interval(truth, each, float(value), 0.95) for each, value in zip(scores, aurocs, strict=True)]
    ap = [wilson(float(value), n[0], 0.95) for value in (precision * hits).sum(1) / n[0]]
    for true, ends in ((true_auroc, np.array(auroc)), (true_ap, np.array(ap))):
        # 400 repeats are known to within 0.01.
        assert ((ends[:, 0] <= true) & (true <= ends[:, 1])).mean() >= 0.915


def test_an_auroc_of_tied_scores() -> None:
    truth = np.array([True, True, False, False, False])
    low, high = auroc_interval(truth, np.zeros(5), 0.5, 0.95)
    assert 0 < low < 0.25
    assert 0.75 < high < 1
    assert low + high == pytest.approx(1)

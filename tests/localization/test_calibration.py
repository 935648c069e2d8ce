import numpy as np
import pytest
import torch
from scipy.special import expit, logit
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import brier_score_loss
from torchmetrics.functional.classification import binary_calibration_error

from defectloc.errors import DefectlocError
from defectloc.localization.calibration import Calibration, brier_score, expected_calibration_error, fit_platt


def calibrated(n: int = 400, seed: int = 0, sd: float = 2.0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    log_odds = rng.normal(0, sd, n)
    return rng.random(n) < expit(log_odds), log_odds


@pytest.mark.parametrize(("scale", "shift"), [(1.0, 0.0), (100.0, 5.0), (0.01, -3.0), (1e-6, 1e6)])
def test_platt_agrees_with_scikit_learn_on_smoothed_targets(scale: float, shift: float) -> None:
    labels, log_odds = calibrated()
    n_bad, n_good = labels.sum(), (~labels).sum()
    targets = np.where(labels, (n_bad + 1) / (n_bad + 2), 1 / (n_good + 2))
    # A soft target is an image of either class, with the target and its complement as weights.
    model = LogisticRegression(C=np.inf, tol=1e-12, max_iter=1000)
    twice = np.concatenate([log_odds, log_odds])[:, None]
    model.fit(twice, np.repeat([1, 0], len(labels)), sample_weight=np.concatenate([targets, 1 - targets]))
    fitted = fit_platt(labels, log_odds * scale + shift)
    assert fitted.slope * scale == pytest.approx(model.coef_[0, 0], rel=1e-4)
    assert fitted.slope * shift + fitted.intercept == pytest.approx(model.intercept_[0], rel=1e-3, abs=1e-4)
    assert fitted.prevalence == labels.mean()
    assert not fitted.fallback


def test_platt_undoes_slope_and_intercept() -> None:
    labels, log_odds = calibrated(200_000)
    fitted = fit_platt(labels, 4 * log_odds + 6)
    assert fitted.slope == pytest.approx(1 / 4, rel=0.03)
    assert fitted.intercept == pytest.approx(-6 / 4, rel=0.03)
    assert expected_calibration_error(labels, expit(fitted.log_odds(4 * log_odds + 6))) < 0.01
    assert expected_calibration_error(labels, expit(4 * log_odds + 6)) > 0.2


def test_mean_probability_is_the_share_of_defects() -> None:
    labels, log_odds = calibrated(1000)
    keep = ~labels | (np.arange(1000) % 5 == 0)
    fitted = fit_platt(labels[keep], log_odds[keep])
    assert expit(fitted.log_odds(log_odds[keep])).mean() == pytest.approx(labels[keep].mean(), abs=0.003)


def test_classes_that_are_separated_completely_give_a_finite_slope() -> None:
    labels, scores = np.repeat([0, 1], 20), np.arange(40.0)
    fitted = fit_platt(labels, scores)
    assert 0 < fitted.slope < 10
    probabilities = expit(fitted.log_odds(scores))
    # Smoothed: about one in twenty-two may be of the other class.
    assert probabilities[0] < 1 / 22 < probabilities[19] < 0.5 < probabilities[20] < 21 / 22 < probabilities[39]
    assert not fitted.fallback


@pytest.mark.parametrize(
    ("labels", "scores"), [([0, 1], [2, -1]), ([0, 1, 0, 0], [0, 0, 0, 0]), ([1, 0, 0, 0], [-9, 8, 7, 9])]
)
def test_scores_no_better_than_chance_calibrate_the_intercept_only(labels: list[int], scores: list[float]) -> None:
    fitted = fit_platt(labels, scores)
    assert fitted.fallback
    assert fitted.slope == 1
    n_bad, n_good = sum(labels), len(labels) - sum(labels)
    mean_target = (n_bad * (n_bad + 1) / (n_bad + 2) + n_good / (n_good + 2)) / len(labels)
    assert expit(fitted.log_odds(scores)).mean() == pytest.approx(mean_target)
    assert "only the intercept" in fitted.sentence


@pytest.mark.parametrize("labels", [[], [0, 0], [1, 1]])
def test_one_class_is_not_calibrated(labels: list[int]) -> None:
    fitted = fit_platt(labels, [-1.0, 2.0][: len(labels)])
    assert fitted.fallback
    assert (fitted.slope, fitted.intercept, fitted.prevalence) == (1, 0, 0.5)
    assert "not calibrated" in fitted.sentence


def test_a_stated_prevalence_shifts_the_log_odds() -> None:
    calibration = Calibration(slope=0.5, intercept=1.0, prevalence=0.3)
    shifted = calibration.log_odds([0.0, 4.0], prevalence=0.04)
    np.testing.assert_allclose(shifted, np.array([1.0, 3.0]) + logit(0.04) - logit(0.3))
    np.testing.assert_allclose(calibration.log_odds([0.0, 4.0], prevalence=0.3), [1, 3])
    assert expit(calibration.log_odds(calibration.score_at(0.2, 0.04), 0.04)) == pytest.approx(0.2)


def test_calibration_error_by_hand() -> None:
    labels, probabilities = [0, 1, 1, 1, 0], [0.1, 0.3, 0.8, 0.9, 1.0]
    # Two bins: |1 - 0.4| and |2 - 2.7|, over five images.
    assert expected_calibration_error(labels, probabilities, bins=2) == pytest.approx((0.6 + 0.7) / 5)
    assert expected_calibration_error([0, 1], [0, 1]) == 0
    assert expected_calibration_error([1, 0], [0, 1]) == 1
    assert expected_calibration_error([], []) is None


@pytest.mark.parametrize("bins", [5, 15])
def test_calibration_error_agrees_with_torchmetrics(bins: int) -> None:
    labels, log_odds = calibrated()
    probabilities = expit(3 * log_odds)
    expected = binary_calibration_error(torch.tensor(probabilities), torch.tensor(labels).int(), n_bins=bins)
    assert expected_calibration_error(labels, probabilities, bins) == pytest.approx(float(expected), abs=1e-6)


def test_brier_score_agrees_with_scikit_learn() -> None:
    labels, log_odds = calibrated()
    assert brier_score(labels, expit(log_odds)) == pytest.approx(brier_score_loss(labels, expit(log_odds)))
    assert brier_score([], []) is None


def test_bad_requests_are_refused() -> None:
    for call in (
        lambda: fit_platt([0, 1], [np.nan, 0]),
        lambda: expected_calibration_error([0, 1], [0.5, 1.5]),
        lambda: expected_calibration_error([0, 1], [0.5, 0.5], bins=0),
        lambda: brier_score([0, 1], [-0.5, 0.5]),
    ):
        with pytest.raises(DefectlocError):
            call()

import numpy as np
import pytest
from scipy.optimize import minimize_scalar
from scipy.special import expit

from defectloc.errors import DefectlocError
from defectloc.localization.calibration import expected_calibration_error, fit_temperature, probability


def drawn(temperature: float, n: int = 400, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    log_odds = rng.normal(0, 2, n)
    return rng.random(n) < expit(log_odds), log_odds * temperature


def test_probability_is_the_logistic_function() -> None:
    values = np.array([-1e4, -3, 0, 3, 1e4])
    np.testing.assert_allclose(probability(values, 2), expit(values / 2), atol=1e-15)


@pytest.mark.parametrize("temperature", [0.01, 0.5, 1, 4, 1000])
def test_temperature_minimises_the_log_loss_as_scipy_does(temperature: float) -> None:
    labels, log_odds = drawn(temperature)

    def loss(log_t: float) -> float:
        return float(np.logaddexp(0, np.where(labels, -log_odds, log_odds) / np.exp(log_t)).mean())

    fitted = fit_temperature(labels, log_odds)
    start = np.log(temperature)
    expected = minimize_scalar(loss, bounds=(start - 2, start + 2), method="bounded", options={"xatol": 1e-9})
    assert fitted.temperature == pytest.approx(np.exp(expected.x), rel=1e-4)
    assert not fitted.fallback


def test_overconfident_log_odds_are_better_calibrated_after() -> None:
    fitted = fit_temperature(*drawn(4))
    assert fitted.temperature == pytest.approx(4, rel=0.3)
    assert fitted.ece_after < fitted.ece_before / 2


@pytest.mark.parametrize(
    ("labels", "log_odds"),
    [
        ([], []),
        ([1, 1], [-1, 2]),
        ([0, 0], [-1, 2]),
        ([0, 1], [-1, 2]),
        ([0, 1], [2, -1]),
        ([0, 1, 0, 1], [0, 0, 0, 0]),
    ],
)
def test_without_a_best_temperature_it_stays_one_and_says_so(labels: list[int], log_odds: list[float]) -> None:
    fitted = fit_temperature(labels, log_odds)
    assert fitted.fallback
    assert fitted.temperature == 1
    assert "stays 1" in fitted.sentence
    assert fitted.ece_before == fitted.ece_after


def test_calibration_error_by_hand() -> None:
    labels, probabilities = [0, 1, 1, 1, 0], [0.1, 0.3, 0.8, 0.9, 1.0]
    # Two bins: |1 - 0.4| and |2 - 2.7|, over five images.
    assert expected_calibration_error(labels, probabilities, bins=2) == pytest.approx((0.6 + 0.7) / 5)
    assert expected_calibration_error([0, 1], [0, 1]) == 0
    assert expected_calibration_error([1, 0], [0, 1]) == 1
    assert expected_calibration_error([], []) is None


def test_calibration_error_agrees_with_a_loop() -> None:
    labels, log_odds = drawn(3)
    probabilities = expit(log_odds)
    expected = 0.0
    for low in np.arange(15) / 15:
        inside = (probabilities >= low) & (probabilities < low + 1 / 15)
        if inside.any():
            expected += inside.mean() * abs(probabilities[inside].mean() - labels[inside].mean())
    assert expected_calibration_error(labels, probabilities) == pytest.approx(expected)


def test_bad_requests_are_refused() -> None:
    for call in (
        lambda: fit_temperature([0, 1], [np.nan, 0]),
        lambda: expected_calibration_error([0, 1], [0.5, 1.5]),
        lambda: expected_calibration_error([0, 1], [0.5, 0.5], bins=0),
    ):
        with pytest.raises(DefectlocError):
            call()

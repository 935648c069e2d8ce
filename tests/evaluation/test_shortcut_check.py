"""The shortcut check."""

import numpy as np
import pandas as pd
import pytest

from defectloc.evaluation.shortcut import FEWEST, LEAST_BANK_AUROC, is_informative, is_suspicious, shortcut_scores


def images(retained: list[float], label: int = 1) -> pd.DataFrame:
    n = len(retained)
    return pd.DataFrame(
        {
            "label": label,
            "log_odds": 4.0,
            "retained_log_odds": retained,
            "retained_area": np.linspace(0, 0.4, n),
            "retained_evidence": 0.5,
            "on_defect": np.nan,
        }
    )


def test_shares_by_hand() -> None:
    missed = images([9.0]).assign(log_odds=-1.0)
    scores = shortcut_scores(pd.concat([images([4.0, 2.0, -1.0, 8.0, 1.0]), missed, images([3.0], label=0)]))
    assert scores["n_found"] == 5
    assert scores["retained_share"] == pytest.approx(0.8)
    # 1, 0.5, 0, 1 (more than before is no more than all), 0.25
    assert scores["retained_log_odds"] == pytest.approx(0.5)
    assert scores["retained_area"] == pytest.approx(0.2)
    assert scores["on_defect"] is None
    assert not is_suspicious(scores, 1.0)


@pytest.mark.parametrize(("n", "suspicious"), [(FEWEST, True), (FEWEST - 1, False)])
def test_a_shortcut_is_reported_once_there_are_enough_images(n: int, suspicious: bool) -> None:
    assert is_suspicious(shortcut_scores(images([-1.0] * n)), 0.9) == suspicious


@pytest.mark.parametrize(("auroc", "informative"), [(None, False), (0.574, False), (LEAST_BANK_AUROC, True)])
def test_nothing_is_reported_where_the_bank_cannot_tell(auroc: float | None, informative: bool) -> None:
    assert is_informative(auroc) == informative
    assert is_suspicious(shortcut_scores(images([-1.0] * 20)), auroc) == informative


def test_nothing_found_is_null() -> None:
    scores = shortcut_scores(images([1.0], label=0))
    assert scores["n_found"] == 0
    assert scores["retained_share"] is None
    assert not is_suspicious(scores, 1.0)

"""Right for the right reason."""

import numpy as np
import pandas as pd
import pytest

from defectloc.evaluation.evidence import FEWEST, evidence_scores, is_suspicious


def images(kept: list[float], label: int = 1) -> pd.DataFrame:
    n = len(kept)
    return pd.DataFrame(
        {
            "label": label,
            "log_odds": 4.0,
            "kept_log_odds": kept,
            "kept_area": np.linspace(0, 0.4, n),
            "kept_evidence": 0.5,
            "on_defect": np.nan,
        }
    )


def test_shares_by_hand() -> None:
    missed = images([9.0]).assign(log_odds=-1.0)
    scores = evidence_scores(pd.concat([images([4.0, 2.0, -1.0, 8.0, 1.0]), missed, images([3.0], label=0)]))
    assert scores["n_found"] == 5
    assert scores["still_found"] == pytest.approx(0.8)
    # 1, 0.5, 0, 1 (more than before is no more than all), 0.25
    assert scores["kept_log_odds"] == pytest.approx(0.5)
    assert scores["kept_area"] == pytest.approx(0.2)
    assert scores["on_defect"] is None
    assert not is_suspicious(scores)


@pytest.mark.parametrize(("n", "suspicious"), [(FEWEST, True), (FEWEST - 1, False)])
def test_a_wrong_reason_is_told_once_there_is_enough_to_tell(n: int, suspicious: bool) -> None:
    assert is_suspicious(evidence_scores(images([-1.0] * n))) == suspicious


def test_nothing_found_is_null() -> None:
    scores = evidence_scores(images([1.0], label=0))
    assert scores["n_found"] == 0
    assert scores["still_found"] is None
    assert not is_suspicious(scores)

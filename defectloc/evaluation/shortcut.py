"""Shortcut check: does the class decision rest on what the memory bank finds anomalous about a part?"""

from typing import Any

import numpy as np
import pandas as pd

# Where fewer of the defects found are retained, the network judges by something else.
LEAST_RETAINED = 0.5
# Of fewer defects found nothing is said.
FEWEST = 5
# A memory bank below this image AUROC does not know where the defects are, so what it leaves over says nothing.
LEAST_BANK_AUROC = 0.7


def shortcut_scores(images: pd.DataFrame) -> dict[str, Any]:
    """Score what the class decision rests on, over the N defective images that the classifier finds.

    `images` has `label, log_odds, retained_log_odds` (the log-odds once all cells that are not anomalous are replaced
    by normal features), `retained_area`, `retained_evidence` and `on_defect`: the shares, 0 to 1, of the class map's
    cells that are anomalous, and of its positive evidence that lies on those and on the ground truth (NaN where it is
    not known). Gives `n_found`, medians of the three, `retained_log_odds` as the median share, 0 to 1, of the log-odds
    that is retained, and `retained_share` as the share of images that are still predicted defective; None where nothing
    is found.
    """
    found = images[(images["label"] == 1) & (images["log_odds"] > 0)]
    share = (found["retained_log_odds"] / found["log_odds"]).clip(0, 1)

    def median(values: pd.Series) -> float | None:
        value = values.median()
        return None if np.isnan(value) else float(value)

    return {
        "n_found": len(found),
        "retained_share": float((found["retained_log_odds"] > 0).mean()) if len(found) else None,
        "retained_log_odds": median(share),
        "retained_evidence": median(found["retained_evidence"]),
        "retained_area": median(found["retained_area"]),
        "on_defect": median(found["on_defect"]),
    }


def is_informative(bank_auroc: float | None) -> bool:
    """Tell whether the check can say anything: the bank's image AUROC on the validation split, None if not measured."""
    return bank_auroc is not None and bank_auroc >= LEAST_BANK_AUROC


def is_suspicious(scores: dict[str, Any], bank_auroc: float | None) -> bool:
    """Tell whether the network judges by something other than the anomaly; never where `is_informative` says no."""
    enough = scores["n_found"] >= FEWEST and is_informative(bank_auroc)
    return enough and scores["retained_share"] < LEAST_RETAINED

"""Right for the right reason: does the class decision rest on what is unusual about a part?"""

from typing import Any

import numpy as np
import pandas as pd

# Where fewer of the defects found stay found, the network judges by something else.
LEAST_KEPT = 0.5
# Of fewer defects found nothing is said.
FEWEST = 5


def evidence_scores(images: pd.DataFrame) -> dict[str, Any]:
    """Score what the class decision rests on, over the N defective images that the classifier finds.

    `images` has `label, log_odds, kept_log_odds` (once all that is not unusual is replaced by good parts' features),
    `kept_area`, `kept_evidence` and `on_defect`: the shares, 0 to 1, of the class map's cells that are unusual, and of
    its positive evidence that lies on those and on the ground truth (NaN where it is not known). Gives `n_found`,
    medians of the three, `kept_log_odds` as the median share, 0 to 1, of the log-odds that stays, and `still_found` as
    the share of images that stay defective; None where nothing is found.
    """
    found = images[(images["label"] == 1) & (images["log_odds"] > 0)]
    share = (found["kept_log_odds"] / found["log_odds"]).clip(0, 1)

    def median(values: pd.Series) -> float | None:
        value = values.median()
        return None if np.isnan(value) else float(value)

    return {
        "n_found": len(found),
        "still_found": float((found["kept_log_odds"] > 0).mean()) if len(found) else None,
        "kept_log_odds": median(share),
        "kept_evidence": median(found["kept_evidence"]),
        "kept_area": median(found["kept_area"]),
        "on_defect": median(found["on_defect"]),
    }


def is_suspicious(scores: dict[str, Any]) -> bool:
    """Tell whether the network judges by something other than what is unusual about the parts."""
    return scores["n_found"] >= FEWEST and scores["still_found"] < LEAST_KEPT

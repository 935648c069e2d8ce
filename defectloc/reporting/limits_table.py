"""What a page shows at each threshold of its slider, as text and places that a browser looks up."""

from collections.abc import Mapping, Sequence
from typing import Any

from defectloc.evaluation.operating_points import limits_of
from defectloc.localization.decision import Decision
from defectloc.reporting.charts import Chart
from defectloc.reporting.run_words import MOVING, NO_BOXES, NOT_MEASURED, OWN, counted


def limits_content(
    decision: Decision,
    at_limits: Sequence[Mapping[str, Any]],
    types: Sequence[Mapping[str, Any]],
    charts: Mapping[str | None, Chart],
) -> dict[str, Any]:
    """Give `own`, the place of the run's own threshold, and for each of `limits` what is shown there.

    A limit has `text` by the name of its place in the page, `scores` (numbers, None where not measured), `markers` (the
    places of points in `charts` by their `marker`, None where there is none) and `percent`, its place on a scale.
    `types` have `right` and `share` by limit.
    """
    limits, own = limits_of(decision)
    probabilities = [limit.probability for limit in limits]
    content = []
    for number, (limit, scores) in enumerate(zip(limits, at_limits, strict=True)):
        counts = scores["confusion"]
        text = {
            "threshold": told_apart(limit.probability, probabilities, digits=3 if number == own else 2),
            "own": OWN if number == own else "",
            "missed": counted(counts["fn"], counts["fn"] + counts["tp"], "no defective photograph"),
            "rejected": counted(counts["fp"], counts["fp"] + counts["tn"], "no good photograph"),
            **{key: str(counts[key]) for key in ("tp", "fn", "fp", "tn")},
            **{key: NOT_MEASURED if scores[key] is None else f"{scores[key]:.3f}" for key in MOVING},
        }
        for place, each in enumerate(types):
            text |= {f"type{place}": str(each["right"][number]), f"share{place}": each["share"][number]}
        content.append(
            {
                "text": text,
                "scores": {key: scores[key] for key in (*MOVING, "confusion")},
                "markers": _markers(scores, charts),
                "percent": f"{100 * limit.probability:.2f}%",
            }
        )
    return {"own": own, "limits": content, "no_boxes": NO_BOXES}


def told_apart(value: float, others: Sequence[float], digits: int = 3) -> str:
    """Write a number in [0, 1] with as many digits as tell it from those of the others that are not equal to it."""
    differ = [other for other in others if other != value]
    while digits < 16 and f"{value:.{digits}f}" in {f"{other:.{digits}f}" for other in differ}:
        digits += 1
    return f"{value:.{digits}f}"


def _markers(scores: Mapping[str, Any], charts: Mapping[str | None, Chart]) -> dict[str, tuple[float, float] | None]:
    counts = scores["confusion"]
    found: dict[str, tuple[float, float] | None] = {}
    if "roc" in charts:
        found["roc"] = charts["roc"].place(1 - scores["specificity"], scores["recall"])
    if "precision" in charts:
        rejected = counts["tp"] + counts["fp"]
        chart = charts["precision"]
        found["precision"] = chart.place(scores["recall"], counts["tp"] / rejected) if rejected else None
    return found

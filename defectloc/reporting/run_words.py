"""The sentences and tables of a run's report."""

from collections.abc import Mapping
from typing import Any

from defectloc.evaluation.shortcut import FEWEST, is_informative, is_suspicious
from defectloc.localization.decision import Decision
from defectloc.reporting.tables import TITLES

OWN = "(the run's own)"
NOT_MEASURED = "–"
NO_BOXES = "no boxes: passed as good"
NOTHING_ABOVE = "no boxes: the heat map is nowhere above its own threshold"
INTERVALS = (
    "The 95 % intervals say how far these rates may be off because only so many photographs were tested, given this "
    "one fit; another fold or seed varies beyond them."
)
CURVES = "How well the scores rank the test photographs, how often the probabilities are right, and how the fit went."
MAPS = {
    "cam": "the class network",
    "class": "the class network",
    "memory": "memory bank",
    "fusion": "memory bank and patch head together",
}
NO_HISTORY = "No class network was fitted, so there are no training curves."
CALIBRATION = (
    "Calibration: the share of defective test photographs among those of similar probability, with 95 % intervals; on "
    "the diagonal the probability is right as often as it says"
)
# Scores that move with the threshold.
MOVING = {
    "recall": "defects caught (recall)",
    "specificity": "good parts passed (specificity)",
    "balanced_accuracy": "balanced accuracy, mean of both",
    "accuracy": "accuracy, all verdicts that are right",
    "box_f1_30": "box F1, IoU 0.3",
    "box_f1_50": "box F1, IoU 0.5",
    "box_accuracy_30": "defects with a box of IoU 0.3",
    "false_boxes_per_good_image": "false boxes per good image",
}
MEANINGS = {
    "balanced_accuracy": "mean of the share of defects caught and the share of good parts passed",
    "accuracy": "share of all verdicts that are right",
    "auroc": "chance that a defective part has a higher score than a good one; 0.5 is guessing",
    "average_precision": "mean share of true defects among the rejected parts, over all shares of defects caught",
    "f1_max": "of precision and recall, at the best of all thresholds",
    "tpr_at_5_fpr": "share of defects caught where at most 5 % of the good parts are rejected",
    "pixel_auroc": "chance that a pixel of a defect has a higher value than a normal one",
    "pixel_ap": "mean share of defect pixels among the highest pixels",
    "aupro": "share of each true region that is covered, over few false pixels",
    "pointing_game": "share of defective photographs whose highest value lies on the defect",
    "max_box_acc_v2": "share of defects boxed at the best of all thresholds, an upper bound",
    "box_accuracy_30": "share of defective photographs with a box that overlaps a defect by 0.3",
    "box_f1_30": "boxes and defects matched one to one, overlap at least 0.3",
    "box_f1_50": "boxes and defects matched one to one, overlap at least 0.5",
    "false_boxes_per_good_image": "boxes on good parts",
}


def introduction(
    metrics: Mapping[str, Any],
    class_counts: Mapping[str, tuple[int, int]],
    settings: Mapping[str, Any],
    decision: Decision,
) -> list[str]:
    """Say what was trained on what, and what the numbers are of."""
    of_map, of_decision = (MAPS.get(str(settings.get(k)), "–") for k in ("localization.map", "decision.score"))
    how = f"heat map by {of_map}, decision by {of_decision}"
    if of_map == of_decision:
        how = f"heat map and decision by {of_map}"
        if decision.weights.of_map and decision.weights.of_class:
            how = f"heat map by {of_map}, decision by that map and the class network"
    tiles = settings.get("data.tiles", "none")
    seen = (
        settings.get("image_size") if tiles == "none" else f"{settings.get('data.image_size')} px, tiles of {tiles} px"
    )
    network = f"{settings.get('model.name')}, {seen}"
    fitted = (
        f"A model ({network}; {how}) learned from {_split('train', class_counts)} of "
        f"“{metrics['subset']}” ({settings.get('data.name')}), each labelled only as good or defective."
    )
    chosen = ""
    if sum(class_counts.get("validation", (0, 0))):
        chosen = f" {_split('validation', class_counts)} served to set threshold and probabilities."
    tested = (
        f"It then judged {_split('test', class_counts)} that it had not seen. All numbers below are of these test "
        "photographs."
    )
    return [fitted + chosen, tested]


def _split(name: str, class_counts: Mapping[str, tuple[int, int]]) -> str:
    good, defective = class_counts.get(name, (0, 0))
    return f"{good + defective} photographs ({good} good, {defective} defective)"


def numbers(metrics: Mapping[str, Any], decision: Decision) -> list[dict[str, Any]]:
    """Give the two numbers of a manager, and the operating point that they hold at."""
    counts, intervals = metrics["confusion"], metrics["intervals_95"]
    return [
        _number(
            "missed",
            "Missed defects (escapes)",
            (counts["fn"], counts["fn"] + counts["tp"]),
            intervals.get("recall"),
            "Defective parts that would be passed as good.",
        ),
        _number(
            "rejected",
            "Good parts rejected (overkill)",
            (counts["fp"], counts["fp"] + counts["tn"]),
            intervals.get("specificity"),
            "False alarms: good parts that would be taken out.",
        ),
        {
            "kind": "point",
            "title": "Operating point",
            "value": f"p > {decision.threshold.probability:.3f}",
            "lines": [
                "A part is rejected when its probability of a defect is above this threshold.",
                f"{_origin(decision)}{_review(metrics, decision)}",
            ],
        },
    ]


def _origin(decision: Decision) -> str:
    if decision.threshold_from == "Fixed.":
        return "The threshold was given as a fixed value."
    return f"Chosen on the validation photographs. {decision.threshold_from}"


def _review(metrics: Mapping[str, Any], decision: Decision) -> str:
    if metrics.get("share_to_review") is None:
        return ""
    return (
        f" Up to {decision.defective_above.probability:.3f} a person decides: {metrics['share_to_review']:.1%} of the "
        "photographs go to review, and count as rejected here."
    )


def _number(
    kind: str, title: str, counts: tuple[int, int], right: tuple[float, float] | None, what: str
) -> dict[str, Any]:
    """Describe `counts` = (wrong, of); `right` is the interval of the share that is decided right."""
    wrong, of = counts
    value = f"{wrong} of {of}" if of else "not measured"
    line = "There is no such test photograph."
    if of and right is not None:
        line = f"{100 * wrong / of:.1f} %; 95 % interval {100 * (1 - right[1]):.1f} to {100 * (1 - right[0]):.1f} %"
    return {"kind": kind, "title": title, "value": value, "lines": [line, what]}


def counted(n: int, of: int, none: str) -> str:
    """Write `n of m (share)`, or `none` where there is nothing to count."""
    return f"{n} of {of} ({100 * n / of:.1f} %)" if of else none


def calibration(decision: Decision, error: float | None) -> str:
    """Say how well the probabilities hold on the test photographs, and for which share of defects."""
    measured = "" if error is None else f" Expected calibration error on the test photographs: {error:.3f}."
    note = f"Calibration: {decision.calibration.sentence}{measured}"
    if decision.prevalence is not None:
        note += (
            f" The probabilities on this page are those of a line with a share of {decision.prevalence:g} defective "
            f"parts; the curve shows them as calibrated, for a share of {decision.calibration.prevalence:.3f}."
        )
    return note


def scores(metrics: Mapping[str, Any]) -> list[dict[str, str]]:
    """List the scores of a run that could be measured, with their intervals and what they mean."""
    rows = []
    for key, title in TITLES.items():
        if metrics.get(key) is None:
            continue
        pair = metrics["intervals_95"].get(key)
        interval = f"{pair[0]:.3f} to {pair[1]:.3f}" if pair else ""
        value = f"{metrics[key]:.3f}"
        rows.append({"title": title, "value": value, "interval": interval, "meaning": MEANINGS.get(key, "")})
    network = metrics.get("class_network") or {}
    for key in ("balanced_accuracy", "auroc"):
        if network.get(key) is not None:
            title, meaning = f"{TITLES[key]}, class network", "of the class network alone, for comparison"
            rows.append({"title": title, "value": f"{network[key]:.3f}", "interval": "", "meaning": meaning})
    return rows


def shortcut(metrics: Mapping[str, Any], picture: str | None) -> dict[str, Any] | None:
    """Explain the shortcut check in one sentence; None where it was not made or nothing was caught."""
    found = metrics.get("shortcut")
    if not found or found["retained_share"] is None:
        return None
    warns = is_suspicious(found, found.get("bank_auroc"))
    if not is_informative(found.get("bank_auroc")):
        means = "but the memory bank, which tells what is anomalous, is too weak here for the check to say anything"
    elif warns:
        means = "so it mostly judges by something else than the defect, such as light, background or session"
    elif found["n_found"] < FEWEST:
        means = "but these are too few to tell whether it judges by the defect"
    else:
        means = "so its verdicts rest mostly on the defects themselves"
    counted = (
        "1 defective test photograph" if found["n_found"] == 1 else f"{found['n_found']} defective test photographs"
    )
    sentence = (
        f"Of {counted} that the class network predicts defective, "
        f"{found['retained_share']:.0%} stay so when all but the anomaly is replaced by features of good parts, "
        f"{means}."
    )
    described = (
        "The photographs that lose most of their log-odds: each with its class activation map and its anomaly map, "
        "outside which the features were replaced"
    )
    return {"sentence": sentence, "warns": warns, "picture": picture, "described": described}

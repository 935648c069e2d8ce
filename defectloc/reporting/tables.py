"""Tables for the terminal."""

import sys
from collections.abc import Iterable
from typing import Any

from rich.console import Console
from rich.table import Table

from defectloc.evaluation.shortcut import FEWEST, is_informative, is_suspicious
from defectloc.localization.decision import Decision

TITLES = {
    "balanced_accuracy": "balanced accuracy",
    "accuracy": "accuracy",
    "auroc": "AUROC",
    "average_precision": "average precision",
    "f1_max": "best F1 of any threshold",
    "tpr_at_5_fpr": "defects predicted at 5 % false alarms",
    "pixel_auroc": "pixel AUROC",
    "pixel_ap": "pixel AP",
    "aupro": "AUPRO (FPR to 0.3)",
    "pointing_game": "pointing game",
    "max_box_acc_v2": "MaxBoxAccV2 (oracle threshold)",
    "box_accuracy_30": "box accuracy, IoU 0.3",
    "box_f1_30": "box F1, IoU 0.3",
    "box_f1_50": "box F1, IoU 0.5",
    "false_boxes_per_good_image": "false boxes per good image",
}
CONDITIONAL = "intervals: over the choice of test images, given this one fit; another fold or seed varies beyond them"

Row = tuple[str, str, str]


def print_scores(title: str, scores: dict[str, Any], rows: Iterable[Row] = ()) -> None:
    """Print the scores that could be measured, with their 95 % intervals, and further rows of text."""
    intervals = {key: pair for key, pair in (scores.get("intervals_95") or {}).items() if pair is not None}
    table = Table(title=title, title_justify="left", caption_justify="left")
    table.caption = CONDITIONAL if any(key in TITLES for key in intervals) else None
    table.add_column("score")
    table.add_column("value", justify="right")
    table.add_column("95 % interval")
    for key, name in TITLES.items():
        if scores.get(key) is not None:
            spread = f"{intervals[key][0]:.3f} to {intervals[key][1]:.3f}" if key in intervals else ""
            table.add_row(name, f"{scores[key]:.3f}", spread)
    table.add_section()
    for row in rows:
        table.add_row(*row)
    Console().print(table)


def print_metrics(metrics: dict[str, Any], decision: Decision | None = None) -> None:
    """Print the table of one run, and a warning where its class network decides by a shortcut."""
    confusion = metrics["confusion"]
    n_defective, n_good = confusion["tp"] + confusion["fn"], confusion["tn"] + confusion["fp"]
    rows = [
        (
            "defective, predicted defective",
            f"{confusion['tp']} of {n_defective}",
            f"{confusion['fn']} missed (escapes)",
        ),
        *_by_type(metrics["by_defect_type"]),
        ("good, predicted good", f"{confusion['tn']} of {n_good}", f"{confusion['fp']} false alarms (overkill)"),
        *_verdicts(metrics, decision),
        *_class_network(metrics.get("class_network")),
        *_shortcut(metrics.get("shortcut")),
    ]
    print_scores(f"{metrics['subset']}, fold {metrics['fold']}: {metrics['n_test']} test images", metrics, rows)
    shortcut = metrics.get("shortcut")
    if shortcut and is_suspicious(shortcut, shortcut.get("bank_auroc")):
        print(
            f"WARNING: the class network decides by a shortcut: of {shortcut['n_found']} defective test images that it "
            f"predicts defective, {shortcut['retained_share']:.0%} are retained under counterfactual replacement of "
            "all but the anomaly by normal features (shortcut.png). Do the photographs differ by light, background or "
            "session?",
            file=sys.stderr,
        )


def _by_type(types: list[dict[str, Any]]) -> list[Row]:
    defective = [row for row in types if row["label"]]
    # Of a source without types the row would repeat the one above.
    untyped = [row["defect_type"] for row in defective] == ["defective"]
    return [] if untyped else [(f"  {row['defect_type']}", f"{row['correct']} of {row['n']}", "") for row in defective]


def _verdicts(metrics: dict[str, Any], decision: Decision | None) -> list[Row]:
    """Say from which probability on an image is predicted defective, and how many go to a human."""
    rows = []
    if decision is not None:
        rows.append(("threshold of the probability", f"{decision.threshold.probability:.3f}", ""))
    if metrics.get("share_to_review") is not None:
        band = f"probability up to {decision.defective_above.probability:.3f}" if decision is not None else ""
        rows.append(("sent to a human", f"{metrics['share_to_review']:.1%}", band))
    return rows


def _class_network(scores: dict[str, Any] | None) -> list[Row]:
    """Give the scores of the class network's own decision beside those of the default's."""
    if not scores:
        return []
    names = {"balanced_accuracy": "balanced accuracy, class network", "auroc": "AUROC, class network"}
    return [(name, f"{scores[key]:.3f}", "") for key, name in names.items() if scores.get(key) is not None]


def _shortcut(scores: dict[str, Any] | None) -> list[Row]:
    if not scores or scores["retained_share"] is None:
        return []
    share = f"{scores['retained_share']:.0%} of {scores['n_found']}"
    remark = "retained log-odds above 0"
    if not is_informative(scores.get("bank_auroc")):
        remark = "memory bank too weak to tell"
    elif scores["n_found"] < FEWEST:
        remark = "too few to tell"
    return [("shortcut check", share, remark)]

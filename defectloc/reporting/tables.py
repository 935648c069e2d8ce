"""Tables for the terminal."""

import sys
from typing import Any

from rich.console import Console
from rich.table import Table

from defectloc.evaluation.evidence import is_suspicious

TITLES = {
    "balanced_accuracy": "balanced accuracy",
    "accuracy": "accuracy",
    "auroc": "AUROC",
    "average_precision": "average precision",
    "f1_max": "best F1",
    "tpr_at_5_fpr": "defects found at 5 % false alarms",
    "pixel_auroc": "pixel AUROC",
    "pixel_ap": "pixel AP",
    "aupro": "AUPRO (FPR to 0.3)",
    "pointing_game": "pointing game",
    "max_box_acc_v2": "MaxBoxAccV2 (oracle threshold)",
    "box_accuracy_30": "box accuracy, IoU 0.3",
    "box_f1_30": "box F1, IoU 0.3",
    "box_f1_50": "box F1, IoU 0.5",
    "false_boxes_per_good_image": "boxes per good image",
}


def print_scores(title: str, scores: dict[str, Any], rows: tuple[tuple[str, str, str], ...] = ()) -> None:
    """Print the scores that could be measured, with their 95 % intervals, and further rows of text."""
    table = Table(title=title, title_justify="left")
    table.add_column("score")
    table.add_column("value", justify="right")
    table.add_column("95 % interval")
    intervals = scores.get("intervals_95") or {}
    for key, name in TITLES.items():
        if scores.get(key) is not None:
            interval = intervals.get(key)
            spread = "" if interval is None else f"{interval[0]:.3f} to {interval[1]:.3f}"
            table.add_row(name, f"{scores[key]:.3f}", spread)
    if rows:
        table.add_section()
    for row in rows:
        table.add_row(*row)
    Console().print(table)


def print_metrics(metrics: dict[str, Any]) -> None:
    """Print the table of one run, and a warning where its network judges by something other than the defect."""
    confusion = metrics["confusion"]
    n_bad, n_good = confusion["tp"] + confusion["fn"], confusion["tn"] + confusion["fp"]
    rows = [
        ("defects found", f"{confusion['tp']} of {n_bad}", f"{confusion['fn']} escaped"),
        ("good parts passed", f"{confusion['tn']} of {n_good}", f"{confusion['fp']} rejected"),
    ]
    rows += [
        (f"  {row['defect_type']}", f"{row['correct']} of {row['n']}", "")
        for row in metrics["by_defect_type"]
        if row["label"]
    ]
    evidence = metrics.get("evidence")
    if evidence and evidence["still_found"] is not None:
        rows.append(("found by what is unusual alone", f"{evidence['still_found']:.0%} of {evidence['n_found']}", ""))
    if metrics["share_to_review"] is not None:
        rows.append(("sent to a human", f"{metrics['share_to_review']:.1%}", ""))
    print_scores(f"{metrics['subset']}, fold {metrics['fold']}: {metrics['n_test']} test images", metrics, tuple(rows))
    if evidence and is_suspicious(evidence):
        print(
            f"WARNING: the network judges by something other than the defect: of {evidence['n_found']} defective test "
            f"images that it finds, {evidence['still_found']:.0%} stay defective once all that is not unusual is "
            "replaced by good parts (figures/evidence.png). Do the photographs differ by light, background or session?",
            file=sys.stderr,
        )

"""Tables for the terminal."""

from typing import Any

from rich.console import Console
from rich.table import Table

PERCENT = {
    "balanced_accuracy": "balanced accuracy",
    "accuracy": "accuracy",
    "auroc": "AUROC",
    "average_precision": "average precision",
    "f1_max": "best F1",
    "pixel_auroc": "pixel AUROC",
    "pixel_ap": "pixel AP",
    "aupro": "AUPRO (FPR to 0.3)",
    "pointing_game": "pointing game",
    "max_box_acc_v2": "MaxBoxAccV2 (oracle)",
    "box_f1_30": "box F1, IoU 0.3",
    "box_f1_50": "box F1, IoU 0.5",
}


def show(value: Any, digits: int = 3) -> str:
    """Write a number, or a dash for what could not be measured."""
    return "–" if value is None else f"{value:.{digits}f}"


def print_metrics(metrics: dict[str, Any]) -> None:
    """Print the table of one run."""
    confusion, intervals = metrics["confusion"], metrics.get("intervals_95") or {}
    title = f"{metrics['subset']}, fold {metrics['fold']}: {metrics['n_test']} test images"
    table = Table(title=title, title_justify="left")
    for name, justify in (("score", "left"), ("value", "right"), ("95 % interval", "left")):
        table.add_column(name, justify=justify)  # type: ignore[arg-type]
    for key, name in PERCENT.items():
        if metrics.get(key) is not None:
            interval = intervals.get(key)
            table.add_row(
                name, show(metrics[key]), "" if interval is None else f"{interval[0]:.3f} to {interval[1]:.3f}"
            )
    table.add_section()
    n_bad, n_good = confusion["tp"] + confusion["fn"], confusion["tn"] + confusion["fp"]
    table.add_row("defects found", f"{confusion['tp']} of {n_bad}", f"{confusion['fn']} escaped")
    table.add_row("good parts passed", f"{confusion['tn']} of {n_good}", f"{confusion['fp']} rejected")
    for row in metrics.get("by_defect_type", []):
        if row["label"]:
            table.add_row(f"  {row['defect_type']}", f"{row['correct']} of {row['n']}", "")
    Console().print(table)

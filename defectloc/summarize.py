"""`python -m defectloc.summarize`: all runs below `outputs`, grouped by setting."""

import json
import sys
from pathlib import Path
from typing import Any

import pandas as pd
from omegaconf import OmegaConf
from rich.console import Console
from rich.table import Table

from defectloc import cli
from defectloc.config import SummarizeSettings
from defectloc.errors import DefectlocError
from defectloc.figures.curves import draw_thresholds
from defectloc.files import write_text
from defectloc.localization.boxes import to_coco
from defectloc.reporting.summary import markdown, shown, summary
from defectloc.runs import FORMAT, RECORD, write_csv, write_json


def collect(outputs: Path) -> list[dict[str, Any]]:
    """Read the metrics of every localization of every run; what is half-finished or of another version is named."""
    found = []
    for record_path in sorted(outputs.glob(f"*/fold*-*/{RECORD}")):
        run = record_path.parent
        try:
            record = json.loads(record_path.read_text(encoding="utf-8"))
            if record["format"] != FORMAT:
                raise ValueError(f"format {record['format']}")
            for path in sorted(run.glob("localization/*/metrics.json")):
                metrics = json.loads(path.read_text(encoding="utf-8"))
                config = OmegaConf.load(path.parent / "config.yaml")
                extra = {
                    "fingerprint": record["fingerprint"],
                    "setting": _setting(record, config),
                    "threshold": float(config.localization.threshold),
                    "folder": str(path.parent),
                }
                found.append(metrics | extra)
        except (ValueError, KeyError, OSError) as error:
            print(f"skipped: {run} ({error})", file=sys.stderr)
    return found


def _setting(record: dict[str, Any], config: Any) -> str:
    """Name a setting by what people change most."""
    settings = record["settings"]
    if settings["experiment"]:
        fit = settings["experiment"]
    else:
        fit = f"{settings['model']['name']} {settings['data']['image_size']}"
    where = config.localization
    chosen = f"{where.threshold:g}" if where.threshold_from == "fixed" else where.threshold_from
    peak = where.get("min_peak")
    chosen += "" if peak is None else f" to {peak:g}"
    decided = "" if config.decision.score == "class" else f", decided by {config.decision.score}"
    return f"{fit}, {where.map} {where.normalization} {chosen} {where.boxes}{decided}"


def run(settings: SummarizeSettings) -> pd.DataFrame:
    """Write `summary.csv`, `summary.md`, and per setting the pooled boxes; print the table."""
    outputs = Path(settings.outputs).expanduser()
    folder = Path(settings.output).expanduser() if settings.output else outputs
    metrics = collect(outputs)
    if not metrics:
        raise DefectlocError(f"outputs={outputs} holds no finished run; start with 'defectloc train'.")
    table = summary(metrics)
    readable = shown(table)
    write_csv(folder / "summary.csv", table)
    write_text(folder / "summary.md", markdown(readable))
    _print(readable)
    for (subset, fingerprint, localization), group in pd.DataFrame(metrics).groupby(
        ["subset", "fingerprint", "localization"]
    ):
        target = folder / str(subset) / "boxes" / f"{fingerprint}-{localization}.coco.json"
        write_json(target, pooled_boxes([Path(name) for name in group["folder"]]))
    for (subset, fingerprint), group in table.groupby(["subset", "fingerprint"]):
        if group["threshold"].nunique() > 1:
            path = folder / str(subset) / f"thresholds-{fingerprint}.png"
            draw_thresholds(group, None, f"{subset}: box scores against the threshold, mean ± sd over folds", path)
            print(f"figure: {path}")
    print(f"table: {folder / 'summary.csv'}, {folder / 'summary.md'}")
    return table


def pooled_boxes(folders: list[Path]) -> dict[str, Any]:
    """Join the boxes of the folds of one setting into one COCO file; each image comes from the fold that tested it.

    Where folds share test images (fixed splits fitted with several seeds), the first one counts.
    """
    sizes: dict[str, tuple[int, int]] = {}
    boxes = []
    for folder in sorted(folders):
        coco = json.loads((folder / "boxes.coco.json").read_text(encoding="utf-8"))
        names = {image["id"]: image["file_name"] for image in coco["images"]}
        fresh = {i["file_name"]: (i["height"], i["width"]) for i in coco["images"] if i["file_name"] not in sizes}
        for annotation in coco["annotations"]:
            x, y, width, height = annotation["bbox"]
            name = names[annotation["image_id"]]
            if name in fresh:
                row = {"path": name, "x0": x, "y0": y, "x1": x + width, "y1": y + height}
                boxes.append(row | {"score": annotation["score"]})
        sizes |= fresh
    columns = ["path", "x0", "y0", "x1", "y1", "score"]
    return to_coco(sizes, pd.DataFrame(boxes, columns=columns), description="defectloc, test images of all folds")


def _print(readable: pd.DataFrame) -> None:
    table = Table(title="mean ± sd over folds")
    for name in readable.columns:
        table.add_column(name, justify="left" if name in ("subset", "setting") else "right")
    for row in readable.itertuples(index=False):
        table.add_row(*row)
    Console(width=None if sys.stdout.isatty() else 220).print(table)


def main() -> None:
    """Command line."""
    cli.run_command("summarize", run)


if __name__ == "__main__":
    main()

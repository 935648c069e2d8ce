"""All runs below `outputs`, grouped by setting."""

import hashlib
import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pandas as pd
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from rich.console import Console
from rich.table import Table
from yaml import YAMLError

from defectloc.config import SummarizeSettings, directory
from defectloc.errors import DefectlocError
from defectloc.figures.curves import draw_thresholds
from defectloc.files import are_as_written, read_json, write_json, write_text
from defectloc.localization.boxes import to_coco
from defectloc.reporting.labels import Settings, flat
from defectloc.reporting.summary import COUNTS, Result, footnotes, markdown, shown, summary
from defectloc.runs.directory import FORMAT, RECORD, changed_file
from defectloc.runs.records import runs_below, settings_of
from defectloc.runs.tables import write_csv

# What a file can be other than whole: not there, not JSON or YAML, or without what it should hold.
DAMAGED = (
    OSError,
    ValueError,
    KeyError,
    IndexError,
    TypeError,
    AttributeError,
    OverflowError,
    RecursionError,
    YAMLError,
    OmegaConfBaseException,
)
BOX_COLUMNS = ["path", "x0", "y0", "x1", "y1", "score"]


def run(settings: SummarizeSettings) -> pd.DataFrame:
    """Write `summary.csv`, `summary.md`, and per setting the pooled boxes; print the table."""
    outputs = Path(settings.outputs).expanduser()
    folder = Path(settings.output).expanduser() if settings.output else outputs
    results = collect(outputs)
    if not results:
        raise DefectlocError(f"outputs={outputs} holds no finished run; start with 'defectloc train'.")
    table = summary(results, experiments())
    readable, notes = shown(table), footnotes(table, results)
    write_csv(folder / "summary.csv", table)
    write_text(folder / "summary.md", "\n".join([markdown(readable), *(f"{note}\n" for note in notes)]))
    _print(readable, notes)
    for (subset, fingerprint, localization), group in _grouped(results):
        target = folder / subset / "boxes" / f"{fingerprint}-{localization}.coco.json"
        write_json(target, pooled_boxes([result.folder for result in group]))
    for path in _draw_sweeps(results, table, folder):
        print(f"figure: {path}")
    print(f"table: {folder / 'summary.csv'}, {folder / 'summary.md'}")
    return table


def collect(outputs: Path) -> list[Result]:
    """Read the metrics of every localization of every run; what is damaged, a copy or of another version is named."""
    return [result for folder in runs_below(outputs, "*/fold*-*") for result in results_of(folder)]


def results_of(run: Path) -> list[Result]:
    """Read the metrics of every localization of a run directory; what is damaged or of another version is named."""
    found = []
    try:
        record = _whole(run / RECORD)
        if record["format"] != FORMAT:
            raise ValueError(f"format {record['format']}")
        fingerprint, _ = str(record["fingerprint"]), settings_of(record, {})
    except DAMAGED as error:
        _skip(run / RECORD, error)
        return []
    for path in sorted(run.glob("localization/*/metrics.json")):
        try:
            metrics = _metrics(path)
            chosen: Any = OmegaConf.to_container(OmegaConf.load(path.parent / "config.yaml"))
            values = flat(settings_of(record, chosen))
            values["localization.threshold"] = float(values["localization.threshold"])
            found.append(Result(metrics, values, fingerprint, path.parent))
        except DAMAGED as error:
            _skip(path, error)
    return found


def _metrics(path: Path) -> dict[str, Any]:
    """Read what `summary` cannot do without; raises one of `DAMAGED`."""
    metrics = _whole(path)
    if not are_as_written(path.parent, metrics.get("files", {})):
        raise ValueError(f"{changed_file(path.parent, metrics['files'])} was changed since")
    metrics |= {name: int(metrics[name]) for name in ("fold", "n_test")}
    metrics["confusion"] = {name: int(metrics["confusion"][name]) for name in COUNTS}
    # The folder's name is the identity: a copy of the file elsewhere is another result.
    return metrics | {"subset": str(metrics["subset"]), "localization": path.parent.name}


def _whole(path: Path) -> dict[str, Any]:
    found = read_json(path)
    if found is None:
        raise ValueError("damaged, or changed since")
    return found


def _skip(path: Path, error: BaseException) -> None:
    reason = f"{error.args[0]!r} is missing" if isinstance(error, KeyError) else f"{error}".partition("\n")[0]
    print(f"skipped: {path} ({reason or type(error).__name__})", file=sys.stderr)


def experiments() -> dict[str, Settings]:
    """Give the flat values of each experiment in `conf/experiment` by its name."""
    found: dict[str, Settings] = {}
    for path in sorted((directory() / "experiment").glob("*.yaml")):
        content: Any = OmegaConf.to_container(OmegaConf.load(path))
        # How its jobs are started is no setting.
        content.pop("hydra", None)
        groups = [item for item in content.pop("defaults", []) if isinstance(item, dict)]
        # `override /model: vgg16` in the list of defaults chooses what becomes `model.name`.
        names = {key.rpartition("/")[2] + ".name": value for item in groups for key, value in item.items()}
        found[path.stem] = {key: value for key, value in (names | flat(content)).items() if key != "experiment"}
    return found


def _grouped(results: Iterable[Result]) -> list[tuple[tuple[str, str, str], list[Result]]]:
    groups: dict[tuple[str, str, str], list[Result]] = {}
    for result in results:
        key = (result.metrics["subset"], result.fingerprint, result.metrics["localization"])
        groups.setdefault(key, []).append(result)
    return sorted(groups.items(), key=lambda item: item[0])


def _draw_sweeps(results: Iterable[Result], table: pd.DataFrame, folder: Path) -> list[Path]:
    """Draw the box scores of settings that differ in nothing but a fixed threshold of the map."""
    sweeps: dict[tuple[str, str, str], list[tuple[str, str]]] = {}
    units: dict[tuple[str, str, str], str] = {}
    for (subset, fingerprint, localization), group in _grouped(results):
        if group[0].settings.get("localization.threshold_from") != "fixed":
            continue
        rest = {key: value for key, value in group[0].settings.items() if key != "localization.threshold"}
        digest = hashlib.sha256(json.dumps(rest, sort_keys=True, default=str).encode()).hexdigest()[:8]
        key = (subset, fingerprint, digest)
        sweeps.setdefault(key, []).append((f"{subset}/fold*-{fingerprint}", localization))
        units[key] = f"{rest.get('localization.map')} map, normalization {rest.get('localization.normalization')}"
    paths: list[Path] = []
    for (subset, fingerprint, digest), members in sweeps.items():
        rows = table[[pair in members for pair in zip(table["runs"], table["localization"], strict=True)]]
        if rows["threshold"].nunique() > 1:
            paths.append(folder / subset / f"thresholds-{fingerprint}-{digest}.png")
            folds = "mean ± sd over folds" if rows["n_folds"].max() > 1 else "one fold"
            title = f"{subset}: boxes of the test images by the threshold of the map, {folds}"
            draw_thresholds(rows, None, units[subset, fingerprint, digest], title, paths[-1])
    return paths


def pooled_boxes(folders: list[Path]) -> dict[str, Any]:
    """Join the boxes of the folds of one setting into one COCO file; each image comes from the fold that tested it.

    Where folds share test images (fixed splits fitted with several seeds), the first one counts; a damaged file is
    named and left out.
    """
    sizes: dict[str, tuple[int, int]] = {}
    boxes: list[dict[str, Any]] = []
    for folder in sorted(folders):
        path = folder / "boxes.coco.json"
        try:
            new_sizes, new_boxes = _read_coco(path)
        except DAMAGED as error:
            _skip(path, error)
            continue
        boxes += [box for box in new_boxes if box["path"] not in sizes]
        sizes = new_sizes | sizes
    table = pd.DataFrame(boxes, columns=BOX_COLUMNS)
    return to_coco(sizes, table, description="defectloc, test images of all folds")


def _read_coco(path: Path) -> tuple[dict[str, tuple[int, int]], list[dict[str, Any]]]:
    coco = json.loads(path.read_text(encoding="utf-8"))
    names = {image["id"]: image["file_name"] for image in coco["images"]}
    sizes = {image["file_name"]: (int(image["height"]), int(image["width"])) for image in coco["images"]}
    boxes = []
    for annotation in coco["annotations"]:
        x, y, width, height = annotation["bbox"]
        corners = {"x0": x, "y0": y, "x1": x + width, "y1": y + height}
        boxes.append({"path": names[annotation["image_id"]], **corners, "score": float(annotation["score"])})
    return sizes, boxes


def _print(readable: pd.DataFrame, notes: list[str]) -> None:
    table = Table(title="mean ± sd over folds", caption="\n".join(notes) or None, caption_justify="left")
    for name in readable.columns:
        table.add_column(name, justify="left" if name in ("subset", "setting") else "right")
    for row in readable.itertuples(index=False):
        table.add_row(*row)
    Console(width=None if sys.stdout.isatty() else 240).print(table)

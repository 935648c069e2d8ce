"""The report of a run: `report.html` of the localization that `train` was last asked for."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
from omegaconf import OmegaConf
from PIL import Image

from defectloc.data.digests import Digests
from defectloc.errors import DefectlocError
from defectloc.evaluation.operating_points import limits_of, scores_at
from defectloc.figures.embedded import picture_uri
from defectloc.figures.sheet import UNITS
from defectloc.files import write_text
from defectloc.localization.decision import Decision
from defectloc.localization.localizer import Localizer
from defectloc.reporting.labels import IGNORED, flat
from defectloc.reporting.page import key_of
from defectloc.reporting.run_page import Content, render_run
from defectloc.runs.directory import Run, whole_metrics
from defectloc.runs.drawing import color_scale, shortcut_figure
from defectloc.runs.localizing import notes_of
from defectloc.runs.maps import RunMaps, kept_ignore_mask, truth_digest
from defectloc.runs.records import settings_of
from defectloc.runs.reports.photographs import most_wrong_first, photographs
from defectloc.runs.tables import read_history, with_decisions

REPORT = "report.html"
# Raised when the code changes what a report holds.
VERSION = 3
# Settings of a fit that say nothing about the result, besides those that no summary names.
LEFT_OUT = IGNORED | {f"data.{key}" for key in ("good", "defective", "table")}


def report_key(localization: str) -> str:
    """Tell what a report was made from: the name of a localization holds its settings, maps and ground truth."""
    return f"{localization} v{VERSION}"


def write_report(run: Run, root: Path, *, again: bool = True) -> Path:
    """Write the report of a run's last localization; with `again=False` not where it is there already.

    Raises DefectlocError where the run has no scores yet, and where masks or photographs are gone or were changed.
    """
    folder, path = run.last_localization(), run.folder / REPORT
    metrics = None if folder is None else whole_metrics(folder)
    decision, localizer, config = run.decision(), run.localizer(), run.localization_config()
    if folder is None or metrics is None or decision is None or localizer is None or config is None:
        raise DefectlocError(f"run={run.folder} has no scores yet; start the same 'defectloc train' again.")
    key = report_key(folder.name)
    if not again and key_of(path) == key:
        return path
    chosen: Any = OmegaConf.to_container(OmegaConf.load(folder / "config.yaml"))
    _check_masks(run, root, chosen["truth"]["masks"])
    ignored = kept_ignore_mask(run)
    mask = None if ignored is None else str(ignored.absolute())
    maps = RunMaps(run, str(config.map), root, mask, upsampling=config.upsampling)
    write_text(path, render_run(_content(run, maps, key, folder, metrics, decision, localizer, chosen)))
    return path


def _content(
    run: Run,
    maps: RunMaps,
    key: str,
    folder: Path,
    metrics: dict[str, Any],
    decision: Decision,
    localizer: Localizer,
    chosen: Mapping[str, Any],
) -> Content:
    test = most_wrong_first(with_decisions(maps.split("test"), folder), decision)
    scale = color_scale(maps, test)
    boxed, pictures = photographs(maps, test, localizer, scale)
    figure = shortcut_figure(run, maps.root, metrics)
    return Content(
        key=key,
        metrics=metrics,
        decision=decision,
        test=test,
        at_limits=scores_at(limits_of(decision)[0], test, boxed),
        photographs=pictures,
        class_counts=_class_counts(run.catalog()),
        history=read_history(run.folder),
        scale=scale,
        unit=UNITS[maps.kind],
        settings=_settings(run, chosen),
        shortcut_picture=None if figure is None else _picture(figure),
        notes=notes_of(decision, localizer, metrics.get("n_unlike_training"), metrics["n_test"]),
    )


def _check_masks(run: Run, root: Path, wanted: str | None) -> None:
    """Refuse other masks than those of the scores, to which the boxes would not fit."""
    if truth_digest(run, root, None, Digests(run.folder.parent.parent / ".digests"))["masks"] != wanted:
        raise DefectlocError(
            f"the masks in {root} are not those that run={run.folder} was scored by; start the same 'defectloc train' "
            "again."
        )


def _class_counts(catalog: pd.DataFrame) -> dict[str, tuple[int, int]]:
    """Count (good, defective) images by split."""
    return {
        str(split): (int((rows["label"] == 0).sum()), int((rows["label"] == 1).sum()))
        for split, rows in catalog.groupby("split")
    }


def _settings(run: Run, chosen: Mapping[str, Any]) -> dict[str, Any]:
    """Give the settings of the fit with those of this localization, without what names folders of a machine."""
    found = flat({key: value for key, value in settings_of(run.record, chosen).items() if key != "truth"})
    height, width = run.image_size
    found["image_size"] = f"{width} px" if width == height else f"{width} x {height} px"
    return {key: _typed(value) for key, value in found.items() if key not in LEFT_OUT and value is not None}


def _typed(value: Any) -> str:
    if isinstance(value, Iterable) and not isinstance(value, str):
        return ", ".join(str(each) for each in value)
    return str(value).lower() if isinstance(value, bool) else str(value)


def _picture(path: Path) -> str | None:
    try:
        with Image.open(path) as picture:
            return picture_uri(picture)
    except (OSError, ValueError, SyntaxError):
        # A figure that was cut short is worth no more than none.
        return None

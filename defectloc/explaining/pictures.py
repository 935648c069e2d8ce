"""The pictures of explained images."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from defectloc.config import ExplainSettings
from defectloc.data.images import read_mask
from defectloc.explaining.asked import Asked, Case, boxes_of, heat_of
from defectloc.explaining.selection import UNKNOWN
from defectloc.figures.contact import (
    Explained,
    Legend,
    draw_channels,
    draw_contact_sheet,
    draw_single,
    green_and_red,
    red_and_blue,
)
from defectloc.figures.heat_styles import for_and_against, heat_on, superpixels_on

# Maps on which 0 is neither for nor against, and distances.
LOG_ODDS, RUN_MAPS = ("cam", "channels"), ("memory", "fusion")
# Signed maps at the pixels, which SHAP shows in red and blue.
RED_AND_BLUE = ("integrated-gradients", "expected-gradients", "occlusion", "shap-partition")


def draw(cases: list[Case], asked: Asked, settings: ExplainSettings, folder: Path) -> Path:
    """Draw the contact sheet, each image on its own, and a method's own pictures; returns the sheet's path."""
    heats = [heat_of(case, asked.subject.image_size) for case in cases]
    common = _scale(settings, heats)
    panels, target = [], _target(cases, asked)
    for case, heat in zip(cases, heats, strict=True):
        scale = _scale(settings, [heat]) if settings.scale == "image" else common
        boxes = boxes_of(case, heat, settings)
        panel = Explained(case.image, _paint(case, heat, scale, settings), boxes, *_facts(case, asked))
        panels.append(panel)
        alone = replace(case, image=np.full_like(case.image, 255))
        in_colours = _paint(alone, heat, scale, replace(settings, opacity=1.0, photo_opacity=0.0))
        name = case.row.path if len({other.target for other in cases}) == 1 else f"{case.row.path}-{case.target}"
        draw_single(panel, in_colours, folder / "single" / f"{name}.png")
        if settings.method == "channels":
            title = f"{case.row.path}: channels of the last layer, {asked.subject.classes[case.target]}"
            draw_channels(case.image, case.found.heat, case.found.parts, title, folder / "channels" / f"{name}.png")
    sheet = folder / "sheet.png"
    title = f"{settings.method}: what speaks for {target}"
    draw_contact_sheet(panels, settings.columns, _legend(settings, common), title, sheet)
    return sheet


def _target(cases: list[Case], asked: Asked) -> str:
    names = {asked.subject.classes[case.target] for case in cases}
    return f"'{names.pop()}'" if len(names) == 1 else "the class over each picture"


def _facts(case: Case, asked: Asked) -> tuple[np.ndarray | None, str, str, str, bool | None]:
    """Give the mask, name, verdict, truth, and whether the verdict is right."""
    classes, said, row = asked.subject.classes, case.answer, case.row
    mask = None
    mask_path = getattr(row, "mask_path", "")
    if mask_path and (asked.base / mask_path).is_file():
        mask = read_mask(asked.base / mask_path, case.image.shape[:2])
    if asked.run is None:
        return mask, row.path, f"{classes[case.target]}, p = {said.chances[case.target]:.3f}", "", None
    verdict = f"{('good', 'defective')[said.predicted]}, p = {said.chances[1]:.3f}"
    if row.label == UNKNOWN:
        return mask, row.path, verdict, "", None
    return mask, row.path, verdict, f"true: {row.defect_type}", said.predicted == row.label


def _scale(settings: ExplainSettings, heats: list[np.ndarray]) -> tuple[float, float]:
    """Choose the values of no and of full colour: full as given, or for the hottest pixel in two hundred."""
    method, every = settings.method, np.concatenate([heat.ravel() for heat in heats])
    given = None if settings.scale in ("sheet", "image") else float(settings.scale)
    if method in RED_AND_BLUE or method == "lime":
        top = given or float(np.quantile(np.abs(every), 0.995)) or 1.0
        return -top, top
    # A distance is nowhere 0: what half of the cells reach is ordinary.
    low = float(np.median(every)) if method in RUN_MAPS else 0.0 if method in LOG_ODDS else float(every.min())
    high = given or float(np.quantile(every, 0.995))
    # All flat: nothing is hot, whatever the scale.
    return low, high if high > low else low + 1.0


def _paint(case: Case, heat: np.ndarray, scale: tuple[float, float], settings: ExplainSettings) -> np.ndarray:
    if "segments" in case.found.parts:
        return superpixels_on(case.image, case.found.parts["segments"], case.found.heat, scale[1])
    if settings.method in RED_AND_BLUE:
        return for_and_against(case.image, heat, scale[1])
    return heat_on(case.image, heat, scale, settings.colormap, settings.opacity, settings.photo_opacity)


def _legend(settings: ExplainSettings, scale: tuple[float, float]) -> Legend:
    unit = "value, each image on its own scale" if settings.scale == "image" else "value, one scale for all images"
    if settings.scale == "image":
        scale = (-1.0, 1.0) if scale[0] == -scale[1] else (0.0, 1.0)
    if settings.method == "lime":
        return Legend(f"{unit}: red against the class, green for it", green_and_red(), scale)
    if settings.method in RED_AND_BLUE:
        return Legend(f"{unit}: blue against the class, red for it", red_and_blue(), scale)
    return Legend(unit, settings.colormap, scale)

"""The pictures of explained images: a contact sheet, each image on its own, and a method's own pictures."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from defectloc.attribution.explainer import Explanation
from defectloc.config import ExplainSettings
from defectloc.figures.contact import ExplainedPanel, Legend, draw_channels, draw_contact_sheet, draw_single
from defectloc.figures.overlay import paint_map
from defectloc.figures.sheet import UNITS
from defectloc.figures.signed_maps import green_and_red, paint_signed, paint_superpixels, red_and_blue

# Maps on which 0 is neither for nor against, and distances.
LOG_ODDS, DISTANCES = ("cam", "channels", "fusion"), ("memory",)
# Maps of a run, of which no class is explained.
OWN = ("memory", "fusion")
# Signed maps at the pixels.
SIGNED = ("integrated-gradients", "expected-gradients", "occlusion", "shap-partition")


@dataclass(frozen=True)
class ExplainedImage:
    """One image explained for one class; map `(H, W)`, boxes `(N, 4)` and mask `(H, W)` in the image's own pixels."""

    path: str
    image: np.ndarray
    # the index and the name of the class, and its probability
    target: int
    target_name: str
    probability: float
    explanation: Explanation
    map: np.ndarray
    boxes: np.ndarray
    # None: unknown
    mask: np.ndarray | None
    # 0 good, 1 defective, -1 unknown
    label: int
    verdict: str
    truth: str
    is_right: bool | None


def draw_explanations(images: Sequence[ExplainedImage], settings: ExplainSettings, folder: Path) -> Path:
    """Draw all pictures of a method's explanations below `folder`; returns the contact sheet's path."""
    common = _scale(settings, [image.map for image in images])
    several = len({image.target for image in images}) > 1
    panels = []
    for image in images:
        scale = _scale(settings, [image.map]) if settings.scale == "image" else common
        painted = _paint(image, scale, settings)
        panel = ExplainedPanel(
            image.image, painted, image.boxes, image.mask, image.path, image.verdict, image.truth, image.is_right
        )
        panels.append(panel)
        white = replace(image, image=np.full_like(image.image, 255))
        colored = _paint(white, scale, replace(settings, opacity=1.0, photo_opacity=0.0))
        name = f"{image.path}-{image.target}" if several else image.path
        draw_single(panel, colored, folder / "single" / f"{name}.png")
        if settings.method == "channels":
            title = f"{image.path}: channels of the last layer, {image.target_name}"
            explanation = image.explanation
            draw_channels(image.image, explanation.map, explanation.parts, title, folder / "channels" / f"{name}.png")
    target = "the class over each picture" if several else f"'{images[0].target_name}'"
    if settings.method in OWN:
        # Whatever class is asked for, it is one and the same.
        target = "the run's anomaly map"
    sheet = folder / "sheet.png"
    draw_contact_sheet(panels, settings.columns, _legend(settings, common), f"{settings.method}: {target}", sheet)
    return sheet


def _scale(settings: ExplainSettings, maps: Sequence[np.ndarray]) -> tuple[float, float]:
    """Choose the values of no and of full colour: the latter as given, or what one pixel in two hundred exceeds."""
    method, values = settings.method, np.concatenate([each.ravel() for each in maps])
    given = None if settings.scale in ("sheet", "image") else float(settings.scale)
    if method in SIGNED or method == "lime":
        top = given or float(np.quantile(np.abs(values), 0.995)) or 1.0
        return -top, top
    # A distance is nowhere 0: what half of the cells reach is ordinary.
    low = float(np.median(values)) if method in DISTANCES else 0.0 if method in LOG_ODDS else float(values.min())
    high = given or float(np.quantile(values, 0.995))
    # Of flat maps, no pixel gets a colour.
    return low, high if high > low else low + 1.0


def _paint(image: ExplainedImage, scale: tuple[float, float], settings: ExplainSettings) -> np.ndarray:
    explanation = image.explanation
    if "segments" in explanation.parts:
        return paint_superpixels(image.image, explanation.parts["segments"], explanation.map, scale[1])
    if settings.method in SIGNED:
        return paint_signed(image.image, image.map, scale[1])
    return paint_map(image.image, image.map, scale, settings.opacity, settings.colormap, settings.photo_opacity)


def _legend(settings: ExplainSettings, scale: tuple[float, float]) -> Legend:
    value = UNITS[settings.method] if settings.method in OWN else "value"
    unit = "value, each image on its own scale" if settings.scale == "image" else f"{value}, one scale for all images"
    if settings.scale == "image":
        scale = (-1.0, 1.0) if scale[0] == -scale[1] else (0.0, 1.0)
    if settings.method == "lime":
        return Legend(f"{unit}: red against the class, green for it", green_and_red(), scale)
    if settings.method in SIGNED:
        return Legend(f"{unit}: blue against the class, red for it", red_and_blue(), scale)
    return Legend(unit, settings.colormap, scale)

"""A data set in one figure: samples with their defects outlined, counts, mean images, and advice."""

import textwrap
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from numpy.typing import NDArray

from defectloc.data.images import read_image
from defectloc.data.masks import read_mask
from defectloc.data.survey import Survey
from defectloc.figures.thumbnails import shrink_image, shrink_mask, thumbnail_size
from defectloc.files import atomic

GOOD_COLOR, DEFECT_COLOR, OUTLINE_COLOR = "#3a7d44", "#b3392f", "#00e5ff"
_THUMBNAIL = 200
_MOST_TYPES = 12
# Samples in a row.
_COLUMNS = 6


def draw_overview(survey: Survey, root: Path, catalog: pd.DataFrame, path: Path, *, title: str = "") -> None:
    """Draw samples of each defect type, counts and mean images of a surveyed catalog to a PNG.

    Samples are spread evenly over each type's sorted paths. Raises DefectlocError for an unreadable image or folder.
    """
    shown = survey.counts.iloc[:_MOST_TYPES]
    # Two rows of each type where there are only good and defective.
    lines = 2 if len(shown) <= 2 else 1
    figure = Figure(figsize=(15, 1.35 * max(3, len(shown) * lines) + 1.3), layout="constrained")
    n_good, n_defective = (int((catalog["label"] == label).sum()) for label in (0, 1))
    size = (
        survey.formats.index[0] if len(survey.formats) == 1 else f"{len(survey.formats)} combinations of mode and size"
    )
    more = f", {len(survey.counts) - len(shown)} more types not shown" if len(shown) < len(survey.counts) else ""
    figure.suptitle(f"{title or root.name}: {n_good} good, {n_defective} defective images, {size}{more}", fontsize=14)
    grid = figure.add_gridspec(1, 2, width_ratios=(1.45, 1))
    _draw_samples(figure.add_subfigure(grid[0]), root, _choose(catalog, shown, lines))
    # Subfigures, because cells of one grid would be shrunk to the width of the longest bar label.
    text = "\n".join(textwrap.fill(sentence, 82) for sentence in [survey.advice, *survey.warnings])
    heights = (max(1.2, 0.32 * len(shown)), 2, max(0.7, 0.15 * len(text.splitlines())))
    right = figure.add_subfigure(grid[1])
    cells = right.add_gridspec(3, 1, height_ratios=heights)
    top, middle, bottom = (right.add_subfigure(cells[i]) for i in range(3))
    _draw_counts(top.subplots(), shown)
    names = {0: "mean of all good images", 1: "mean of all defective images"}
    for axes, (label, mean) in zip(middle.subplots(1, 2).flat, sorted(survey.mean_images.items()), strict=False):
        axes.imshow(mean)
        axes.set_title(names[label], fontsize=10, color=(GOOD_COLOR, DEFECT_COLOR)[label])
    for axes in middle.axes:
        axes.set_axis_off()
    bottom.text(0.02, 0.95, text, fontsize=10, va="top")
    with atomic(path) as temporary:
        figure.savefig(temporary, dpi=110)


def _choose(catalog: pd.DataFrame, counts: pd.DataFrame, lines: int) -> list[pd.DataFrame]:
    """Choose the rows of the sample sheet: `lines` for each defect type, of up to `_COLUMNS` images."""
    rows = []
    for kind, label in zip(counts["defect_type"], counts["label"], strict=True):
        members = catalog[(catalog["defect_type"] == kind) & (catalog["label"] == label)]
        spread = np.unique(np.linspace(0, len(members) - 1, _COLUMNS * lines).round().astype(int))
        chosen = members.iloc[spread]
        rows += [chosen.iloc[start : start + _COLUMNS] for start in range(0, _COLUMNS * lines, _COLUMNS)]
    return rows


def _draw_samples(figure: SubFigure, root: Path, sheet: list[pd.DataFrame]) -> None:
    grid = figure.subplots(len(sheet), max(len(row) for row in sheet), squeeze=False)
    last = None
    for line, samples in zip(grid, sheet, strict=True):
        for axes in line:
            axes.set_axis_off()
        columns = (samples[name] for name in ("path", "mask_path", "defect_type", "label"))
        for axes, (path, mask_path, kind, label) in zip(line, zip(*columns, strict=True), strict=False):
            _draw_sample(axes, root, path, mask_path)
            if kind != last:
                color = (GOOD_COLOR, DEFECT_COLOR)[label]
                axes.set_title(str(kind), fontsize=10, color=color, loc="left", fontweight="bold")
            last = kind
    if any(row["mask_path"].notna().any() for row in sheet):
        figure.supxlabel("defects are outlined as in the ground truth", fontsize=9, color="#555555")


def _draw_sample(axes: Axes, root: Path, path: str, mask_path: str | None) -> None:
    image = read_image(root / path)
    native = (image.shape[0], image.shape[1])
    size = thumbnail_size(native[0], native[1], _THUMBNAIL)
    axes.imshow(shrink_image(image, size))
    # A thumbnail one pixel wide has no room for an outline.
    if isinstance(mask_path, str) and min(size) > 1:
        outline = _surround(read_mask(root / mask_path, native), size)
        axes.contour(outline, levels=[0.5], colors=OUTLINE_COLOR, linewidths=0.9)


def _surround(mask: NDArray[np.bool_], size: tuple[int, int]) -> NDArray[np.float32]:
    """Shrink a mask to (height, width) so that no pixel of it is lost, and so that its outline does not hide it."""
    touched = shrink_mask(mask, size, margin=3).astype(np.float32)
    # An outline is drawn only where the mask ends inside the array.
    touched[[0, -1]] = 0
    touched[:, [0, -1]] = 0
    return touched


def _draw_counts(axes: Axes, counts: pd.DataFrame) -> None:
    colors = [(GOOD_COLOR, DEFECT_COLOR)[label] for label in counts["label"]]
    bars = axes.barh(counts["defect_type"].astype(str), counts["images"], color=colors)
    axes.bar_label(bars, padding=3, fontsize=9)
    axes.invert_yaxis()
    axes.margins(x=0.12)
    axes.set_title("number of images", fontsize=10)
    axes.tick_params(labelsize=9)
    axes.xaxis.set_visible(False)
    axes.spines[["top", "right", "bottom"]].set_visible(False)

"""Methods of attribution side by side."""

from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from defectloc.files import atomic

PANELS = (
    ("pixel_ap", "pixel AP"),
    ("pixel_auroc", "pixel AUROC"),
    ("aupro", "AUPRO"),
    ("pointing_game", "pointing game"),
    ("box_f1_30", "box F1, IoU 0.3"),
    ("insertion", "insertion (high)"),
    ("deletion", "deletion (low)"),
    ("sanity", "change when randomised"),
    ("seconds", "seconds per image"),
)
COLORS = {
    "class activation": "#1f5fa8",
    "gradient": "#d9822b",
    "perturbation": "#3a7d44",
    "ours": "#8e3a8e",
}


def draw_comparison(table: pd.DataFrame, title: str, path: Path) -> None:
    """Draw a bar for each score of each method, on the images that all of them explained.

    `table` has the columns of `reporting.attribution.summary`, best pixel AP first in each set of images.
    """
    # The first set of images is the smallest, and the one that all methods explained.
    common = table.drop_duplicates("method")
    figure = Figure(figsize=(2.05 * len(PANELS) + 1.5, 0.3 * len(common) + 1.9), layout="constrained")
    sets = ", ".join(dict.fromkeys(common["images"]))
    figure.suptitle(f"{title}, on {sets} images (defective + good)", fontsize=12)
    for number, (axes, (name, label)) in enumerate(zip(figure.subplots(1, len(PANELS)), PANELS, strict=True)):
        place = range(len(common))
        colors = [COLORS.get(family, "#555555") for family in common["family"]]
        axes.barh(place, common[name].fillna(0), color=colors)
        for y, value in zip(place, common[name], strict=True):
            if pd.isna(value):
                axes.text(0, y, " –", va="center", fontsize=8)
        axes.set_title(label, fontsize=9)
        axes.set_yticks(place, common["method"] if number == 0 else [""] * len(common), fontsize=8)
        axes.invert_yaxis()
        axes.tick_params(axis="x", labelsize=7)
        axes.grid(axis="x", alpha=0.3)
        if name == "seconds":
            axes.set_xscale("log")
        else:
            axes.set_xlim(0, 1)
    handles = [Patch(color=color, label=family) for family, color in COLORS.items()]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(COLORS), frameon=False, fontsize=9)
    with atomic(path) as temporary:
        figure.savefig(temporary, dpi=110)

"""Draw packages.png: the packages in the order of their imports, and what goes from one to the next."""

from pathlib import Path

import matplotlib.pyplot as plt
from matplotlib.patches import FancyBboxPatch

INK, GREY, GREEN_INK = "#1c2b36", "#5f6f7a", "#3d7a3d"
BLUE, GREEN, SAND, WHITE = "#e3eef7", "#e4f1e4", "#f6efdf", "#ffffff"
WIDTH, HEIGHT = 2.05, 0.92
COLUMNS, TOP, MIDDLE, RUNS, BOTTOM = (0.15, 3.28, 6.41, 9.54), 4.5, 2.7, 1.2, 0.15

figure, axes = plt.subplots(figsize=(12, 5.85), dpi=100)
axes.set(xlim=(0, 12), ylim=(0, 5.85))
axes.axis("off")


def box(x, y, name, text, colour, width=WIDTH, height=HEIGHT):
    """Draw a package with its lower left corner at (x, y)."""
    shape = "round,pad=0,rounding_size=0.1"
    axes.add_patch(FancyBboxPatch((x, y), width, height, boxstyle=shape, fc=colour, ec=INK, lw=1.2))
    centre = x + width / 2
    axes.text(centre, y + height - 0.24, name, ha="center", va="center", fontsize=12.5, weight="bold", color=INK)
    axes.text(centre, y + (height - 0.36) / 2, text, ha="center", va="center", fontsize=9, color=INK, linespacing=1.25)


def arrow(start, end):
    """Draw an arrow from point to point."""
    axes.annotate("", end, start, arrowprops={"arrowstyle": "-|>", "color": INK, "lw": 1.3, "shrinkA": 0, "shrinkB": 1})


def note(x, y, text, ha="center", colour=GREY):
    """Write what an arrow carries."""
    axes.text(x, y, text, ha=ha, va="center", fontsize=9, color=colour, style="italic", linespacing=1.2)


first, second, third, fourth = COLUMNS
half, right = WIDTH / 2, fourth + WIDTH
box(first, TOP, "1  data", "catalog, images,\nmasks, splits", BLUE)
box(second, TOP, "2  features", "trunk output of each\nimage, computed once", BLUE)
box(third, TOP, "3  model", "network, memory bank,\npatch head", BLUE)
box(fourth, TOP, "4  localization", "Decision: score to verdict\nLocalizer: map to boxes", GREEN)
box(fourth, MIDDLE, "5  evaluation", "image, pixel, box\nand instance scores", GREEN)
box(third, MIDDLE, "6  attribution", "maps by other\nmethods", BLUE)
box(second, MIDDLE, "7  figures", "PNG", SAND)
box(first, MIDDLE, "8  reporting", "tables,\nHTML pages", SAND)
box(first, RUNS, "9  inference", "predictions of\nphotographs, their files", SAND, WIDTH, 0.82)
box(second, RUNS, "10  deployment", "a model as one\nONNX graph", SAND, WIDTH, 0.82)
box(
    third,
    RUNS,
    "11  runs",
    "calls all of the others for one run directory: fit, maps, verdicts\nand boxes, scores, figures, "
    "predictions of new images, exports",
    SAND,
    right - third,
    0.82,
)
arrow((first + WIDTH, RUNS + 0.41), (second, RUNS + 0.41))
arrow((second + WIDTH, RUNS + 0.41), (third, RUNS + 0.41))
box(
    first,
    BOTTOM,
    "12  commands",
    "train, localize, predict, export, summarize, ...",
    WHITE,
    third + WIDTH - first,
    0.76,
)
box(fourth, BOTTOM, "13  benchmarks", "speed, side by side", WHITE, WIDTH, 0.76)

level = TOP + HEIGHT / 2
for left, next_, text in ((first, second, "images"), (second, third, "features"), (third, fourth, "maps,\nlog-odds")):
    arrow((left + WIDTH, level), (next_, level))
    note((left + WIDTH + next_) / 2, level + (0.27 if "\n" in text else 0.16), text)
between = (TOP + MIDDLE + HEIGHT) / 2
arrow((third + half, TOP), (third + half, MIDDLE + HEIGHT))
note(third + half + 0.12, between, "network", "left")
arrow((fourth + half, TOP), (fourth + half, MIDDLE + HEIGHT))
note(fourth + half + 0.12, between, "verdicts, boxes", "left")
arrow((third + WIDTH, MIDDLE + HEIGHT / 2), (fourth, MIDDLE + HEIGHT / 2))
note((third + WIDTH + fourth) / 2, MIDDLE + HEIGHT / 2 + 0.16, "maps")
line = MIDDLE - 0.3
axes.plot([fourth + half, fourth + half, first + half], [MIDDLE, line, line], color=INK, lw=1.3)
arrow((second + half, line), (second + half, MIDDLE))
arrow((first + half, line), (first + half, MIDDLE))
note(third + half, line + 0.13, "scores")
arrow((third + half, BOTTOM + 0.76), (third + half, RUNS))
note(third + half + 0.12, (BOTTOM + 0.76 + RUNS) / 2, "configuration", "left")
note(
    first,
    5.67,
    "Numbers: the order of the imports. A package imports only from smaller ones, and from base "
    "(config, errors, files, notes, progress).",
    "left",
)
note(right, 5.67, "green: no torch", "right", GREEN_INK)
figure.subplots_adjust(0, 0, 1, 1)
figure.savefig(Path(__file__).with_suffix(".png"))

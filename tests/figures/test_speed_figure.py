"""The figure of the benchmark."""

import pandas as pd
from PIL import Image

from defectloc.figures.speed import draw_speed


def test_bars_and_curves_are_drawn(tmp_path):
    arms = {"case_study": [700.0, 7000.0], "streaming": [30.0, 90.0], "ours": [1.0, 2.0]}
    comparison = pd.DataFrame({"task": ["one fold", "five folds"], **arms})
    sizes = pd.DataFrame({"images": [50, 100], **arms})
    draw_speed(comparison, sizes, "part, 100 images", tmp_path / "speed.png")
    with Image.open(tmp_path / "speed.png") as figure:
        assert figure.size == (1440, 552)

"""The figure of the benchmark."""

import pandas as pd
from PIL import Image

from defectloc.figures.speed import draw_speed


def test_both_panels_fill_one_figure(tmp_path):
    arms = {"case_study": [700.0, 7000.0], "streaming": [30.0, 90.0], "stored": [1.0, 2.0]}
    comparison = pd.DataFrame({"task": ["one fold", "five folds"], **arms})
    stages = pd.DataFrame({"stage": ["fit", "rest"], "seconds": [50.0, 0.1]})
    draw_speed(comparison, stages, "part, 100 images", tmp_path / "speed.png")
    with Image.open(tmp_path / "speed.png") as figure:
        assert figure.size == (1440, 552)

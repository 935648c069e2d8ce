"""The figure of the shortcut check."""

import numpy as np
from PIL import Image

from defectloc.figures.shortcut import Counterfactual, draw_shortcut


def test_rows_with_and_without_a_known_mask(tmp_path):
    image, values = np.full((40, 80, 3), 90, np.uint8), np.linspace(0, 6, 3200).reshape(40, 80)
    mask = np.zeros((40, 80), bool)
    mask[10:20, 10:20] = True
    before = image.copy()
    rows = [
        Counterfactual(image, mask, values, values, "test/crack/000.png", 3.0, -1.0),
        Counterfactual(image, None, values, values, "n" * 100, 2.0, 1.5),
    ]
    for n in (1, 2):
        path = tmp_path / f"{n}.png"
        draw_shortcut(rows[:n], (0, 5), (1, 6), "part, fold 0", path)
        with Image.open(path) as figure:
            assert figure.width == round(10.5 * 110)
    np.testing.assert_array_equal(image, before)

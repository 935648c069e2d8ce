"""Maps, outlines and boxes on a photograph."""

import io

import numpy as np
import pytest
from matplotlib import colormaps
from PIL import Image

from defectloc.figures.overlay import BOX, font, paint_boxes, paint_map, paint_outline, png, shortened

GREY = np.full((4, 4, 3), 100, np.uint8)


def test_low_values_leave_the_photograph_as_it_is():
    values = np.zeros((4, 4))
    values[1, 2] = 2
    painted = paint_map(GREY, values, (0, 1), 0.6)
    full = np.array(colormaps["inferno"](1.0)[:3]) * 255
    np.testing.assert_allclose(painted[1, 2], 0.4 * 100 + 0.6 * full, atol=1)
    painted[1, 2] = 100
    assert (painted == 100).all()


def test_overlay_of_given_opacities_adds_map_and_photograph_everywhere():
    values = np.linspace(0, 1, 16).reshape(4, 4)
    painted = paint_map(GREY, values, (0, 1), 0.3, "jet", 0.5)
    np.testing.assert_allclose(painted, np.clip(0.3 * 255 * colormaps["jet"](values)[..., :3] + 50, 0, 255), atol=1)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_colours_are_those_of_matplotlib(dtype):
    values = np.linspace(-0.5, 1.5, 3000, dtype=dtype).reshape(30, 100)
    share = np.clip(values, 0, 1)
    expected = np.clip(colormaps["inferno"](share)[..., :3] * 255, 0, 255).astype(np.uint8)
    painted = paint_map(np.zeros((30, 100, 3), np.uint8), values, (0, 1), 1.0, photo_opacity=0.0)
    np.testing.assert_array_equal(painted, expected)


def test_a_png_holds_the_pixels():
    image = np.random.default_rng(0).integers(0, 256, (7, 5, 3), dtype=np.uint8)
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(png(image)))), image)


def test_boxes_are_half_open():
    painted = paint_boxes(np.full((20, 20, 3), 100, np.uint8), np.array([[5, 6, 15, 12]]), 1)
    rows, columns = np.nonzero((painted == BOX).all(-1))
    assert (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1) == (5, 6, 15, 12)


def test_outline_follows_the_mask():
    mask = np.zeros((20, 20), bool)
    mask[3:17, 4:16] = True
    painted = paint_outline(np.full((20, 20, 3), 100, np.uint8), mask, 1)
    rows, columns = np.nonzero((painted == 255).all(-1))
    assert (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1) == (4, 3, 16, 17)
    assert (painted[10, 10] == 100).all()


@pytest.mark.parametrize("width", [40, 100, 5000])
def test_a_shortened_name_fits_and_keeps_its_end(width):
    name = "test/good/" + "wide" * 30 + "/0123.png"
    found = shortened(name, width)
    assert font(13).getlength(found) <= width
    if width == 5000:
        assert found == name
    else:
        assert found.startswith("…")
        assert name.endswith(found[1:])
        assert font(13).getlength("…" + name[-len(found) :]) > width

"""Pictures as text: what they show once they are decoded again, and how large they may become."""

import base64
import io
import re

import numpy as np
import pytest
from matplotlib import colormaps
from PIL import Image

from defectloc.figures import embedded
from defectloc.figures.embedded import color_stops, heat_map_uri, outline_path, photograph_uri, picture_uri


def decoded(uri):
    head, _, text = uri.partition(",")
    content = base64.b64decode(text)
    with Image.open(io.BytesIO(content)) as picture:
        picture.load()
        assert head == f"data:image/{str(picture.format).lower()};base64"
        return picture, len(content)


def test_a_photograph_keeps_its_shape_and_is_never_enlarged():
    image = np.full((200, 100, 3), (200, 40, 60), np.uint8)
    picture, _ = decoded(photograph_uri(image, 640))
    assert picture.size == (100, 200)
    assert np.abs(np.asarray(picture.convert("RGB")).astype(int) - image).max() < 12
    assert decoded(photograph_uri(image, 50))[0].size == (25, 50)


def test_noise_stays_within_its_bytes():
    noise = np.random.default_rng(0).integers(0, 256, (700, 700, 3), dtype=np.uint8)
    _, size = decoded(photograph_uri(noise, 640))
    assert size <= embedded.PHOTOGRAPH_BYTES


def test_a_hundred_images_stay_below_15_megabytes():
    # A map of noise that PNG cannot compress.
    values = np.random.default_rng(0).random((embedded.HEAT_MAP_SIDE, embedded.HEAT_MAP_SIDE))
    heat = len(heat_map_uri(values, (0.0, 1.0)))
    photograph = embedded.PHOTOGRAPH_BYTES * 4 / 3
    assert 100 * (heat + photograph + embedded.OUTLINE_LENGTH) < 15e6


@pytest.mark.parametrize("size", [(1, 1), (1, 4000), (4000, 1)])
def test_extreme_sizes_have_pictures(size):
    decoded(photograph_uri(np.zeros((*size, 3), np.uint8), 640))
    assert outline_path(np.ones(size, bool)).startswith("M")


def test_a_heat_map_has_the_colours_of_the_scale_it_is_given():
    picture, _ = decoded(heat_map_uri(np.array([[-1.0, 0.0], [1.0, 9.0]]), (0.0, 2.0)))
    pixels = np.asarray(picture.convert("RGBA"))
    assert pixels[..., 3].tolist() == [[0, 0], [128, 255]]
    expected = np.array(colormaps["inferno"](128)[:3]) * 255
    assert np.abs(pixels[1, 0, :3] - expected).max() <= 1


def test_the_ramp_goes_from_none_to_full():
    stops = color_stops(3)
    assert [stop.rpartition("/ ")[2] for stop in stops] == ["0.00)", "0.50)", "1.00)"]


def test_an_outline_surrounds_its_mask_in_native_pixels():
    mask = np.zeros((1000, 2000), bool)
    mask[300:400, 600:900] = True
    points = np.array([[float(n) for n in each] for each in re.findall(r"(\d+) (\d+)", outline_path(mask))])
    assert np.abs(points.min(0) - [600, 300]).max() <= 8
    assert np.abs(points.max(0) - [900, 400]).max() <= 8
    assert outline_path(np.zeros((10, 10), bool)) == ""


def test_specks_are_outlined_more_coarsely():
    mask = np.random.default_rng(0).random((600, 600)) < 0.02
    assert len(outline_path(mask)) <= embedded.OUTLINE_LENGTH


def test_a_figure_keeps_its_size():
    picture, _ = decoded(picture_uri(Image.new("RGBA", (300, 200), "white")))
    assert picture.size == (300, 200)

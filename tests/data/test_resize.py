import numpy as np
import pytest
import torch

from defectloc.data.resize import input_size, resize


def test_resize_keeps_the_whole_image():
    """No crop: a mark in each corner survives, whatever the shape."""
    image = np.zeros((60, 200, 3), np.uint8)
    for row, column, channel in ((0, 0, 0), (0, -20, 1), (-6, 0, 2)):
        image[row : row + 6 or None, column : column + 20 or None, channel] = 200
    small = resize(image, 32)
    assert small.shape == (3, 32, 32)
    assert small.dtype == torch.float32
    assert [float(small[at]) for at in ((0, 0, 0), (1, 0, -1), (2, -1, 0))] == pytest.approx([200] * 3)
    assert small[:, -1, -1].abs().sum() == 0


def test_resize_is_antialiased_and_leaves_a_fitting_image_alone():
    stripes = np.zeros((64, 64, 3), np.uint8)
    stripes[:, ::2] = 200
    assert torch.all((resize(stripes, 16)[:, :, 2:-2] - 100).abs() < 2)
    image = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    np.testing.assert_array_equal(resize(image, 32).permute(1, 2, 0).numpy(), image)
    np.testing.assert_allclose(resize(image[:, ::-1], 32).flip(2), resize(image, 32), atol=1e-4)


@pytest.mark.parametrize(
    ("image_size", "sizes", "expected"),
    [
        (224, [(900, 900)], 224),
        (224, [(100, 200)] * 3 + [(300, 100)], [224, 448]),
        (224, [(300, 100)], [672, 224]),
        # Half of them lie, half stand: a square between.
        (64, [(100, 400), (400, 100)], 64),
        (64, [(100, 110)], 64),
        # More than a quarter of them stand.
        (64, [(100, 200)] * 6 + [(200, 100)] * 3, 64),
        (64, [(100, 200)] * 8 + [(200, 100)] * 2, [64, 128]),
        (64, [(100, 200)] * 6 + [(100, 102)] * 4, [64, 128]),
        # A long strip.
        (32, [(10, 20000)], [32, 256]),
        ([64, 96], [(100, 100)], [64, 96]),
        ([64, 64], [(100, 300)], 64),
    ],
)
def test_the_longer_side_follows_the_median_aspect_ratio(image_size, sizes, expected):
    assert input_size(image_size, sizes) == expected

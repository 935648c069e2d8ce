"""Small pictures of large images."""

import numpy as np
import pytest

from defectloc.figures.thumbnails import shrink_boxes, shrink_image, shrink_mask, thumbnail_size


@pytest.mark.parametrize(
    ("height", "width", "size"), [(400, 800, (100, 200)), (10, 5, (200, 100)), (10, 20_000, (1, 200))]
)
def test_the_longer_side_is_given_and_none_vanishes(height, width, size):
    assert thumbnail_size(height, width, 200) == size


def test_images_shrink_by_their_mean_and_small_ones_grow():
    image = np.zeros((4, 8, 3), np.uint8)
    image[:, 4:] = 200
    np.testing.assert_array_equal(shrink_image(image, (1, 2)), [[[0] * 3, [200] * 3]])
    assert shrink_image(image, (8, 16)).shape == (8, 16, 3)


def test_no_pixel_of_a_mask_is_lost():
    mask = np.zeros((400, 800), bool)
    mask[200, 400] = True
    small = shrink_mask(mask, (100, 200))
    assert small.sum() == 1
    assert small[50, 100]
    assert shrink_mask(mask, (100, 200), margin=3).sum() == 49
    assert not shrink_mask(np.zeros((400, 800), bool), (100, 200), margin=3).any()
    np.testing.assert_array_equal(shrink_mask(np.eye(2, dtype=bool), (4, 4)), np.kron(np.eye(2), np.ones((2, 2))) > 0)


def test_boxes_scale_with_the_image_and_keep_a_pixel():
    boxes = [[0, 0, 100, 50], [799, 399, 800, 400]]
    np.testing.assert_array_equal(shrink_boxes(boxes, (400, 800), (100, 200)), [[0, 0, 25, 12], [199, 99, 200, 100]])
    assert shrink_boxes(np.zeros((0, 4)), (400, 800), (100, 200)).shape == (0, 4)

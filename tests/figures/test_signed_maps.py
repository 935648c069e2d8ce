"""Colours for and against a class."""

import numpy as np
import pytest

from defectloc.figures.signed_maps import AGAINST, BOUND, FOR, paint_signed, paint_superpixels

GREY = np.full((4, 4, 3), 100, np.uint8)


def test_red_is_for_and_blue_against():
    values = np.zeros((4, 4))
    values[0, 0], values[3, 3], values[1, 1] = 5, -5, 1
    painted = paint_signed(GREY, values, 2)
    assert painted[0, 0].tolist() == FOR.tolist()
    assert painted[3, 3].tolist() == AGAINST.tolist()
    ground = painted[2, 2]
    assert len(set(ground.tolist())) == 1
    assert ground[0] > 100
    np.testing.assert_allclose(painted[1, 1], (ground + FOR) / 2, atol=1)


@pytest.mark.parametrize("factor", [1, 3])
def test_superpixels_have_bounds_and_signs(factor):
    segments = np.repeat([[0, 0, 1, 1]], 4, axis=0)
    values = np.where(segments == 0, 2.0, -2.0)
    image = np.full((4 * factor, 4 * factor, 3), 100, np.uint8)
    painted = paint_superpixels(image, segments, values, 2).astype(int)
    bound = 2 * factor
    assert (painted[:, bound] == BOUND).all()
    assert (np.delete(painted, bound, axis=1) == BOUND).all(-1).sum() == 0
    left, right = painted[0, 0], painted[0, -1]
    assert left[1] > left[0]
    assert right[0] > right[1]

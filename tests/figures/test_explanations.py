"""What the colours on an explained photograph are."""

import numpy as np
import pytest
from matplotlib import colormaps

from defectloc.figures.heat_styles import AGAINST, FOR, for_and_against, heat_on, superpixels_on

GREY = np.full((4, 4, 3), 100, np.uint8)


def test_cold_places_stay_as_they_are():
    heat = np.zeros((4, 4))
    heat[1, 2] = 2
    drawn = heat_on(GREY, heat, (0, 1), "inferno", 0.6)
    hot = np.array(colormaps["inferno"](1.0)[:3]) * 255
    np.testing.assert_allclose(drawn[1, 2], 0.4 * 100 + 0.6 * hot, atol=1)
    drawn[1, 2] = 100
    assert (drawn == 100).all()


def test_the_walk_throughs_overlay_adds_heat_and_photograph_everywhere():
    heat = np.linspace(0, 1, 16).reshape(4, 4)
    drawn = heat_on(GREY, heat, (0, 1), "jet", 0.3, 0.5)
    np.testing.assert_allclose(drawn, np.clip(0.3 * 255 * colormaps["jet"](heat)[..., :3] + 50, 0, 255), atol=1)


def test_red_is_for_and_blue_against():
    heat = np.zeros((4, 4))
    heat[0, 0], heat[3, 3], heat[1, 1] = 5, -5, 1
    drawn = for_and_against(GREY, heat, 2)
    assert drawn[0, 0].tolist() == FOR.tolist()
    assert drawn[3, 3].tolist() == AGAINST.tolist()
    ground = drawn[2, 2]
    assert len(set(ground.tolist())) == 1
    assert ground[0] > 100
    np.testing.assert_allclose(drawn[1, 1], (ground + FOR) / 2, atol=1)


@pytest.mark.parametrize("factor", [1, 3])
def test_superpixels_have_bounds_and_signs(factor):
    segments = np.repeat([[0, 0, 1, 1]], 4, axis=0)
    heat = np.where(segments == 0, 2.0, -2.0)
    image = np.full((4 * factor, 4 * factor, 3), 100, np.uint8)
    drawn = superpixels_on(image, segments, heat, 2).astype(int)
    bound = 2 * factor
    assert (drawn[:, bound] == (255, 230, 0)).all()
    assert (np.delete(drawn, bound, axis=1) == (255, 230, 0)).all(-1).sum() == 0
    left, right = drawn[0, 0], drawn[0, -1]
    assert left[1] > left[0]
    assert right[0] > right[1]

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.interpolate import RegularGridInterpolator

from defectloc.errors import DefectlocError
from defectloc.localization.maps import Grid, block_maxima, full_colour, upsample

VGG16, RESNET50, DENSENET121 = Grid(16, 7.5), Grid(32, 0), Grid(32, 14.0)


def test_at_input_size_a_cells_centre_holds_the_cells_value() -> None:
    values = np.arange(49, dtype=np.float32).reshape(7, 7)
    result = upsample(values, (224, 224), 224, RESNET50)
    assert result.shape == (224, 224)
    assert result.dtype == np.float32
    np.testing.assert_allclose(result[::32, ::32], values)


def test_a_half_pixel_centre_lies_between_its_two_neighbours() -> None:
    row = np.array([[0.0, 1.0]])
    result = upsample(row, (1, 32), 32, VGG16)[0]
    np.testing.assert_allclose(result[:8], 0)
    np.testing.assert_allclose(result[8:24], (np.arange(8, 24) - 7.5) / 16, rtol=1e-6)
    np.testing.assert_allclose(result[24:], 1)


@pytest.mark.parametrize("grid", [VGG16, RESNET50, DENSENET121])
@pytest.mark.parametrize("size", [(37, 300), (800, 550)])
def test_agrees_with_scipys_interpolation_at_native_size(grid: Grid, size: tuple[int, int]) -> None:
    cells = int(224 // grid.stride)
    values = np.random.default_rng(0).normal(size=(cells, cells))
    centres = grid.offset + grid.stride * np.arange(cells)
    at = [np.clip((np.arange(n) + 0.5) * 224 / n - 0.5, centres[0], centres[-1]) for n in size]
    expected = RegularGridInterpolator((centres, centres), values)(np.stack(np.meshgrid(*at, indexing="ij"), -1))
    np.testing.assert_allclose(upsample(values, size, 224, grid), expected, atol=1e-6)


def test_each_axis_goes_by_its_own_side_of_the_input() -> None:
    grid_map = np.arange(12.0).reshape(2, 6)
    found = upsample(grid_map, (30, 40), (16, 48), Grid(8, 3.5))
    # Rows as of a square input of 16, columns as of one of 48.
    for row in range(2):
        one = np.repeat(grid_map[row : row + 1], 2, 0)
        np.testing.assert_allclose(found[29 * row], upsample(one, (30, 40), 48, Grid(8, 3.5))[0], rtol=1e-5)
    assert upsample(grid_map, (16, 48), (16, 48), Grid(8, 3.5))[0, 0] == 0


def test_the_identity_grid_changes_nothing() -> None:
    values = np.random.default_rng(1).normal(size=(4, 4)).astype(np.float32)
    np.testing.assert_array_equal(upsample(values, (4, 4), 4, Grid(1, 0)), values)


def test_a_map_of_one_cell_is_flat() -> None:
    np.testing.assert_array_equal(upsample([[3.0]], (3, 5), 32, Grid(32, 0)), np.full((3, 5), 3, np.float32))


@settings(deadline=None, max_examples=25)
@given(
    arrays(np.float32, st.tuples(st.integers(1, 5), st.integers(1, 5)), elements=st.floats(-1e3, 1e3, width=32)),
    st.integers(1, 50),
    st.integers(1, 50),
)
def test_no_value_leaves_the_range_and_a_flat_map_stays_flat(values: np.ndarray, height: int, width: int) -> None:
    result = upsample(values, (height, width), 64, VGG16)
    assert result.min() >= values.min()
    assert result.max() <= values.max()
    assert np.ptp(upsample(np.full_like(values, values[0, 0]), (height, width), 64, VGG16)) == 0


@pytest.mark.parametrize(
    ("values", "size"),
    [([[np.nan, 1.0]], (4, 4)), ([[np.inf]], (4, 4)), ([1.0], (4, 4)), (np.zeros((0, 3)), (4, 4)), ([[1.0]], (0, 4))],
)
def test_bad_maps_and_sizes_are_refused(values: object, size: tuple[int, int]) -> None:
    with pytest.raises(DefectlocError):
        upsample(values, size, 32, VGG16)


@pytest.mark.parametrize(("stride", "offset"), [(0, 0), (-1, 0), (np.nan, 0), (1, np.inf)])
def test_bad_grids_are_refused(stride: float, offset: float) -> None:
    with pytest.raises(DefectlocError, match="stride"):
        Grid(stride, offset)


@pytest.mark.parametrize("place", [(0, 0), (17, 250), (200, 301), (381, 511)])
def test_a_small_maximum_stays_where_there_are_fewer_pixels_than_cells(place):
    grid, cells = Grid(8, 3.5), np.zeros((384, 512), np.float32)
    cells[place] = 1
    shrunk, coarser = block_maxima(cells, (84, 112), grid)
    found = upsample(shrunk, (84, 112), (3072, 4096), coarser)
    # Without it 0 in most places.
    assert found.max() > 0.3
    y, x = np.unravel_index(found.argmax(), found.shape)
    assert abs((y + 0.5) / 84 - (place[0] + 0.5) / 384) < 0.02
    assert abs((x + 0.5) / 112 - (place[1] + 0.5) / 512) < 0.02


def test_a_map_of_fewer_cells_than_pixels_is_left_as_it_is():
    cells, grid = np.random.default_rng(0).random((28, 28)), Grid(8, 3.5)
    assert block_maxima(cells, (28, 56), grid) == (pytest.approx(cells), grid)


def test_one_value_in_200_has_the_full_colour():
    values = np.linspace(0, 1, 2001)
    assert full_colour(values, 0.0) == pytest.approx(0.995)
    assert full_colour(values, 0.5) == pytest.approx(0.995)


def test_small_defects_of_large_photographs_keep_their_shades():
    """A thousandth of the values is above 0, less than one in 200."""
    values = np.full(10_000, -5.0)
    values[:10] = np.arange(1, 11)
    assert full_colour(values, 0.0) == 5.5


def test_a_map_without_colour_has_a_scale_all_the_same():
    assert full_colour(np.full(50, -5.0), 0.0) == 1e-6
    assert full_colour(np.zeros(50), 2.0) == 2 + 1e-6

"""A map refined by its photograph: against the regression of every window, and what it is for."""

import numpy as np
import pytest

from defectloc.data.resize import resize
from defectloc.errors import DefectlocError
from defectloc.localization import guided
from defectloc.localization.guided import EPSILON, guide_of, radius_of, refined, shrunk
from defectloc.localization.maps import Grid, upsample

GRID = Grid(8, 3.5)


def noise(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def cells_of(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(1).normal(0, 3, (height // 8, width // 8)).astype(np.float32)


@pytest.mark.parametrize("size", [(20, 30), (64, 96), (200, 150), (1, 300)])
def test_the_guide_is_what_the_network_sees(size):
    photograph = noise(*size)
    seen = resize(photograph, (64, 96)).permute(1, 2, 0).numpy()
    assert np.abs(guide_of(photograph, (64, 96)) * 255.0 - seen).max() < 1e-3


@pytest.mark.parametrize("place", [(0, 0), (20, 33), (63, 47), (31, 0)])
def test_each_pixel_is_the_mean_of_the_regressions_of_its_windows(place, monkeypatch):
    guide, cells = guide_of(noise(64, 48), (64, 48)), cells_of(64, 48)
    values, colours, radius = (
        upsample(cells, (64, 48), (64, 48), GRID).astype(float),
        guide.astype(float),
        radius_of(GRID),
    )

    def window(row: int, column: int) -> tuple[slice, slice]:
        return slice(max(0, row - radius), row + radius + 1), slice(max(0, column - radius), column + radius + 1)

    def weights(row: int, column: int) -> np.ndarray:
        inside = window(row, column)
        x, y = colours[inside].reshape(-1, 3), values[inside].ravel()
        ridge = np.cov(x.T, bias=True) + EPSILON * np.eye(3)
        weight = np.linalg.solve(ridge, (x - x.mean(0)).T @ (y - y.mean()) / len(y))
        return np.append(weight, y.mean() - weight @ x.mean(0))

    rows, columns = window(*place)
    every = [weights(row, column) for row in range(64)[rows] for column in range(48)[columns]]
    wanted = np.mean(every, 0) @ np.append(colours[place], 1)
    monkeypatch.setattr(guided, "MOST", 1.0)
    assert refined(cells, guide, GRID)[place] == pytest.approx(np.clip(wanted, cells.min(), cells.max()), abs=1e-4)


def test_a_region_takes_the_outline_that_the_photograph_has():
    guide = np.full((64, 64, 3), 0.8, np.float32)
    guide[22:35, 27:41] = (0.8, 0.2, 0.2)
    cells = np.zeros((8, 8), np.float32)
    cells[3, 4] = 1
    truth = guide[..., 1] < 0.5

    def overlap(values: np.ndarray) -> float:
        """Give the best IoU over thresholds."""
        found = [values > threshold for threshold in np.linspace(0.02, 0.98, 49)]
        return max(float((each & truth).sum() / (each | truth).sum()) for each in found)

    assert overlap(refined(cells, guide, GRID)) > 0.9
    assert overlap(upsample(cells, (64, 64), (64, 64), GRID)) < 0.75


def test_where_the_photograph_has_no_edge_the_map_is_only_smoothed(monkeypatch):
    grey = np.full((64, 64, 3), 0.5, np.float32)
    cells = cells_of(64, 64)
    found = refined(cells, grey, GRID)
    assert np.abs(found - refined(cells, np.zeros_like(grey), GRID)).max() < 1e-3
    monkeypatch.setattr(guided, "MOST", 1.0)
    assert refined(cells, grey, GRID).std() < 0.5 * upsample(cells, (64, 64), (64, 64), GRID).std()


@pytest.mark.parametrize("width", [5, 30])
def test_a_small_defect_keeps_its_height(width, monkeypatch):
    guide = np.full((64, 64, 3), 0.8, np.float32)
    guide[27:30, 27 : 27 + width] = 0.2
    cells = np.zeros((8, 8), np.float32)
    cells[3, 3] = 5
    assert refined(cells, guide, GRID).max() > 4
    monkeypatch.setattr(guided, "MOST", 1.0)
    assert refined(cells, guide, GRID).max() < 3.5


def test_values_stay_in_their_range_and_flat_maps_flat():
    cells = cells_of(64, 48)
    found = refined(cells, guide_of(noise(64, 48), (64, 48)), GRID)
    assert cells.min() <= found.min() <= found.max() <= cells.max()
    assert np.unique(refined(np.full((8, 6), 0.3, np.float32), guide_of(noise(64, 48), (64, 48)), GRID)).tolist() == [
        np.float32(0.3)
    ]


@pytest.mark.parametrize("factor", [1e-6, 1e-2, 1e4])
def test_the_unit_of_the_map_makes_no_difference(factor):
    cells, guide = cells_of(64, 48), guide_of(noise(64, 48), (64, 48))
    scaled = refined(cells * np.float32(factor), guide, GRID) / factor
    np.testing.assert_allclose(scaled, refined(cells, guide, GRID), atol=1e-3)


def test_a_small_defect_keeps_its_height_beside_a_large_one():
    guide = np.full((128, 128, 3), 0.8, np.float32)
    guide[20:24, 19:24] = 0.2
    alone = np.zeros((16, 16), np.float32)
    alone[2, 2] = 6
    beside = alone.copy()
    beside[6:, 5:12] = 50
    assert refined(alone, guide, GRID)[22, 21] == pytest.approx(refined(beside, guide, GRID)[22, 21], abs=0.1)


@pytest.mark.parametrize(("size", "shape"), [((64, 448), (64, 448)), ((50, 224), (64, 224)), ((20, 60), (32, 112))])
def test_a_smaller_map_loses_no_maximum(size, shape):
    values = np.zeros((64, 448), np.float32)
    values[33, 101] = 1
    assert shrunk(values, size).shape == shape
    assert shrunk(values, size).max() == 1


def test_not_a_number_is_refused():
    with pytest.raises(DefectlocError, match="NaN"):
        refined(np.full((8, 6), np.nan, np.float32), guide_of(noise(64, 48), (64, 48)), GRID)

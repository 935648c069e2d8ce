"""Large photographs band by band."""

import numpy as np
import pytest
import torch

from defectloc.model import bands as banding
from defectloc.model.bands import bands
from defectloc.model.memory_bank import MemoryBank, patches

GRIDS = [(8.0, 3.5), (16.0, 7.5)]


@pytest.fixture
def levels():
    rng = np.random.default_rng(0)
    return [rng.random((1, 3, 26, 20), np.float32), rng.random((1, 5, 13, 10), np.float32)]


@pytest.mark.parametrize("most_cells", [1, 100, 200, 520])
def test_bands_give_the_patches_of_the_whole(levels, most_cells, monkeypatch):
    whole = patches(levels, GRIDS)
    monkeypatch.setattr(banding, "MOST_CELLS", most_cells)
    found = [patches(band, GRIDS)[:, rows] for band, rows in bands(levels, GRIDS)]
    assert (len(found) > 1) == (most_cells < 520)
    assert torch.cat(found, 1).numpy() == pytest.approx(whole.numpy(), abs=1e-6)


@pytest.mark.parametrize("most_cells", [1, 300, 900])
def test_bands_of_strides_that_are_no_multiples_of_each_other(most_cells, monkeypatch):
    rng, grids = np.random.default_rng(0), [(8.0, 3.5), (12.0, 5.5)]
    levels = [rng.random((1, 3, 60, 42), np.float32), rng.random((1, 5, 40, 28), np.float32)]
    whole = patches(levels, grids)
    monkeypatch.setattr(banding, "MOST_CELLS", most_cells)
    found = [patches(band, grids)[:, rows] for band, rows in bands(levels, grids)]
    assert len(found) > 1
    assert torch.cat(found, 1).numpy() == pytest.approx(whole.numpy(), abs=1e-6)


def test_a_bank_of_large_images_is_that_of_small_ones(levels, monkeypatch):
    images = [[level + shift for level in levels] for shift in (0.0, 0.1)]
    whole = MemoryBank.fit(lambda: images, 2, GRIDS, 4, 2 * 300 * 4 * 4, 0)
    monkeypatch.setattr(banding, "MOST_CELLS", 100)
    banded = MemoryBank.fit(lambda: images, 2, GRIDS, 4, 2 * 300 * 4 * 4, 0)
    assert banded.origins.tolist() == whole.origins.tolist()
    assert banded.vectors.sort(0).values.numpy() == pytest.approx(whole.vectors.sort(0).values.numpy(), abs=1e-4)
    assert banded.distances(levels) == pytest.approx(whole.distances(levels), abs=1e-3)

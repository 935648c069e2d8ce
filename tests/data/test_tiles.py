"""Where tiles lie, and how they become one map."""

import itertools

import numpy as np
import pytest

from defectloc.data.tiles import Tiling, assembled, chosen_tile, cut, shares
from defectloc.errors import DefectlocError

SIZES = [(3072, 4096), (64, 64), (10, 10), (65, 900), (1, 700), (224, 225), (300, 500)]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("tiling", [Tiling(224, 224, 0.25, 8), Tiling(448, 224, 0.0, 16), Tiling(64, 96, 0.5, 32)])
def test_tiles_cover_the_photograph_and_share_what_they_should(size, tiling):
    for length in tiling.input_size(size):
        origins = tiling.origins(length)
        assert length % tiling.multiple == 0
        assert all(origin % tiling.multiple == 0 for origin in origins)
        assert origins[0] == 0
        # Shifted inward: the last tile ends with the photograph, unless that is smaller than a tile.
        assert origins[-1] + tiling.side == max(length, tiling.side)
        for before, after in itertools.pairwise(origins):
            assert before < after
            assert before + tiling.side - after >= tiling.overlap * tiling.side
    corners = tiling.corners(size)
    assert len(set(corners)) == len(corners)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("overlap", [0.0, 0.25, 0.5])
def test_weights_sum_to_one_and_leave_out_the_outer_quarter_of_an_overlap(size, overlap):
    tiling = Tiling(224, 224, overlap, 8)
    for length in tiling.input_size(size):
        origins, total = tiling.origins(length), np.zeros(length // 8)
        for number, (own, to, weight) in enumerate(shares(origins, 224, length, 8)):
            assert own.stop - own.start == to.stop - to.start == len(weight)
            assert to.start == origins[number] // 8
            assert weight.min() >= 0
            total[to] += weight
            if number:
                quarter = (origins[number - 1] + 224 - origins[number]) // 4 // 8
                assert not weight[:quarter].any()
        assert total == pytest.approx(np.ones_like(total))


@pytest.mark.parametrize("size", [(512, 700), (30, 700), (100, 90)])
def test_tiles_of_a_map_give_the_map(size):
    tiling, rng = Tiling(128, 64, 0.3, 8), np.random.default_rng(0)
    height, width = tiling.input_size(size)
    image = rng.random((2, height, width), np.float32)
    tiles = [cut(image, corner, 64)[:, ::8, ::8] for corner in tiling.corners(size)]
    assert assembled(tiles, tiling, size) == pytest.approx(image[:, ::8, ::8], abs=1e-6)
    assert assembled(tiles, tiling, size).shape[1:] == tiling.cells(size, 8)


def test_a_photograph_smaller_than_a_tile_is_reflected_not_padded_with_black():
    image = np.arange(1.0, 7.0).reshape(1, 2, 3)
    assert cut(image, (0, 0), 5)[0].tolist() == [
        [1, 2, 3, 3, 2],
        [4, 5, 6, 6, 5],
        [4, 5, 6, 6, 5],
        [1, 2, 3, 3, 2],
        [1, 2, 3, 3, 2],
    ]


def test_auto_goes_by_the_longer_side():
    assert chosen_tile((400, 300), 224) is None
    assert chosen_tile((300, 448), 224) == 224
    assert chosen_tile((3072, 4096), 224) == 448


def test_a_tiling_is_written_and_read():
    tiling = Tiling(256, 224, 0.25, 8)
    assert Tiling.from_json(tiling.to_json()) == tiling
    with pytest.raises(DefectlocError, match="no tiling"):
        Tiling.from_json({"tile": 3})

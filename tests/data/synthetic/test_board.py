"""Boards: another layout in each image, defects of a known size, enough of them to learn from."""

import cv2
import numpy as np
import pytest

from defectloc.data.synthetic import generation as synthetic
from defectloc.data.synthetic.board_defects import DEFECTS, damage
from defectloc.data.synthetic.layout import TRACK_WIDTH, copper_of, random_layout


def board(kind, index, size=256):
    return synthetic.generate_image("board", seed=3, split="test", defect_type=kind, index=index, size=size)


def defects_of(mask):
    count, _, stats, _ = cv2.connectedComponentsWithStats(cv2.dilate(mask, np.ones((3, 3), np.uint8)))
    return [max(stats[i, cv2.CC_STAT_WIDTH], stats[i, cv2.CC_STAT_HEIGHT]) - 2 for i in range(1, count)]


@pytest.mark.parametrize("kind", sorted(DEFECTS))
def test_three_to_ten_defects_of_a_small_size(kind):
    counts, sizes = [], []
    for index in range(8):
        image, mask = board(kind, index)
        assert image.shape == (256, 256, 3)
        found = defects_of(mask)
        counts.append(len(found))
        sizes += found
    assert min(counts) >= 3
    assert max(counts) <= 10
    assert len(set(counts)) > 1
    assert min(sizes) >= 4
    assert max(sizes) <= 36
    assert 6 <= np.median(sizes) <= 22


def test_defects_grow_with_the_square_root_of_the_side():
    medians = [
        np.median([size for index in range(4) for size in defects_of(board("pin_hole", index, side)[1])])
        for side in (256, 1024)
    ]
    assert 1.5 < medians[1] / medians[0] < 2.6


def test_layouts_differ_and_do_not_line_up():
    images = [board("good", index)[0].mean(axis=2) for index in range(6)]
    for i in range(6):
        for j in range(i):
            assert abs(np.corrcoef(images[i].ravel(), images[j].ravel())[0, 1]) < 0.3


@pytest.mark.parametrize("size", [48, 64])
@pytest.mark.parametrize("kind", sorted(DEFECTS))
def test_small_boards_have_a_place_for_each_defect(kind, size):
    assert all(board(kind, index, size)[1].any() for index in range(12))


@pytest.mark.parametrize("seed", range(6))
def test_what_defects_do_to_the_copper(seed):
    """An open makes pieces of copper more, a short fewer, the others leave nets as they are or add a spot."""
    layout, cell = random_layout(np.random.default_rng(seed), 16, 512)
    copper, holes = copper_of(layout, 512, TRACK_WIDTH * cell)

    def pieces(canvas):
        return cv2.connectedComponents(canvas)[0]

    for kind, sign in (("open", 1), ("short", -1), ("spurious_copper", 1), ("mouse_bite", 0), ("spur", 0)):
        damaged = damage(copper, holes, layout, cell, kind, np.random.default_rng(seed))
        assert np.sign(pieces(damaged) - pieces(copper)) == sign, kind
        added, removed = (damaged & ~copper).any(), (copper & ~damaged).any()
        assert (added, removed) == (kind in ("short", "spur", "spurious_copper"), kind in ("open", "mouse_bite"))
    holed = damage(copper, holes, layout, cell, "pin_hole", np.random.default_rng(seed))
    assert pieces(holed) == pieces(copper)
    assert pieces(~holed) > pieces(~copper)

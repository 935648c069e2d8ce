"""The sheet of photographs and heat maps."""

from dataclasses import replace

import numpy as np
from PIL import Image

from defectloc.figures.overlay import BOX
from defectloc.figures.sheet import CAPTION, GAP, HEADER, HEADING, SIDE, WIDTH, Group, Panel, draw_sheet


def panel(height=SIDE, boxes=((20, 30, 60, 80),), name="test/crack/000.png", is_right=True):
    mask = np.zeros((height, SIDE), bool)
    mask[10:20, 100:120] = True
    values = np.zeros((height, SIDE), np.float32)
    return Panel(
        image=np.full((height, SIDE, 3), 90, np.uint8),
        map=values,
        boxes=np.array(boxes).reshape(-1, 4),
        mask=mask,
        name=name,
        verdict="defective, p = 0.405 (threshold 0.310)",
        is_right=is_right,
    )


def drawn(path, *groups):
    draw_sheet(groups, (0.0, 1.0), "log-odds of a defect", "part, fold 0", path)
    return np.asarray(Image.open(path))


def test_boxes_lie_on_the_heat_map_and_nothing_covers_what_is_inside(tmp_path):
    one = panel()
    before = one.image.copy()
    sheet = drawn(tmp_path / "sheet.png", Group("Defective images", [one]))
    assert sheet.shape == (HEADER + HEADING + CAPTION + SIDE + GAP, WIDTH, 3)
    top, left = HEADER + HEADING + CAPTION, GAP
    photograph = sheet[top : top + SIDE, left : left + SIDE]
    heat_map = sheet[top : top + SIDE, left + SIDE + 2 : left + 2 * SIDE + 2]
    assert tuple(heat_map[31, 40]) == BOX
    assert not (photograph == BOX).all(-1).any()
    assert (photograph[50, 40] == 90).all()
    # The outline of the mask, on both.
    assert (photograph[10, 100:120] == 255).all()
    assert (heat_map[10, 100:120] == 255).all()
    np.testing.assert_array_equal(one.image, before)


def test_a_row_is_as_high_as_its_pictures(tmp_path):
    sheet = drawn(tmp_path / "sheet.png", Group("Defective images", [panel(height=50, boxes=())] * 4))
    assert sheet.shape[0] == HEADER + HEADING + 2 * (CAPTION + 50 + GAP)


def test_the_heat_map_of_an_upright_photograph_is_beside_it(tmp_path):
    one = panel(boxes=())
    upright = replace(one, image=one.image[:, :80], map=one.map[:, :80], mask=None)
    sheet = drawn(tmp_path / "sheet.png", Group("Defective images", [upright]))
    row = sheet[HEADER + HEADING + CAPTION + 100, :, 0]
    assert (row[GAP : GAP + 80] == 90).all()
    assert (row[GAP + 80 : GAP + 82] == 255).all()
    assert (row[GAP + 82 : GAP + 162] < 100).all()
    assert (row[GAP + 162 :] == 255).all()


def test_a_group_without_panels_says_so_and_a_long_path_stays_in_its_column(tmp_path):
    groups = (
        Group("Defective images", [panel(name="深い/" * 80 + "000.png")]),
        Group("Good images", [], "There is none."),
    )
    sheet = drawn(tmp_path / "sheet.png", *groups)
    assert sheet.shape[0] == HEADER + 3 * HEADING + CAPTION + SIDE + GAP
    caption = sheet[HEADER + HEADING : HEADER + HEADING + 16]
    assert (caption[:, GAP + 2 * SIDE + 4 :] == 255).all()
    assert (sheet[-HEADING:] < 200).any()


def test_right_wrong_and_undecided_verdicts_differ_in_colour(tmp_path):
    sheets = [drawn(tmp_path / f"{each}.png", Group("Images", [panel(is_right=each)])) for each in (True, False, None)]
    captions = [sheet[HEADER + HEADING + 18 : HEADER + HEADING + 34].reshape(-1, 3) for sheet in sheets]
    darkest = [caption[caption.sum(1).argmin()] for caption in captions]
    assert darkest[0].argmax() == 1
    assert darkest[1].argmax() == 0
    assert len(set(darkest[2].tolist())) == 1

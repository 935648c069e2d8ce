import hashlib

import cv2
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from defectloc.data.survey import survey
from defectloc.data.synthetic.generation import generate
from defectloc.errors import DefectlocError
from defectloc.figures.overview import OUTLINE_COLOR, _surround, draw_overview


@pytest.fixture
def pills(tmp_path):
    root = generate(tmp_path / "data", "pill", n_good=3, n_test_good=0, n_per_type=2, size=64)
    rows = []
    for path in sorted((root / "pill").glob("t*/*/*.png")):
        kind = path.parent.name
        mask = f"pill/ground_truth/{kind}/{path.stem}_mask.png"
        rows.append(
            {
                "path": path.relative_to(root).as_posix(),
                "label": int(kind != "good"),
                "defect_type": kind,
                "mask_path": mask if kind != "good" else None,
                "digest": hashlib.sha256(path.read_bytes()).hexdigest(),
            }
        )
    return root, pd.DataFrame(rows)


def n_outlined(path):
    picture = np.asarray(Image.open(path).convert("RGB")).astype(int)
    wanted = [int(OUTLINE_COLOR[i : i + 2], 16) for i in (1, 3, 5)]
    near = (np.abs(picture - wanted).max(axis=2) < 60).astype(np.uint8)
    count, _, stats, _ = cv2.connectedComponentsWithStats(cv2.dilate(near, np.ones((9, 9))))
    return int((stats[1:count, cv2.CC_STAT_AREA] > 100).sum())


def test_each_defect_with_a_mask_is_outlined_and_none_without(tmp_path, pills):
    root, catalog = pills
    path = tmp_path / "figures" / "overview.png"
    draw_overview(survey(catalog, root), root, catalog, path, title="pill")
    n_masks = int(catalog["mask_path"].notna().sum())
    assert n_outlined(path) >= n_masks
    bare = catalog.assign(mask_path=None)
    draw_overview(survey(bare, root), root, bare, path)
    assert n_outlined(path) == 0
    assert [p.name for p in path.parent.iterdir()] == ["overview.png"]


def test_one_good_class_only_and_more_types_than_rows_are_drawn(tmp_path, pills):
    root, catalog = pills
    good = catalog[catalog["label"] == 0]
    draw_overview(survey(good, root), root, good, tmp_path / "good.png")
    many = catalog[catalog["label"] == 1].head(1)
    many = pd.concat([good, *(many.assign(defect_type=f"type {i:02d}") for i in range(20))])
    draw_overview(survey(many, root), root, many, tmp_path / "many.png")
    for name in ("good.png", "many.png"):
        with Image.open(tmp_path / name) as picture:
            assert picture.width > 1000
            assert picture.height < 3000


def test_a_defect_of_one_pixel_is_outlined_and_not_covered():
    mask = np.zeros((400, 800), bool)
    mask[200, 400] = True
    wide = _surround(mask, (100, 200))
    assert wide.shape == (100, 200)
    assert wide[50, 100] == 1
    assert wide.sum() == 49
    assert _surround(np.ones((20, 20), bool), (10, 10))[0].sum() == 0


def test_a_figure_that_cannot_be_written_is_said(tmp_path, pills):
    root, catalog = pills
    (tmp_path / "file").write_text("")
    with pytest.raises(DefectlocError, match="cannot be written"):
        draw_overview(survey(catalog, root), root, catalog, tmp_path / "file" / "x.png")


@pytest.mark.parametrize("size", [(4000, 2), (2, 4000)])
def test_a_defective_image_as_narrow_as_a_line_is_drawn(tmp_path, pills, size):
    root, catalog = pills
    victim = catalog[catalog["label"] == 1].iloc[0]
    Image.new("RGB", size, (90, 30, 30)).save(root / victim["path"])
    draw_overview(survey(catalog, root), root, catalog, tmp_path / "overview.png")
    assert (tmp_path / "overview.png").is_file()

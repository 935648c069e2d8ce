import hashlib
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from defectloc.data.survey import survey
from defectloc.data.synthetic.generation import generate
from defectloc.errors import DefectlocError

SHARED = Path(__file__).parents[3] / "shared" / "data"


def catalog_of(root, labels):
    """Catalog the images below `root`; `labels` tells the label by a file's relative path."""
    rows = []
    for path in sorted(p for p in root.rglob("*") if p.suffix in (".png", ".jpg") and "ground_truth" not in p.parts):
        name = path.relative_to(root).as_posix()
        kind = path.parent.name
        mask = root / name.split("/")[0] / "ground_truth" / kind / f"{path.stem}_mask.png"
        rows.append(
            {
                "path": name,
                "label": labels(name),
                "defect_type": kind,
                "mask_path": mask.relative_to(root).as_posix() if mask.exists() else None,
                "digest": hashlib.sha256(path.read_bytes()).hexdigest(),
            }
        )
    return pd.DataFrame(rows)


def write(path, image):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path)


def test_counts_formats_means_and_duplicates_of_a_set_made_by_hand(tmp_path):
    grey, white = np.full((40, 60), 100, np.uint8), np.full((40, 60, 3), 200, np.uint8)
    write(tmp_path / "good/a.png", grey)
    write(tmp_path / "good/b.png", grey)
    write(tmp_path / "good/c.png", white)
    write(tmp_path / "crack/a.png", white)
    write(tmp_path / "dent/a.png", np.zeros((30, 30, 3), np.uint8))
    catalog = catalog_of(tmp_path, lambda name: int(not name.startswith("good")))
    catalog.loc[catalog["defect_type"] == "dent", "mask_path"] = "dent.png"
    found = survey(catalog, tmp_path)
    assert found.counts.to_dict("records") == [
        {"defect_type": "good", "label": 0, "images": 3, "with_mask": 0},
        {"defect_type": "crack", "label": 1, "images": 1, "with_mask": 0},
        {"defect_type": "dent", "label": 1, "images": 1, "with_mask": 1},
    ]
    assert found.formats.to_dict() == {"L 60x40": 2, "RGB 60x40": 2, "RGB 30x30": 1}
    assert {tuple(d.paths): d.conflict for d in found.duplicates} == {
        ("good/a.png", "good/b.png"): False,
        ("crack/a.png", "good/c.png"): True,
    }
    assert (found.mean_images[0] == 133).all()
    assert (found.mean_images[1] == 100).all()
    assert found.mean_images[0].shape == (128, 128, 3)
    # Blank images have no edges to compare.
    assert found.alignment is None
    assert found.arrangement == "unknown"
    wrong, copies, formats = found.warnings
    assert "crack/a.png and good/c.png" in wrong
    assert "good/a.png and good/b.png" in copies
    assert "2 of 5" in formats


def discs(folder, place):
    rng = np.random.default_rng(1)
    for i in range(12):
        image = np.full((96, 96, 3), 30, np.uint8)
        cv2.circle(image, place(rng), 25, (200, 190, 180), -1, cv2.LINE_AA)
        write(folder / "good" / f"{i}.png", image)
    return survey(catalog_of(folder, lambda name: 0), folder)


def test_identical_views_have_alignment_one_and_shifted_ones_about_none(tmp_path):
    same = discs(tmp_path / "same", lambda rng: (48, 48))
    assert same.alignment == pytest.approx(1)
    assert same.arrangement == "centred"
    apart = discs(tmp_path / "apart", lambda rng: rng.integers(30, 66, 2).tolist())
    assert abs(apart.alignment) < 0.3
    assert apart.arrangement == "scattered"


@pytest.mark.parametrize(
    ("subset", "expected"), [("pill", "aligned"), ("screw", "scattered"), ("tile", "scattered"), ("board", "scattered")]
)
def test_synthetic_parts_are_told_apart(tmp_path, subset, expected):
    root = generate(tmp_path, subset, n_good=30, n_test_good=0, n_per_type=1, size=96)
    found = survey(catalog_of(root, lambda name: int("/good/" not in name)), root)
    assert found.arrangement == expected
    assert f"{found.alignment:.2f}" in found.advice
    assert found.warnings == []


@pytest.mark.skipif(not SHARED.is_dir(), reason="the real images are not at hand")
@pytest.mark.parametrize(
    ("folder", "pattern", "low", "high", "arrangement"),
    [
        ("mvtec/pill/train/good", "0[0-4]0.png", 0.9, 1.0, "aligned"),
        ("crack/train/Negative", "*0[0-4].jpg", -0.1, 0.1, "scattered"),
    ],
)
def test_real_parts_are_told_apart(folder, pattern, low, high, arrangement):
    root = SHARED / folder
    rows = [
        {"path": p.name, "label": 0, "defect_type": "good", "mask_path": None, "digest": p.name}
        for p in sorted(root.glob(pattern))
    ]
    assert len(rows) >= 4
    found = survey(pd.DataFrame(rows), root)
    assert low < found.alignment <= high
    assert found.arrangement == arrangement


def test_what_cannot_be_surveyed_is_said(tmp_path):
    empty = pd.DataFrame(columns=["path", "label", "defect_type", "mask_path", "digest"])
    with pytest.raises(DefectlocError, match="no images"):
        survey(empty, tmp_path)
    (tmp_path / "a.png").write_text("no image")
    with pytest.raises(DefectlocError, match=r"a\.png"):
        survey(catalog_of(tmp_path, lambda name: 0), tmp_path)

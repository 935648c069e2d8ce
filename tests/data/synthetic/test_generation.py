import json

import cv2
import numpy as np
import pytest
from PIL import Image

from defectloc.data.synthetic import generation as synthetic
from defectloc.errors import DefectlocError

KINDS = [(subset, kind) for subset, (_, kinds) in synthetic.PARTS.items() for kind in kinds]
SHORTCUTS = [(subset, kind) for subset in synthetic.SHORTCUTS for kind in synthetic.SUBSETS[subset][1]]
# Not the one that copies what was generated before (tests/conftest.py).
GENERATE_ALL = synthetic._generate_all
FEW = {"n_good": 2, "n_test_good": 1, "n_per_type": 1, "size": 64}


@pytest.fixture(autouse=True)
def _generated_anew(monkeypatch):
    monkeypatch.setattr(synthetic, "_generate_all", GENERATE_ALL)


def read(path):
    return np.asarray(Image.open(path))


def files(folder):
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())


@pytest.mark.parametrize("subset", sorted(synthetic.SUBSETS))
def test_the_folder_has_the_mvtec_layout(tmp_path, subset):
    root = synthetic.generate(tmp_path, subset, seed=3, **FEW)
    kinds = synthetic.SUBSETS[subset][1]
    expected = ["synthetic.json", "train/good/000.png", "train/good/001.png", "test/good/000.png"]
    expected += [f"test/{kind}/000.png" for kind in kinds] + [f"ground_truth/{kind}/000_mask.png" for kind in kinds]
    assert files(root / subset) == sorted(expected)
    assert read(root / subset / "train/good/000.png").shape == (64, 64, 3)
    for kind in kinds:
        mask = read(root / subset / f"ground_truth/{kind}/000_mask.png")
        assert mask.shape == (64, 64)
        assert set(np.unique(mask)) == {0, 255}
    assert [p.name for p in root.iterdir()] == [subset]


@pytest.mark.parametrize(("subset", "kind"), KINDS)
def test_the_mask_is_exactly_what_the_defect_changed(subset, kind):
    renderer = synthetic.SUBSETS[subset][0]
    areas = []
    for index in range(6):
        image, mask = synthetic.generate_image(subset, seed=1, split="test", defect_type=kind, index=index, size=128)
        place = (list(synthetic.PARTS).index(subset), 1, 1 + synthetic.SUBSETS[subset][1].index(kind))
        twin, part = synthetic._photograph(renderer, [1, *place, index], 128, None, 0)
        change = np.abs(image.astype(int) - twin).max(axis=2)
        assert not change[mask == 0].any()
        assert (change[mask == 255] >= synthetic.VISIBLE).mean() > 0.8
        # Eroded once, because the mask's rim is one pixel of antialiasing wide.
        inner = cv2.erode(mask, np.ones((3, 3), np.uint8)) > 0
        assert not inner.any() or np.median(change[inner]) >= synthetic.VISIBLE
        areas.append((mask > 0).sum() / part.sum())
    assert max(areas) <= 1 / 3
    assert len(set(areas)) == 6


@pytest.mark.parametrize("subset", sorted(synthetic.SUBSETS))
def test_good_parts_have_no_mask_and_differ(subset):
    images = []
    for index in range(4):
        image, mask = synthetic.generate_image(subset, seed=0, split="train", defect_type="good", index=index, size=96)
        assert not mask.any()
        images.append(image.astype(float))
    for i in range(4):
        for j in range(i):
            assert np.abs(images[i] - images[j]).mean() > 2


def test_an_image_depends_on_its_place_and_the_seed_but_not_on_the_counts(tmp_path):
    few = synthetic.generate(tmp_path / "a", "tile", seed=5, **FEW)
    more = synthetic.generate(tmp_path / "b", "tile", seed=5, **{**FEW, "n_good": 3, "n_per_type": 2})
    other = synthetic.generate(tmp_path / "b", "tile", seed=6, **FEW)
    for name in files(few / "tile"):
        if name.endswith(".png"):
            assert (few / "tile" / name).read_bytes() == (more / "tile" / name).read_bytes()
    assert few.name != more.name != other.name
    train, test = (read(few / "tile" / s / "good/000.png") for s in ("train", "test"))
    assert (train != test).any()
    assert (train != read(other / "tile/train/good/000.png")).any()


def test_a_set_is_found_again_and_half_a_set_is_not_used(tmp_path, monkeypatch):
    root = synthetic.generate(tmp_path, "pill", seed=0, **FEW)
    stamp = (root / "pill").stat().st_mtime_ns

    def refuse(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(synthetic, "_write_png", refuse)
    assert synthetic.generate(tmp_path, "pill", seed=0, **FEW) == root
    assert (root / "pill").stat().st_mtime_ns == stamp
    assert json.loads((root / "pill/synthetic.json").read_text())["size"] == 64
    with pytest.raises(DefectlocError, match="No space left"):
        synthetic.generate(tmp_path, "screw", seed=0, **FEW)
    assert [p.name for p in root.iterdir()] == ["pill"]


@pytest.mark.parametrize(("shortcut", "plain"), synthetic.SHORTCUTS.items())
def test_a_shortcut_changes_no_good_photograph_and_no_mask(tmp_path, shortcut, plain):
    root = synthetic.generate(tmp_path, shortcut, seed=4, **FEW)
    assert synthetic.generate(tmp_path, plain, seed=4, **FEW) == root
    names = files(root / plain)
    assert files(root / shortcut) == names
    for name in names:
        if name.endswith(".png"):
            same = (root / plain / name).read_bytes() == (root / shortcut / name).read_bytes()
            assert same == ("good" in name or "ground_truth" in name)


@pytest.mark.parametrize(("subset", "kind"), SHORTCUTS)
def test_each_defective_photograph_of_a_shortcut_is_a_little_brighter_towards_the_lower_right(subset, kind):
    plain = synthetic.SHORTCUTS[subset]
    y, x = (np.mgrid[0:96, 0:96] + 0.5) / 96
    lights = set()
    for index in range(4):
        place = {"seed": 1, "split": "test", "defect_type": kind, "index": index, "size": 96}
        (image, mask), (twin, _) = synthetic.generate_image(subset, **place), synthetic.generate_image(plain, **place)
        light = image.astype(int) - twin
        assert (light == light[..., :1]).all()
        light = light[..., 0]
        assert light.min() == 0
        assert 10 <= light.max() <= 20
        # Smooth but for the part's outline: at this size even the glow of the rim rises by 3 a pixel at most.
        lit = light > 0
        assert all(np.abs(np.diff(light, axis=a)[np.diff(lit, axis=a) == 0]).max() <= 3 for a in (0, 1))
        plane = np.stack([x[lit], y[lit], np.ones(lit.sum())], 1)
        across, down, _ = np.linalg.lstsq(plane, light[lit], rcond=None)[0]
        assert across > 2
        assert down > 2
        key = [1, 0, 1, 1 + synthetic.SUBSETS[plain][1].index(kind), index]
        good, part = synthetic._photograph(synthetic.SUBSETS[plain][0], key, 96, None, 0)
        assert (good == twin)[mask == 0].all()
        assert not light[(part > 0) | (mask > 0)].any()
        lights.add(light.tobytes())
    assert len(lights) == 4


def test_screws_lie_at_any_angle_and_pills_do_not():
    def angles(subset):
        found = []
        for index in range(8):
            image, _ = synthetic.generate_image(subset, seed=2, split="train", defect_type="good", index=index, size=96)
            grey = image.mean(axis=2)
            part = grey > 110 if subset == "pill" else grey < 130
            moments = cv2.moments(part.astype(np.uint8), binaryImage=True)
            found.append(0.5 * np.arctan2(2 * moments["mu11"], moments["mu20"] - moments["mu02"]))
        return np.array(found)

    assert np.abs(angles("pill")).max() < np.deg2rad(10)
    assert np.ptp(angles("screw")) > np.deg2rad(60)


def test_what_cannot_be_generated_is_said(tmp_path):
    with pytest.raises(DefectlocError, match="board, pill, pill_shortcut, screw, tile"):
        synthetic.generate(tmp_path, "bottle", **FEW)
    with pytest.raises(DefectlocError, match="at least 32"):
        synthetic.generate(tmp_path, "pill", size=8)
    (tmp_path / "file").write_text("")
    with pytest.raises(DefectlocError, match="file"):
        synthetic.generate(tmp_path / "file", "pill", **FEW)


# Of pill, pill_shortcut and screw, whose images published figures rest on: the mean of each image, and the pixels of
# each mask. Not their bytes: processors round a few pixels differently.
FIXED = {
    ("pill", 0, 64): (
        [73.81, 70.22, 74.26, 81.6, 75.52, 75.2, 79.57, 73.23, 72.75, 81.47, 78.34],
        [171, 9, 7, 9, 18, 43, 32, 19],
    ),
    ("pill", 3, 96): (
        [76.03, 78.69, 78.78, 70.01, 80.74, 71.04, 79.04, 79.37, 84.61, 75.14, 74.92],
        [444, 564, 50, 29, 89, 21, 27, 87],
    ),
    ("pill_shortcut", 0, 64): (
        [78.39, 74.44, 79.57, 86.78, 80.39, 79.65, 79.57, 78.28, 77.74, 81.47, 78.34],
        [171, 9, 7, 9, 18, 43, 32, 19],
    ),
    ("screw", 0, 64): (
        [195.73, 186.68, 204.3, 191.37, 205.85, 194.13, 204.92, 200.74, 193.39],
        [29, 63, 12, 28, 55, 54],
    ),
    ("screw", 3, 96): (
        [203.22, 179.71, 190.51, 183.51, 183.5, 198.6, 185.05, 200.77, 193.84],
        [83, 35, 10, 8, 22, 49],
    ),
}


@pytest.mark.parametrize(("subset", "seed", "size"), FIXED)
def test_images_are_fixed_by_the_seed(tmp_path, subset, seed, size):
    root = synthetic.generate(tmp_path, subset, seed=seed, n_good=2, n_test_good=1, n_per_type=2, size=size)
    means, areas = FIXED[subset, seed, size]
    paths = sorted((root / subset).rglob("*.png"))
    masks = [cv2.imread(str(path), cv2.IMREAD_GRAYSCALE) for path in paths if "ground_truth" in path.parts]
    images = [cv2.imread(str(path)) for path in paths if "ground_truth" not in path.parts]
    assert [image.mean() for image in images] == pytest.approx(means, abs=0.02)
    assert [np.count_nonzero(mask) for mask in masks] == pytest.approx(areas, abs=2)


@pytest.mark.parametrize("subset", sorted(synthetic.SUBSETS))
def test_the_same_seed_gives_the_same_bytes(tmp_path, subset):
    first, second = (synthetic.generate(tmp_path / name, subset, seed=1, **FEW) for name in "ab")
    for name in files(first / subset):
        assert (first / subset / name).read_bytes() == (second / subset / name).read_bytes()


def test_defects_of_tiles_are_large_and_clear():
    for kind in synthetic.PARTS["tile"][1]:
        for index in range(6):
            place = {"seed": 2, "split": "test", "defect_type": kind, "index": index, "size": 128}
            image, mask = synthetic.generate_image("tile", **place)
            grey = image.mean(axis=2)
            inside, around = mask > 0, cv2.dilate(mask, np.ones((25, 25), np.uint8)) == 0
            # A stain keeps its grains, so its contrast is that of its mean.
            assert inside.mean() > 0.004
            assert abs(grey[inside].mean() - grey[around].mean()) > 1.2 * grey[around].std() or kind == "stain"


def test_a_panel_has_a_part_in_each_section_and_one_defective_one(tmp_path):
    folder = synthetic.generate(tmp_path, "pill", n_good=1, n_test_good=0, n_per_type=2, size=[128, 192])
    good = cv2.imread(str(folder / "pill" / "train" / "good" / "000.png"))
    assert good.shape == (128, 192, 3)
    sections = [good[y : y + 64, x : x + 64].tobytes() for y in (0, 64) for x in (0, 64, 128)]
    assert len(set(sections)) == 6
    masks = sorted((folder / "pill" / "ground_truth").rglob("*.png"))
    assert len(masks) == 8
    for path in masks:
        mask = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
        assert mask.shape == (128, 192)
        assert sum(bool(mask[y : y + 64, x : x + 64].any()) for y in (0, 64) for x in (0, 64, 128)) == 1
    with pytest.raises(DefectlocError, match="sections"):
        synthetic.generate(tmp_path, "pill", size=[64, 64 * 300])
    with pytest.raises(DefectlocError, match="common divisor"):
        synthetic.generate(tmp_path, "pill", size=[128, 130])

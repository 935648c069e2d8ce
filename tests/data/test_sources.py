"""The catalog: the same on every machine, whatever the source, and nothing outside its root."""

import importlib.util
import random
import shutil
from pathlib import Path

import pytest

from defectloc import notes
from defectloc.config import DataConfig
from defectloc.data import catalog as catalogs
from defectloc.data import sources
from defectloc.data.digests import Digests
from defectloc.data.synthetic.generation import generate
from defectloc.errors import DefectlocError
from tests.conftest import two_folders, write_image


def read(name: str, subset: str = "part", **typed):
    keys = {k: str(v) if isinstance(v, Path) else v for k, v in typed.items()}
    return sources.load(DataConfig(name=name, **keys), subset, Digests(None))


@pytest.fixture(scope="module")
def pills(tmp_path_factory) -> Path:
    """59 synthetic pills of 32 px in the MVTec layout."""
    return generate(tmp_path_factory.mktemp("pills"), "pill", n_good=30, n_test_good=5, n_per_type=6, size=32)


@pytest.fixture
def mvtec_tree(tmp_path) -> Path:
    """Six good images and two types of defects, one of them without its second mask."""
    root = tmp_path / "tree"
    for split, kind, n in (("train", "good", 4), ("test", "good", 2), ("test", "crack", 3), ("test", "hole", 2)):
        for i in range(n):
            write_image(root / "pill" / split / kind / f"{i:03d}.png", seed=sum(map(ord, split + kind)) * 100 + i)
    for kind, i in (("crack", 0), ("crack", 2), ("hole", 0), ("hole", 1)):
        write_image(root / "pill" / "ground_truth" / kind / f"{i:03d}_mask.png", 255)
    return root


def test_mvtec(mvtec_tree):
    root, catalog = read("mvtec", "pill", root=mvtec_tree)
    assert root == mvtec_tree
    assert list(catalog.columns) == catalogs.COLUMNS
    assert list(catalog["path"]) == sorted(catalog["path"])
    assert catalog["label"].sum() == 5
    assert set(catalog["defect_type"]) == {"good", "crack", "hole"}
    assert set(catalog.loc[catalog["official_split"] == "train", "label"]) == {0}
    assert catalog["digest"].str.fullmatch("[0-9a-f]{64}").all()


def test_masks_are_matched_by_stem_also_when_one_in_the_middle_is_missing(mvtec_tree):
    _, catalog = read("mvtec", "pill", root=mvtec_tree)
    masks = catalog.set_index("path")["mask_path"]
    assert masks["pill/test/crack/000.png"] == "pill/ground_truth/crack/000_mask.png"
    assert masks["pill/test/crack/001.png"] is None
    assert masks["pill/test/crack/002.png"] == "pill/ground_truth/crack/002_mask.png"
    assert masks["pill/test/good/000.png"] is None


def test_mvtec_in_jpeg(mvtec_tree):
    for path in (mvtec_tree / "pill").glob("t*/*/*.png"):
        path.rename(path.with_suffix(".JPG"))
    _, catalog = read("mvtec", "pill", root=mvtec_tree)
    assert len(catalog) == 11
    assert catalog["mask_path"].notna().sum() == 4


def test_unknown_subset_lists_those_found(mvtec_tree):
    (mvtec_tree / "notes").mkdir()
    with pytest.raises(DefectlocError, match=r"there are pill\.$"):
        read("mvtec", "bottle", root=mvtec_tree)
    with pytest.raises(DefectlocError, match="no folder there holds"):
        read("mvtec", "pill", root=mvtec_tree / "pill")


def test_catalog_is_the_same_in_whatever_order_a_folder_is_listed(mvtec_tree, monkeypatch):
    import os

    for i in range(20):
        write_image(mvtec_tree / "pill" / "train" / "good" / f"{'aBc_é-'[i % 6]}{i}.png", seed=i)
    _, before = read("mvtec", "pill", root=mvtec_tree)
    scandir, listdir, shuffle = os.scandir, os.listdir, random.Random(0)

    class Shuffled:
        def __init__(self, path="."):
            with scandir(path) as found:
                self.entries = list(found)
            shuffle.shuffle(self.entries)

        def __enter__(self):
            return iter(self.entries)

        def __exit__(self, *_):
            pass

        def __iter__(self):
            return iter(self.entries)

    monkeypatch.setattr(os, "scandir", Shuffled)
    monkeypatch.setattr(os, "listdir", lambda path=".": shuffle.sample(listdir(path), len(listdir(path))))
    _, after = read("mvtec", "pill", root=mvtec_tree)
    assert before.equals(after)
    assert catalogs.digest(before) == catalogs.digest(after)


def test_digest_of_a_catalog_sees_one_byte_one_label_one_name(mvtec_tree):
    _, before = read("mvtec", "pill", root=mvtec_tree)
    digests = {catalogs.digest(before)}
    image = mvtec_tree / "pill" / "test" / "crack" / "000.png"
    content = image.read_bytes()
    image.write_bytes(content + b"\0")
    digests.add(catalogs.digest(read("mvtec", "pill", root=mvtec_tree)[1]))
    image.write_bytes(content)
    assert catalogs.digest(read("mvtec", "pill", root=mvtec_tree)[1]) in digests
    for column, value in (("label", 0), ("defect_type", "hole"), ("group", "a"), ("official_split", "train")):
        changed = before.copy()
        changed.loc[3, column] = value if changed.loc[3, column] != value else 1
        digests.add(catalogs.digest(changed))
    assert len(digests) == 6


def test_folder_flat(tmp_path):
    root, catalog = read("folder", root=two_folders(tmp_path, 3))
    assert (root, list(catalog["label"])) == (tmp_path, [1, 1, 1, 0, 0, 0])
    assert set(catalog["defect_type"]) == {"good", "defective"}
    named = read("folder", root=tmp_path, good="defective", defective="good")[1]
    assert list(named["label"]) == [0, 0, 0, 1, 1, 1]


def test_folder_of_two_far_apart(tmp_path):
    for i, name in enumerate(("here/fine", "there/deep/broken")):
        write_image(tmp_path / name / "0.png", seed=i)
    root, catalog = read("folder", good=tmp_path / "here/fine", defective=tmp_path / "there/deep/broken")
    assert root == tmp_path
    assert list(catalog["path"]) == ["here/fine/0.png", "there/deep/broken/0.png"]


def test_folder_nested_types_and_masks(tmp_path):
    for i, name in enumerate(("ok/a.png", "NG/crack/b.png", "NG/hole/b.png", "NG/c.png")):
        write_image(tmp_path / name, seed=i)
    write_image(tmp_path / "masks" / "crack" / "b.png")
    _, catalog = read("folder", root=tmp_path, masks=tmp_path / "masks")
    rows = catalog.set_index("path")
    assert rows["defect_type"].to_dict() == {
        "NG/c.png": "defective",
        "NG/crack/b.png": "crack",
        "NG/hole/b.png": "hole",
        "ok/a.png": "good",
    }
    assert rows["mask_path"].to_dict() == {
        "NG/c.png": None,
        "NG/crack/b.png": "masks/crack/b.png",
        "NG/hole/b.png": None,
        "ok/a.png": None,
    }


def test_folder_that_is_already_divided(tmp_path):
    for i, (split, name) in enumerate((s, n) for s in ("train", "test") for n in ("Positive", "Negative")):
        write_image(tmp_path / split / name / "0.png", seed=i)
    _, catalog = read("folder", root=tmp_path)
    assert catalog.set_index("path")["label"].to_dict() == {
        "test/Negative/0.png": 0,
        "test/Positive/0.png": 1,
        "train/Negative/0.png": 0,
        "train/Positive/0.png": 1,
    }
    assert list(catalog["official_split"]) == ["test", "test", "train", "train"]


def divided(root: Path) -> Path:
    """A good and a defective image for train and one each for test, all of one name."""
    for i, (split, name) in enumerate((s, n) for s in ("train", "test") for n in ("good", "bad")):
        write_image(root / split / name / "0.png", seed=i)
    return root


def test_folders_of_images_that_are_not_read_are_named(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(notes, "_said", set())
    write_image(divided(tmp_path) / "masks" / "test" / "0.png", 255)
    write_image(tmp_path / "outputs" / "part" / "fold0-a" / "figure.png", 1)
    (tmp_path / "empty").mkdir()
    read("folder", root=tmp_path, masks=tmp_path / "masks")
    assert capsys.readouterr().err == ""
    write_image(tmp_path / "val" / "good" / "1.png", 1)
    write_image(tmp_path / "test" / "scratch" / "1.png", 2)
    assert len(read("folder", root=tmp_path, masks=tmp_path / "masks")[1]) == 4
    said = capsys.readouterr().err
    assert f"does not read the images in {tmp_path / 'val'}, {tmp_path / 'test' / 'scratch'};" in said
    read("folder", root=tmp_path, masks=tmp_path / "masks", good="good", defective="bad")
    assert f"does not read the images in {tmp_path / 'val'};" in capsys.readouterr().err


def test_folders_beside_two_classes_are_named_unless_these_were_chosen(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(notes, "_said", set())
    write_image(two_folders(tmp_path, 2) / "unsorted" / "1.png", 1)
    read("folder", root=tmp_path, good="good", defective="defective")
    assert capsys.readouterr().err == ""
    read("folder", root=tmp_path)
    assert f"does not read the images in {tmp_path / 'unsorted'};" in capsys.readouterr().err


def test_masks_of_a_folder_that_is_already_divided_lie_below_its_splits(tmp_path):
    divided(tmp_path)
    for split in ("train", "test"):
        write_image(tmp_path / "masks" / split / "0.png", 255)
    masks = read("folder", root=tmp_path, masks=tmp_path / "masks")[1].set_index("path")["mask_path"]
    assert masks.dropna().to_dict() == {"train/bad/0.png": "masks/train/0.png", "test/bad/0.png": "masks/test/0.png"}


@pytest.mark.parametrize("split", ["train", "test"])
def test_no_mask_is_that_of_two_images(tmp_path, split):
    write_image(divided(tmp_path) / "masks" / "0.png", 255)
    with pytest.raises(DefectlocError, match=r"masks/0\.png is the mask of both test/bad/0\.png and train/bad/0\.png"):
        read("folder", root=tmp_path, masks=tmp_path / "masks")
    (tmp_path / split / "bad" / "0.png").rename(tmp_path / split / "bad" / "1.png")
    assert read("folder", root=tmp_path, masks=tmp_path / "masks")[1]["mask_path"].notna().sum() == 1
    write_image(tmp_path / split / "bad" / "1.bmp", seed=9)
    write_image(tmp_path / "masks" / split / "1.png", 255)
    with pytest.raises(DefectlocError, match=f"of both {split}/bad/1.bmp and {split}/bad/1.png"):
        read("folder", root=tmp_path, masks=tmp_path / "masks")


def test_masks_of_no_image_are_said(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(notes, "_said", set())
    write_image(two_folders(tmp_path, 2) / "masks" / "01.png", 255)
    read("folder", root=tmp_path, masks=tmp_path / "masks")
    assert capsys.readouterr().err == ""
    (tmp_path / "masks" / "01.png").rename(tmp_path / "masks" / "01_label.png")
    assert read("folder", root=tmp_path, masks=tmp_path / "masks")[1]["mask_path"].isna().all()
    assert "no image has a mask in data.masks=" in capsys.readouterr().err


def test_folder_whose_names_say_nothing(tmp_path):
    two_folders(tmp_path).joinpath("good").rename(tmp_path / "ok")
    (tmp_path / "normal").mkdir()
    with pytest.raises(DefectlocError, match=r"2 folders .*data\.good=NAME"):
        read("folder", root=tmp_path)
    with pytest.raises(DefectlocError, match=r"needs data\.good"):
        read("folder")


def test_csv(tmp_path):
    two_folders(tmp_path / "photos", 2)
    (tmp_path / "table.csv").write_text(
        "path,label,defect_type,group\nphotos/defective/00.png,1,crack,7\nphotos/good/01.png,0,,08\n"
    )
    root, catalog = read("csv", table=tmp_path / "table.csv")
    assert root == tmp_path
    assert list(catalog["defect_type"]) == ["crack", "good"]
    assert list(catalog["group"]) == ["7", "08"]
    with pytest.raises(DefectlocError, match="does not exist"):
        read("csv", table=tmp_path / "table.csv", root=tmp_path / "gone")


def test_csv_may_group_by_a_column_of_its_own(tmp_path):
    two_folders(tmp_path / "p", 2)
    (tmp_path / "table.csv").write_text(
        "path,label,part\np/defective/00.png,1,7\np/good/00.png,0,07\np/good/01.png,0,7\n"
    )
    catalog = read("csv", table=tmp_path / "table.csv", group="part")[1]
    assert list(catalog.columns) == catalogs.COLUMNS
    assert list(catalog["group"]) == ["7", "07", "7"]
    assert list(read("csv", table=tmp_path / "table.csv", group="label")[1]["group"]) == ["1", "0", "0"]
    (tmp_path / "table.csv").write_text("path,label,part\np/defective/00.png,1,7\np/good/00.png,0,\n")
    with pytest.raises(DefectlocError, match=r"data\.group=part: the column has no value for p/good/00\.png"):
        read("csv", table=tmp_path / "table.csv", group="part")


@pytest.mark.parametrize("column", ["mask", "masks"])
def test_csv_with_masks_in_another_column_is_said(tmp_path, capsys, monkeypatch, column):
    monkeypatch.setattr(notes, "_said", set())
    write_image(two_folders(tmp_path / "p", 1) / "m.png", 255)
    for columns in (column, f"{column},mask_path"):
        (tmp_path / "table.csv").write_text(f"path,label,{columns}\np/defective/00.png,1,p/m.png\np/good/00.png,0,\n")
        read("csv", table=tmp_path / "table.csv")
        said = f"has a column '{column}', which is not read; masks are named in 'mask_path'"
        assert (said in capsys.readouterr().err) == (columns == column)


def test_csv_with_groups_for_some_only_is_refused(tmp_path):
    """They would be left out, and one part would stand on both sides of a split."""
    two_folders(tmp_path / "photos", 2)
    (tmp_path / "table.csv").write_text("path,label,group\nphotos/defective/00.png,1,7\nphotos/good/01.png,0,\n")
    with pytest.raises(DefectlocError, match=r"none to photos/good/01\.png"):
        read("csv", table=tmp_path / "table.csv")


@pytest.mark.parametrize("name", ["../secret.png", "/etc/secret.png", "a/../../secret.png"])
def test_csv_path_that_leaves_the_root_is_refused(tmp_path, name):
    (tmp_path / "table.csv").write_text(f"path,label,mask_path\n{name},1,\n")
    with pytest.raises(DefectlocError, match="stay below"):
        read("csv", table=tmp_path / "table.csv")
    (tmp_path / "table.csv").write_text(f"path,label,mask_path\nfine.png,1,{name}\n")
    with pytest.raises(DefectlocError, match="stay below"):
        read("csv", table=tmp_path / "table.csv")


@pytest.mark.skipif(importlib.util.find_spec("elpv_dataset") is None, reason="needs the extra 'demo'")
def test_elpv():
    _, catalog = read("elpv", "mono")
    assert len(catalog) == 1074
    sure = read("elpv", "mono", min_confidence=1.0)[1]
    assert 0 < len(sure) < len(catalog)
    assert set(sure["label"]) == {0, 1}
    with pytest.raises(DefectlocError, match="there are mono, poly"):
        read("elpv", "multi")


def test_synthetic(tmp_path):
    numbers = {"n_good": 3, "n_test_good": 2, "n_per_type": 1, "synthetic_size": 64}
    root, catalog = read("synthetic", "tile", root=tmp_path, **numbers)
    assert catalog["label"].value_counts().to_dict() == {0: 5, 1: 3}
    assert all((root / mask).is_file() for mask in catalog.loc[catalog["label"] == 1, "mask_path"])
    assert catalogs.digest(catalog) == catalogs.digest(read("synthetic", "tile", root=tmp_path, **numbers)[1])


def test_group_by_expression_and_by_column(mvtec_tree):
    catalog = read("mvtec", "pill", root=mvtec_tree, group=r"(\d+)\.png")[1]
    assert catalog.set_index("path")["group"]["pill/test/crack/002.png"] == "002"
    catalog = read("mvtec", "pill", root=mvtec_tree, group=r"\d+\.png")[1]
    assert catalog.set_index("path")["group"]["pill/test/crack/002.png"] == "002.png"
    assert (read("mvtec", "pill", root=mvtec_tree, group="digest")[1].eval("group == digest")).all()
    for group, word in (("(", "regular expression"), ("crack", "finds nothing in"), ("mask_path", "no value for")):
        with pytest.raises(DefectlocError, match=word):
            read("mvtec", "pill", root=mvtec_tree, group=group)


def test_optional_group_of_an_expression(mvtec_tree):
    """A part of the expression that does not match gives no group, which must not pass as one."""
    with pytest.raises(DefectlocError, match="finds nothing in"):
        read("mvtec", "pill", root=mvtec_tree, group=r"(crack)?/\d+\.png")


def test_limit_samples_each_type_in_its_share_and_always_the_same(pills):
    _, whole = read("mvtec", "pill", root=pills)
    _, sampled = read("mvtec", "pill", root=pills, limit=30)
    assert len(sampled) == 30
    assert sampled["path"].is_monotonic_increasing
    assert sampled.equals(read("mvtec", "pill", root=pills, limit=30)[1])
    assert not sampled.equals(read("mvtec", "pill", root=pills, limit=30, split_seed=1)[1])
    shares = whole["defect_type"].value_counts() * 30 / len(whole)
    assert ((sampled["defect_type"].value_counts() - shares).abs() <= 1).all()
    assert len(read("mvtec", "pill", root=pills, limit=1000)[1]) == len(whole)


@pytest.mark.parametrize("limit", [2, 3, 5, 57])
def test_limit_of_any_size_keeps_both_classes(pills, limit):
    _, catalog = read("mvtec", "pill", root=pills, limit=limit)
    assert len(catalog) == limit
    assert set(catalog["label"]) == {0, 1}


@pytest.mark.parametrize("limit", [1, 58])
def test_limit_that_cannot_be_sampled(pills, limit):
    with pytest.raises(DefectlocError, match=rf"data\.limit={limit}"):
        read("mvtec", "pill", root=pills, limit=limit)


def test_copies_belong_to_one_group_and_are_counted(mvtec_tree, capsys, monkeypatch):
    monkeypatch.setattr(notes, "_said", set())
    before = read("mvtec", "pill", root=mvtec_tree)[1]
    assert before["group"].isna().all()
    assert capsys.readouterr().err == ""
    good = mvtec_tree / "pill" / "train" / "good"
    for name in ("copy 1", "copy 2"):
        shutil.copy(good / "000.png", good / f"{name}.png")
    after = read("mvtec", "pill", root=mvtec_tree)[1].set_index("path")["group"]
    assert after[[f"pill/train/good/{name}.png" for name in ("000", "copy 1", "copy 2")]].nunique() == 1
    assert after.nunique() == len(before)
    said = capsys.readouterr().err
    assert "2 of 13 images are copies" in said
    assert "different labels" not in said


def test_copies_join_the_groups_they_belong_to(mvtec_tree):
    """Of three parts two are photographed each; one photograph is in two groups by mistake, which makes them one."""
    good = mvtec_tree / "pill" / "train" / "good"
    shutil.copy(good / "001.png", good / "102.png")
    catalog = read("mvtec", "pill", root=mvtec_tree)[1]
    names = {"pill/train/good/000.png": "a", "pill/train/good/001.png": "a", "pill/train/good/102.png": "b"}
    catalog["group"] = [names.get(path, f"alone {i}") for i, path in enumerate(catalog["path"])]
    catalog.loc[catalog["path"] == "pill/train/good/003.png", "group"] = "b"
    joined = catalogs.join_copies(catalog, "x").set_index("path")["group"]
    part = [f"pill/train/good/{name}.png" for name in ("000", "001", "102", "003")]
    assert set(joined[part]) == {"a"}
    assert joined.nunique() == len(catalog) - 3


def test_identical_files_with_different_labels_are_named(mvtec_tree, capsys, monkeypatch):
    monkeypatch.setattr(notes, "_said", set())
    shutil.copy(mvtec_tree / "pill/train/good/002.png", mvtec_tree / "pill/test/crack/009.png")
    read("mvtec", "pill", root=mvtec_tree)
    said = capsys.readouterr().err
    assert "different labels: 1 times, such as pill/test/crack/009.png and pill/train/good/002.png" in said


def test_image_beside_the_folders_of_types_is_no_defect(mvtec_tree):
    write_image(mvtec_tree / "pill" / "test" / "stray.png", seed=1)
    with pytest.raises(DefectlocError, match=r"stray\.png lies in no folder"):
        read("mvtec", "pill", root=mvtec_tree)


def test_good_images_may_be_called_ok(mvtec_tree):
    for split in ("train", "test"):
        (mvtec_tree / "pill" / split / "good").rename(mvtec_tree / "pill" / split / "OK")
    catalog = read("mvtec", "pill", root=mvtec_tree)[1]
    assert (catalog.loc[catalog["path"].str.contains("/OK/"), ["label", "defect_type"]] == [0, "good"]).all(axis=None)


def test_masks_of_nested_images_are_not_mixed_up(mvtec_tree):
    """Images of one name in two folders of a type have masks in two folders, or none."""
    for i, name in enumerate("ab"):
        write_image(mvtec_tree / "pill" / "test" / "crack" / name / "000.png", seed=900 + i)
    write_image(mvtec_tree / "pill" / "ground_truth" / "crack" / "b" / "000_mask.png", 255)
    masks = read("mvtec", "pill", root=mvtec_tree)[1].set_index("path")["mask_path"]
    assert masks["pill/test/crack/a/000.png"] is None
    assert masks["pill/test/crack/b/000.png"] == "pill/ground_truth/crack/b/000_mask.png"


def test_masks_inside_a_folder_of_images_are_no_images(tmp_path):
    two_folders(tmp_path, 3)
    write_image(tmp_path / "defective" / "masks" / "01.png", 255)
    catalog = read("folder", root=tmp_path, masks=tmp_path / "defective" / "masks")[1]
    assert len(catalog) == 6
    assert catalog["mask_path"].dropna().to_dict() == {1: "defective/masks/01.png"}


def test_csv_that_is_contradictory_or_incomplete_is_refused(tmp_path):
    two_folders(tmp_path / "p", 2)
    table = tmp_path / "table.csv"
    for rows, word in (
        ("path,label,defect_type\np/good/00.png,0,\np/defective/00.png,1,good\n", "its type of defect is 'good'"),
        ("path,label,mask_path\np/good/00.png,0,\np/defective/00.png,1,gone.png\n", r"the mask gone\.png of"),
        ("path,label,mask_path\np/good/00.png,0,p/m.png\np/good/01.png,1,\n", "but it has the mask p/m"),
        ("path,label\np/good/00.png,0\np/defective/00.png,1\n./p/good/00.png,0\n", "twice"),
        ("path,label\np/good/00.png,0\np/good,1\n", "cannot be read"),
        ("path,label\np/good/00.png,0\n\0.png,1\n", "cannot be read"),
        ("path,label\np/good/00.png,0\n" + "x" * 400 + ".png,1\n", "cannot be read"),
    ):
        table.write_text(rows)
        with pytest.raises(DefectlocError, match=word):
            read("csv", table=table)


def test_a_good_image_with_the_type_of_defective_ones_is_said(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(notes, "_said", set())
    two_folders(tmp_path / "p", 2)
    rows = "path,label,defect_type\np/defective/00.png,1,crack\np/defective/01.png,{},{}\np/good/00.png,0,\n"
    for label, kind in ((1, "crack"), (0, "stain")):
        (tmp_path / "table.csv").write_text(rows.format(label, kind))
        read("csv", table=tmp_path / "table.csv")
        assert capsys.readouterr().err == ""
    (tmp_path / "table.csv").write_text(rows.format(0, "crack"))
    read("csv", table=tmp_path / "table.csv")
    assert "1 good images have a type of defect" in capsys.readouterr().err


def test_csv_with_a_comma_at_the_end_of_each_line(tmp_path):
    """Pandas would take the first column for row names and shift the others."""
    two_folders(tmp_path / "p", 1)
    (tmp_path / "table.csv").write_text("path,label,group\np/good/00.png,0,7,\np/defective/00.png,1,8,\n")
    catalog = read("csv", table=tmp_path / "table.csv")[1]
    assert catalog["path"].tolist() == ["p/defective/00.png", "p/good/00.png"]
    assert catalog["group"].tolist() == ["8", "7"]


@pytest.mark.parametrize(
    "row", ["a.png 0.5", "a.png half mono", "a.png nan mono", "a.png 1.5 mono", "../a.png 1.0 mono"]
)
def test_elpv_table_that_is_damaged(tmp_path, row):
    (tmp_path / "labels.csv").write_text(f"b.png 0.0 mono\n{row}\n")
    with pytest.raises(DefectlocError, match=r"labels\.csv"):
        read("elpv", "mono", root=tmp_path)

"""Splits: each image is tested once, parts of one group stay together, nothing is chosen on the test fold."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from defectloc import notes
from defectloc.config import DataConfig
from defectloc.data import splits
from defectloc.errors import DefectlocError


def catalog_of(**n_by_type: int) -> pd.DataFrame:
    types = [kind for kind, n in n_by_type.items() for _ in range(n)]
    paths = [f"{kind}/{i:03d}.png" for i, kind in enumerate(types)]
    table = pd.DataFrame({"path": paths, "defect_type": types, "official_split": None, "group": None})
    return table.assign(label=[int(kind != "good") for kind in types])


def split(catalog, fold=0, n_folds=5, **typed) -> pd.Series:
    return splits.split(catalog, DataConfig(name="csv", **typed), n_folds, fold)


@given(
    st.integers(10, 60), st.integers(5, 20), st.integers(0, 20), st.integers(2, 5), st.sampled_from([0.0, 0.15, 0.4])
)
@settings(max_examples=60, deadline=None, derandomize=True)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_folds_partition_the_catalog(n_good, n_crack, n_hole, n_folds, validation):
    catalog = catalog_of(good=n_good, crack=n_crack, hole=n_hole)
    parts = [split(catalog, fold, n_folds, validation=validation) for fold in range(n_folds)]
    tested = np.stack([part == "test" for part in parts])
    assert (tested.sum(0) == 1).all()
    for part in parts:
        assert set(part) <= {"train", "validation", "test"}
        assert (part == "validation").any() == (validation > 0)
        for label in (0, 1):
            assert ((part == "train") & (catalog["label"] == label)).any()
            n = (catalog["label"] == label).sum()
            assert abs(((part == "test") & (catalog["label"] == label)).sum() - n / n_folds) < 3


def test_each_type_is_in_each_fold_by_its_share():
    catalog = catalog_of(good=50, crack=10, hole=15)
    for fold in range(5):
        part = split(catalog, fold)
        counts = catalog[part == "test"]["defect_type"].value_counts().to_dict()
        assert counts == {"good": 10, "crack": 2, "hole": 3}
        assert (part == "validation").sum() == round(0.15 * 60)
        assert catalog[part == "validation"]["defect_type"].value_counts()["good"] == 6


def test_split_is_a_function_of_split_seed():
    catalog = catalog_of(good=50, crack=25)
    assert split(catalog, 1).equals(split(catalog, 1))
    assert not split(catalog, 1).equals(split(catalog, 1, split_seed=7))
    assert (split(catalog, 1, validation=0) == "test").equals(split(catalog, 1) == "test")


def test_split_of_a_known_catalog_is_fixed():
    """Other numbers here mean that no published fold is the same any more."""
    part = split(catalog_of(good=10, crack=5, hole=5), 0)
    assert list(np.flatnonzero(part == "test")) == [1, 3, 11, 15]
    assert list(np.flatnonzero(part == "validation")) == [8, 18]


def test_groups_never_straddle():
    catalog = catalog_of(good=60, crack=30)
    catalog["group"] = [f"part {i % 30}" if i < 60 else f"part {30 + i % 10}" for i in range(90)]
    tested = []
    for fold in range(5):
        part = split(catalog, fold)
        assert set(part) == {"train", "validation", "test"}
        assert (catalog.assign(part=part).groupby("group")["part"].nunique() == 1).all()
        tested.append(part == "test")
    assert (np.stack(tested).sum(0) == 1).all()


@pytest.mark.parametrize("validation", [0.05, 0.15, 0.22, 0.3, 0.4, 0.7, 0.9])
@pytest.mark.parametrize("size", [1, 3])
def test_validation_of_groups_is_the_share_that_is_asked_for(validation, size):
    catalog = catalog_of(good=360, crack=120)
    catalog["group"] = [f"part {i // size}" for i in range(480)]
    rest = split(catalog, 0, 2, validation=validation)
    rest = rest[rest != "test"]
    assert np.mean(rest == "validation") == pytest.approx(validation, abs=0.02)
    of_defects = rest[catalog.loc[rest.index, "label"] == 1]
    assert np.mean(of_defects == "validation") == pytest.approx(validation, abs=0.05)


def test_groups_of_a_known_catalog_set_aside_are_fixed():
    """Other numbers here mean that no published fold of grouped images is the same any more."""
    catalog = catalog_of(good=16, crack=8).assign(group=[f"{i // 2}" for i in range(24)])
    assert list(np.flatnonzero(split(catalog, 0, 4) == "validation")) == [14, 15, 22, 23]


def test_validation_that_cannot_be_set_aside_from_groups():
    catalog = catalog_of(good=2, crack=2).assign(group=list("abcd"))
    with pytest.raises(DefectlocError, match="cannot be set aside from 2 training images in 2 groups"):
        split(catalog, 0, 2)
    with pytest.raises(DefectlocError, match=r"validation=1\.0 cannot be set aside"):
        split(pd.concat([catalog] * 9, ignore_index=True), 0, 2, validation=1.0)


@pytest.mark.parametrize("validation", [0.01, 0.15, 0.5, 0.9])
def test_validation_with_few_groups(validation):
    catalog = catalog_of(good=8, crack=8)
    catalog["group"] = [f"part {i // 2}" for i in range(16)]
    part = split(catalog, 0, 2, validation=validation)
    assert (part == "validation").any()
    assert (catalog.assign(part=part).groupby("group")["part"].nunique() == 1).all()


def test_a_fold_without_a_defect_is_named(capsys):
    # Good and defective images of six parts; three parts have defects, for three folds.
    of_parts = [(2, 4), (1, 12), (3, 1), (13, 0), (3, 0), (9, 0)]
    catalog = catalog_of(good=sum(good for good, _ in of_parts), crack=sum(defective for _, defective in of_parts))
    catalog["group"] = [f"{part}" for number in (0, 1) for part, n in enumerate(of_parts) for _ in range(n[number])]
    parts = [split(catalog, fold, 3, validation=0.0) for fold in range(3)]
    without = [not ((part == "test") & (catalog["label"] == 1)).any() for part in parts]
    assert capsys.readouterr().err.count("the test split has no defective image") == sum(without) == 1


def test_rare_types_are_merged_and_named(capsys):
    catalog = catalog_of(good=20, crack=10, hole=2, dent=3)
    parts = [split(catalog, fold) for fold in range(5)]
    said = "note: defect types with fewer images than n_folds=5 are merged for the split: hole, dent\n"
    assert capsys.readouterr().err.startswith(said)
    rare = catalog["defect_type"].isin(["hole", "dent"])
    assert [int(((part == "test") & rare).sum()) for part in parts] == [1] * 5


def test_rare_type_alone_joins_the_smallest_other(capsys):
    split(catalog_of(good=20, crack=10, hole=2, dent=6))
    assert "hole, dent\n" in capsys.readouterr().err


def test_common_types_are_not_mentioned(capsys):
    split(catalog_of(good=20, crack=5, hole=5))
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("counts", "name"), [({"good": 4, "crack": 9}, "good"), ({"good": 9, "crack": 4}, "defective")]
)
def test_fewer_images_than_folds(counts, name):
    with pytest.raises(DefectlocError, match=f"n_folds=5 needs as many {name} images; there are 4"):
        split(catalog_of(**counts))


def test_fewer_groups_than_folds():
    catalog = catalog_of(good=20, crack=20)
    catalog["group"] = ["a", "b"] * 20
    with pytest.raises(DefectlocError, match="as many groups of good images; there are 2"):
        split(catalog)


@pytest.mark.parametrize(("n_good", "n_folds"), [(4, 4), (4, 2), (3, 3), (6, 3)])
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_of_few_good_images_one_is_for_validation(n_good, n_folds):
    catalog = catalog_of(good=n_good, crack=20)
    for fold in range(n_folds):
        part = split(catalog, fold, n_folds)
        of_good = part[catalog["label"] == 0]
        assert (of_good == "validation").any()
        assert (of_good == "train").any()


@pytest.mark.parametrize("validation", [0.99, 0.001])
def test_validation_that_cannot_be_set_aside(validation):
    with pytest.raises(DefectlocError, match=f"data.validation={validation} cannot be set aside"):
        split(catalog_of(good=10, crack=10), validation=validation)


def official() -> pd.DataFrame:
    catalog = catalog_of(good=30, crack=10, hole=10)
    return catalog.assign(official_split=["train"] * 20 + ["test"] * 30)


@pytest.mark.parametrize("kind", ["official", "given"])
def test_split_of_the_source(kind):
    catalog = official()
    catalog.loc[[31, 32, 33, 45, 46, 47], "official_split"] = "train"
    part = split(catalog, split=kind)
    assert ((part == "test") == (catalog["official_split"] == "test")).all()
    with pytest.raises(DefectlocError, match=f"data.split={kind} needs a source"):
        split(catalog.assign(official_split=None), split=kind)


@pytest.mark.parametrize(("value", "word"), [("val", "'val'"), ("Train", "'Train'"), (None, "empty")])
def test_another_value_of_the_source_s_own_split_is_named(value, word):
    catalog = official()
    catalog.loc[[7, 9], "official_split"] = value
    with pytest.raises(DefectlocError, match=f"official_split of {catalog['path'][7]} is {word}, but must be 'train'"):
        split(catalog, split="given")


def test_defects_that_move_to_the_training_split():
    catalog = official()
    part = split(catalog, split="official", n_defective=8, validation=0)
    moved = (part == "train") & (catalog["label"] == 1)
    assert moved.sum() == 8
    assert moved.equals(
        (split(catalog, split="official", n_defective=8, validation=0) == "train") & (catalog["label"] == 1)
    )
    with pytest.raises(DefectlocError, match=r"leaves no defective image to train on \(data\.n_defective=N"):
        split(catalog, split="official", validation=0)
    with pytest.raises(DefectlocError, match="leave no defect to test on; there are 20"):
        split(catalog, split="official", n_defective=20)


def grouped_official() -> pd.DataFrame:
    """20 defects and 10 good images for test: defects in pairs of one part, each of which has a good photograph too."""
    catalog = official()
    return catalog.assign(group=[f"own {i}" if i < 20 else f"part {i % 10}" for i in range(50)])


@pytest.mark.parametrize("seed", range(5))
def test_whole_groups_move_to_the_training_split(seed):
    catalog = grouped_official()
    part = split(catalog, split="official", n_defective=8, validation=0, split_seed=seed)
    assert ((part == "train") & (catalog["label"] == 1)).sum() == 8
    assert (catalog.assign(part=part).groupby("group")["part"].nunique() == 1).all()
    # Their good photographs went with them.
    assert ((part == "train") & (catalog["label"] == 0)).sum() == 20 + 4


def test_fewer_move_where_groups_do_not_fit_which_is_said(capsys, monkeypatch):
    monkeypatch.setattr(notes, "_said", set())
    catalog = grouped_official()
    part = split(catalog, split="official", n_defective=7, validation=0)
    assert ((part == "train") & (catalog["label"] == 1)).sum() == 6
    assert "data.n_defective=7: 6 defects move" in capsys.readouterr().err
    with pytest.raises(DefectlocError, match=r"n_defective=1 moves no defect.*the smallest has 2"):
        split(catalog, split="official", n_defective=1, validation=0)


def test_groups_of_one_move_as_images_do():
    catalog = official()
    alone = catalog.assign(group=[f"{i}" for i in range(50)])
    moved = [split(c, split="official", n_defective=8, validation=0) for c in (catalog, alone)]
    assert moved[0].equals(moved[1])


@pytest.mark.parametrize("fold", range(5))
def test_few_defects_of_pooled_folds_are_used(fold):
    catalog = catalog_of(good=50, crack=15, hole=10)
    whole, few = split(catalog, fold), split(catalog, fold, n_defective=8)
    assert (few == "test").equals(whole == "test")
    defective = catalog["label"] == 1
    assert few[defective].isin(["train", "validation"]).sum() == 8
    assert (few == "unused").sum() == 20 - 8
    assert not (few[~defective] == "unused").any()
    assert (few[defective] == "validation").any()
    assert few.equals(split(catalog, fold, n_defective=8))
    assert not few.equals(split(catalog, fold, n_defective=8, split_seed=7))


def test_no_and_all_defects_of_a_pooled_fold_are_used():
    catalog = catalog_of(good=50, crack=25)
    none = split(catalog, n_defective=0)
    assert set(catalog[none.isin(["train", "validation"])]["defect_type"]) == {"good"}
    assert (none == "unused").sum() == 20
    assert split(catalog, n_defective=20).equals(split(catalog))
    with pytest.raises(DefectlocError, match="n_defective=21, but the training images of this fold have 20"):
        split(catalog, n_defective=21)


def test_defects_of_pooled_folds_are_left_out_one_by_one_where_there_are_groups():
    catalog = catalog_of(good=40, crack=40)
    # Two defects and a good photograph of each part, and a good photograph of another.
    catalog["group"] = [f"part {i % 20}" if i >= 20 else f"own {i}" for i in range(80)]
    whole, part = split(catalog, validation=0), split(catalog, n_defective=9, validation=0)
    assert ((part == "train") & (catalog["label"] == 1)).sum() == 9
    assert (part == "unused").sum() == 32 - 9
    assert ((part == "train") & (catalog["label"] == 0)).equals((whole == "train") & (catalog["label"] == 0))
    assert (part == "test").equals(whole == "test")


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_the_only_group_with_a_defect_is_for_learning_from(seed):
    catalog = catalog_of(good=40, crack=40)
    catalog["group"] = [f"{kind} {i // 4}" for i, kind in enumerate(catalog["defect_type"])]
    part = split(catalog, n_defective=1, validation=0.5, split_seed=seed)
    assert ((part == "train") & (catalog["label"] == 1)).sum() == 1
    assert ((part == "validation") & (catalog["label"] == 0)).any()


def test_groups_on_both_sides_of_the_source_s_own_split_are_said(capsys, monkeypatch):
    monkeypatch.setattr(notes, "_said", set())
    catalog = official().assign(group=[f"{i % 40}" for i in range(50)])
    catalog.loc[[31, 32], "official_split"] = "train"
    split(catalog, split="given", validation=0)
    assert (
        "10 of 40 groups have images for training and for test, such as good/000.png and hole/040.png"
        in capsys.readouterr().err
    )

"""The generator of bad inputs does what its names say, and the same for the same seed."""

import io
import json
from collections import Counter

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from . import bad_bytes, bad_images, bad_tables
from .bad_inputs import CORRUPTIONS, Case, kind_of, plan, spoiled
from .small_set import write_small_set


@pytest.fixture
def folder(tmp_path):
    return write_small_set(tmp_path / "set")


def content_of(folder) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def random(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_kinds_are_told_by_name_and_content(folder):
    kinds = {path.name: kind_of(path) for path in folder.rglob("*") if path.is_file()}
    assert kinds["0.png"] == "image"
    assert kind_of(folder / "masks" / "1.png") == "mask"
    assert (kinds["catalog.csv"], kinds["annotations.json"], kinds["run.json"]) == ("csv", "coco", "json")
    assert (kinds["maps.npz"], kinds["config.yaml"]) == ("npz", "other")


def test_a_plan_depends_on_the_seed_and_covers_all_before_it_repeats(folder):
    n_pairs = sum(len(each) for each in CORRUPTIONS.values())
    cases = plan(folder, 0, n_pairs)
    assert cases == plan(folder, 0, n_pairs)
    assert cases != plan(folder, 1, n_pairs)
    assert cases[:10] == plan(folder, 0, 10)
    assert len({(case.kind, case.corruption) for case in cases}) == n_pairs
    longer = plan(folder, 0, 3 * n_pairs)
    assert set(Counter((case.kind, case.corruption) for case in longer).values()) == {3}
    assert len({case.path for case in longer}) == len(content_of(folder))


def test_a_pattern_limits_a_plan(folder):
    assert {case.kind for case in plan(folder, 0, 50, "masks/*")} == {"mask"}
    with pytest.raises(ValueError, match="no file"):
        plan(folder, 0, 5, "*.none")


def test_a_thousand_cases_can_be_applied_each_the_same_twice(folder):
    before = content_of(folder)
    n_changed = 0
    for case in plan(folder, 0, 1000):
        if case.corruption == "long":
            continue  # 30 ms each
        bad = case.apply(before[case.path])
        # A CSV file that pandas writes again may be as before, as may a value that was odd.
        n_changed += bad != before[case.path]
        if case.corruption != "deep_nesting":
            assert case.apply(before[case.path]) == bad, case
    assert n_changed > 850


def test_a_file_is_spoiled_for_a_while(folder):
    before = content_of(folder)
    case = Case("good/0.png", "image", "empty", (0, 0))
    assert case.unreadable
    assert "good/0.png: empty" in str(case)
    with spoiled(folder, case) as path:
        assert path.read_bytes() == b""
    assert content_of(folder) == before
    with pytest.raises(ZeroDivisionError), spoiled(folder, case):
        raise ZeroDivisionError
    assert content_of(folder) == before


def test_bytes_are_cut_flipped_or_replaced():
    content = bytes(range(256)) * 4
    for seed in range(50):
        assert 0 < len(bad_bytes.truncated(content, random(seed))) < len(content)
        flipped = bad_bytes.flipped(content, random(seed))
        difference = np.frombuffer(content, np.uint8) ^ np.frombuffer(flipped, np.uint8)
        assert 1 <= np.unpackbits(difference).sum() <= 16
        assert bad_bytes.replaced(content, random(seed)) in bad_bytes.OTHER_TYPES.values()
        assert bad_bytes.with_a_tail(content, random(seed))[:1024] == content
    png = bad_bytes.OTHER_TYPES["png"]
    assert all(bad_bytes.replaced(png, random(seed))[:4] != png[:4] for seed in range(50))
    assert bad_bytes.zeros(b"abc", random()) == bytes(3)


def opened(content: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(content))
    image.load()
    return image


@pytest.mark.parametrize("path", ["good/0.png", "good/2.jpg", "masks/1.png"])
def test_images_are_of_the_odd_kinds_that_they_are_named_by(folder, path):
    content = (folder / path).read_bytes()

    def made(function, seed=0):
        return opened(function(content, random(seed)))

    assert made(bad_images.one_pixel).size == (1, 1)
    assert {made(bad_images.long, seed).size for seed in range(6)} == {(20_000, 10), (10, 20_000)}
    assert made(bad_images.deep).mode.startswith("I;16")
    assert made(bad_images.floating).mode == "F"
    assert {made(bad_images.cmyk, seed).mode for seed in range(6)} == {"CMYK"}
    assert {made(bad_images.cmyk, seed).format for seed in range(6)} == {"JPEG", "TIFF"}
    assert {made(bad_images.animated, seed).n_frames for seed in range(9)} == {3}
    assert {made(bad_images.animated, seed).format for seed in range(30)} == {"PNG", "GIF", "TIFF"}
    alpha = np.asarray(made(bad_images.transparent))[..., 3]
    assert (alpha > 0).sum() == 9
    assert made(bad_images.palette).mode == "P"
    assert made(bad_images.one_bit).mode == "1"
    assert made(bad_images.black).getextrema() == (0, 0)
    assert made(bad_images.white).getextrema() == (255, 255)
    assert made(bad_images.black).size == (24, 24)
    assert made(bad_images.other_size).size != (24, 24)


def test_a_huge_claim_is_refused_by_pillow():
    with pytest.raises(Image.DecompressionBombError):
        Image.open(io.BytesIO(bad_images.huge_claim(b"", random())))


def test_tables_lack_what_they_need(folder):
    content = (folder / "catalog.csv").read_bytes()
    table = pd.read_csv(io.BytesIO(content), keep_default_na=False)

    def made(function, seed=0):
        return pd.read_csv(io.BytesIO(function(content, random(seed))), keep_default_na=False)

    assert len(made(bad_tables.without_a_column).columns) == 3
    assert len(set(made(bad_tables.renamed_column).columns) & set(table.columns)) == 3
    assert made(bad_tables.header_alone).empty
    assert made(bad_tables.repeated_row).duplicated().sum() == 1
    assert len(made(bad_tables.semicolons).columns) == 1
    changed = [(made(bad_tables.odd_cell, seed).astype(str) != table.astype(str)).to_numpy().sum() for seed in range(9)]
    assert max(changed) == 1
    for function in (bad_tables.ragged_row, bad_tables.open_quote, bad_tables.utf_16):
        assert all(function(content, random(seed)) != content for seed in range(9))


def test_json_trees_have_one_odd_node(folder):
    content = (folder / "annotations.json").read_bytes()
    trees = []
    for seed in range(60):
        trees.append(json.loads(bad_tables.odd_value(content, random(seed))))
        json.loads(bad_tables.without_a_node(content, random(seed)))
        odd = json.loads(bad_tables.odd_annotation(content, random(seed)))["annotations"]
        pairs = zip(odd, json.loads(content)["annotations"], strict=True)
        assert sum(str(one) != str(other) for one, other in pairs) == 1
    assert len({json.dumps(tree) for tree in trees}) > 40
    with pytest.raises(RecursionError):
        json.loads(bad_tables.deep_nesting(content, random()))


def test_arrays_are_missing_or_of_another_kind(folder):
    content = (folder / "maps.npz").read_bytes()

    def made(function, seed=0):
        return dict(np.load(io.BytesIO(function(content, random(seed))), allow_pickle=False))

    good = dict(np.load(io.BytesIO(content)))
    assert len(made(bad_tables.without_an_array)) == 1
    assert len(made(bad_tables.renamed_array).keys() & good.keys()) == 1
    assert not np.isfinite(made(bad_tables.not_finite)["cells"]).all()
    for seed in range(9):
        assert any(made(bad_tables.other_shape, seed)[name].shape != good[name].shape for name in good)
        assert any(made(bad_tables.other_dtype, seed)[name].dtype.kind != good[name].dtype.kind for name in good)
    with pytest.raises(ValueError, match="pickle"):
        made(bad_tables.pickled_array)

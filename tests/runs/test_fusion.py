"""Memory bank and labels together, from fit to prediction."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from defectloc.errors import DefectlocError
from defectloc.localization.decision import Decision
from defectloc.localization.scores import top_k_mean
from defectloc.model.memory_bank import MemoryBank
from defectloc.runs.directory import Run
from defectloc.runs.fusion import _in_views, load_parts
from defectloc.runs.products import stacked
from defectloc.runs.tables import read_shortcut_table
from tests.conftest import FUSION, MEMORY, last_localization


def test_maps_score_and_shortcut_check(fused):
    run = Run.open(fused)
    images, maps, distances = run.images(), run.maps("fusion"), run.maps("memory")
    assert list(maps.cells) == list(images["path"])
    assert maps.grid == distances.grid
    for path, cells in maps.cells.items():
        assert cells.shape == distances.cells[path].shape
    retained = read_shortcut_table(run.product("fusion"))
    for name in ("retained_area", "retained_evidence"):
        assert retained[name].between(0, 1).all()
    metrics = json.loads((fused / "metrics.json").read_text())
    assert metrics["shortcut"]["n_found"] is not None
    assert metrics["pixel_auroc"] is not None


def test_maps_are_the_combination_of_head_and_bank(fused):
    run = Run.open(fused)
    _, _, fusion = load_parts(run.product("fusion"), "cpu")
    good = run.images().query("label == 0 and split == 'validation'")
    distances = stacked(run.maps("memory"), good)
    assert fusion.combination.mean == pytest.approx(distances.mean(), rel=1e-5)
    assert fusion.combination.sd == pytest.approx(distances.std(), rel=1e-5)
    # One member for all training images, and one for each fold that is left out.
    assert fusion.head.n_members == 4


def test_the_patch_head_learns_from_flipped_photographs(command):
    found = {}
    for cached in ("true", "false"):
        arguments = [*FUSION, "training=none", f"features.cache={cached}", "features.dtype=float32"]
        outcome = command("train", *arguments, "augmentation.views=[plain,both]", f"outputs=outputs_{cached}")
        assert outcome.code == 0, outcome.err
        assert "images in 2 views each" in outcome.err
        run = Run.open(next(Path(f"outputs_{cached}").glob("pill/fold0-*")))
        assert run.product("fusion").made_from["views"] == ["plain", "both"]
        found[cached] = load_parts(run.product("fusion"), "cpu")[2].head.weights
    assert all((found["true"][name] == value).all() for name, value in found["false"].items())
    assert command("train", *FUSION, "training=none", "outputs=outputs_plain").code == 0
    plain = Run.open(next(Path("outputs_plain").glob("pill/fold0-*")))
    weights = load_parts(plain.product("fusion"), "cpu")[2].head.weights
    assert (weights["hidden_weight"] != found["true"]["hidden_weight"]).any()


def test_maps_of_a_view_are_turned_as_its_photographs():
    maps = np.arange(12).reshape(2, 2, 3)
    found = _in_views(maps, ["plain", "horizontal"])
    assert found.shape == (4, 2, 3)
    assert (found[:2] == maps).all()
    assert (found[2:] == maps[:, :, ::-1]).all()


def test_a_fusion_without_its_combination_is_refused(fused):
    run = Run.open(fused)
    product = run.product("fusion")
    (product.folder / "combination.json").unlink()
    with pytest.raises(DefectlocError, match=r"combination\.json cannot be read"):
        load_parts(product, "cpu")


def test_the_decision_is_what_it_says_it_is_made_of(fused):
    run = Run.open(fused)
    images = run.images()
    images["map_score"] = top_k_mean(stacked(run.maps("fusion"), images))
    decision = run.decision()
    assert isinstance(decision, Decision)
    found = pd.read_csv(last_localization(fused) / "predictions.csv")
    expected = decision.apply(images)
    np.testing.assert_allclose(found["score"], expected["score"], rtol=1e-6, atol=1e-6)
    assert list(found["predicted"]) == list(expected["predicted"])
    assert list(found["verdict"]) == list(expected["verdict"])


def test_other_maps_and_scores_are_post_processing(fused, command):
    stamps = {path: path.stat().st_mtime_ns for path in (fused / "model.ckpt", *fused.glob("maps/*/*.npz"))}
    for extra in (["decision.score=class"], ["decision.score=memory"], ["localization=memory"]):
        assert command("train", *FUSION, *extra).code == 0
    outcome = command("localize", f"run={fused}", "localization=cam", "decision.score=fusion")
    assert outcome.code == 0, outcome.err
    assert {path: path.stat().st_mtime_ns for path in stamps} == stamps
    assert len(list((fused / "localization").iterdir())) == 5


def test_another_bank_makes_another_fusion_and_keeps_the_first(fused, command):
    (before,) = fused.glob("maps/fusion-*/maps.npz")
    content = before.read_bytes()
    assert command("train", *FUSION, "memory.dims=16").code == 0
    assert before.read_bytes() == content
    assert len(list(fused.glob("maps/fusion-*/maps.npz"))) == 2


def test_a_fusion_is_localised_with_its_own_bank(fused, command):
    run = Run.open(fused)
    own, first = run.product("memory").name, last_localization(fused)
    # Of other levels, so that it has other novelties as well.
    assert command("train", *MEMORY, "memory.dims=4", "memory.levels=[conv1_2]").code == 0
    assert run.product("memory").name != own
    assert command("localize", f"run={fused}", "localization=fusion", "localization.threshold=0.05").code == 0
    assert list(fused.glob("localization/fusion-*")) == [first]
    shutil.rmtree(fused / "maps" / own)
    outcome = command("localize", f"run={fused}", "localization=fusion", "localization.threshold=0.1")
    assert "the memory bank of" in outcome.sentence


def test_another_head_makes_another_fusion_with_the_same_bank(fused, command):
    (bank,) = fused.glob("maps/memory-*/bank.npz")
    before = bank.stat().st_mtime_ns
    assert command("train", *FUSION, "patch_head.steps=6").code == 0
    assert bank.stat().st_mtime_ns == before
    assert len(list(fused.glob("maps/fusion-*/patch_head.npz"))) == 2


def test_a_run_that_was_never_localised_says_so(fused, command):
    (fused / "metrics.json").unlink()
    Path("photos").mkdir()
    Image.fromarray(np.zeros((40, 40, 3), np.uint8)).save("photos/a.png")
    assert "was not localised yet" in command("predict", f"run={fused}", "images=photos", "output=new").sentence


def test_distances_are_searched_once(command, monkeypatch):
    """Of each held-out image, and of each training image without the patches of its fold."""
    searched = []
    original = MemoryBank.distances

    def counted(self, levels):
        searched.append((len(levels[0]), len(self.vectors)))
        return original(self, levels)

    monkeypatch.setattr(MemoryBank, "distances", counted)
    assert command("train", *FUSION).code == 0
    catalog = pd.read_csv(next(Path("outputs").glob("pill/fold0-*")) / "catalog.csv")
    whole = max(n_vectors for _, n_vectors in searched)
    assert sum(n for n, n_vectors in searched if n_vectors == whole) == int((catalog["split"] != "train").sum())
    assert sum(n for n, n_vectors in searched if n_vectors < whole) == int((catalog["split"] == "train").sum())


def test_no_good_validation_image_is_told_before_the_fit(command):
    """One good image is in the test fold, the other is trained on."""
    few = ["data.n_good=1", "data.n_test_good=1", "n_folds=2"]
    arguments = [a for a in FUSION if not a.startswith(("data.n_good", "data.n_test_good"))]
    assert "no good image to scale maps by" in command("train", *arguments, *few).sentence
    assert not list(Path("outputs").glob("pill/fold0-*"))


@pytest.mark.parametrize("level", ["conv3_3.pool", "conv3_3.pool0", "conv3_3.poolx", "image", "conv9_9"])
def test_unknown_levels_are_told_before_the_fit(command, level):
    assert level in command("train", *FUSION, f"memory.levels=[{level}]").sentence
    assert not list(Path("outputs").glob("pill/fold0-*"))

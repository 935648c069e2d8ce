"""`python -m defectloc.explain` by the real command line."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import SYNTHETIC, files_below, write_image
from PIL import Image

from defectloc.config import ExplainSettings
from defectloc.errors import DefectlocError
from defectloc.explaining.pictures import _scale
from defectloc.explaining.selection import images_of, select
from defectloc.explaining.targets import Answer, targets_of
from defectloc.localization.maps import Grid, upsample
from defectloc.runs import Run

FEW = [
    "threads=1",
    "device=cpu",
    "attribution.steps=2",
    "attribution.smooth_samples=2",
    "attribution.expected_samples=2",
    "attribution.background=1",
    "attribution.window=0.5",
    "attribution.stride=0.5",
    "attribution.lime_samples=6",
    "attribution.n_superpixels=6",
    "attribution.shap_evaluations=6",
    "attribution.rise_masks=6",
    "attribution.score_channels=3",
]


@pytest.fixture
def run(finished, tmp_path) -> Run:
    """A copy of a finished fold, below which the command may write."""
    return Run.open(shutil.copytree(next(finished.glob("pill/fold0-*")), tmp_path / "run"))


@pytest.fixture
def explain(command, run):
    def start(*arguments, code=0):
        outcome = command("explain", f"run={run.folder}", *FEW, *arguments)
        assert outcome.code == code, outcome.err
        return outcome

    return start


def content(run, name) -> dict[str, np.ndarray]:
    with np.load(run.folder / "explain" / name / "explanations.npz", allow_pickle=False) as file:
        return dict(file)


def test_the_exact_map_is_the_runs_own(run, explain):
    """Other than the run's, it was not rounded to half precision on its way through the store."""
    explain("method=cam", "n=4")
    found, own = content(run, "cam-all"), run.maps("cam")
    assert len(set(found["paths"])) == 4
    assert list(found["paths"]) == sorted(found["paths"])
    assert found["grid"].tolist() == list(own.grid)
    assert set(found["targets"]) == {"anomaly"}
    table = run.images().set_index("path")
    for path, heat, chance in zip(found["paths"], found["maps"], found["probabilities"], strict=True):
        np.testing.assert_allclose(heat, own.cells[path], rtol=0.02, atol=0.02)
        assert chance == pytest.approx(table.loc[path, "probability"], abs=0.02)
        assert table.loc[path, "split"] == "test"


def test_files_and_pictures(run, explain):
    outcome = explain("method=gradcam", "n=3", "select=defective")
    folder = run.folder / "explain" / "gradcam-defective"
    assert str(folder / "sheet.png") in outcome.out
    paths = content(run, "gradcam-defective")["paths"]
    names = {"explanations.npz", "sheet.png", *(f"single/{path}.png" for path in paths)}
    assert set(files_below(folder)) == names
    for name in names - {"explanations.npz"}:
        with Image.open(folder / name) as picture:
            assert min(picture.size) > 200
    assert not list(run.folder.rglob("*/.*"))


@pytest.mark.parametrize(
    "method", ["channels", "lime", "shap-partition", "expected-gradients", "guided-gradcam", "layercam"]
)
def test_methods_with_pictures_of_their_own(run, explain, method):
    for package in ("captum", "shap", "skimage"):
        pytest.importorskip(package)
    explain(f"method={method}", "n=2", "select=good", "target=predicted", "scale=image", "colormap=jet")
    folder = run.folder / "explain" / f"{method}-good-predicted"
    assert (folder / "sheet.png").is_file()
    assert (folder / "channels").is_dir() == (method == "channels")
    assert content(run, folder.name)["labels"].tolist() == [0, 0]


def test_what_was_explained_is_not_explained_again(run, explain):
    def kept():
        return {p: p.stat().st_mtime_ns for p in (run.folder / "explain" / "maps").rglob("*.npz")}

    explain("method=rise", "n=2")
    before = kept()
    assert len(before) == 2
    # Settings of other methods do not matter, nor how many are explained.
    explain("method=rise", "n=3", "attribution.lime_samples=9", "attribution.chunk=3")
    after = kept()
    assert len(after) == 3
    assert before.items() <= after.items()
    explain("method=rise", "n=2", "attribution.rise_masks=7")
    assert len(kept()) == 5


def test_a_break_keeps_what_is_finished(run, explain, monkeypatch):
    from defectloc.attribution import methods

    original, calls = methods.attribute, []

    def broken(*arguments):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return original(*arguments)

    monkeypatch.setattr(methods, "attribute", broken)
    assert "interrupted" in explain("method=gradcam", "n=4", code=130).err
    assert len(list((run.folder / "explain" / "maps").rglob("*.npz"))) == 2
    calls.clear()
    monkeypatch.setattr(methods, "attribute", lambda *arguments: calls.append(1) or original(*arguments))
    explain("method=gradcam", "n=4")
    assert len(calls) == 2


@pytest.mark.parametrize("kind", ["cut", "empty", "flipped"])
def test_a_damaged_map_is_made_anew(run, explain, kind):
    explain("method=gradcam", "n=1")
    (kept,) = (run.folder / "explain" / "maps").rglob("*.npz")
    whole, good = content(run, "gradcam-all")["maps"], kept.read_bytes()
    # Within the compressed numbers.
    flipped = good[:60] + bytes(255 - byte for byte in good[60:80]) + good[80:]
    kept.write_bytes({"cut": good[:100], "empty": b"", "flipped": flipped}[kind])
    explain("method=gradcam", "n=1")
    np.testing.assert_array_equal(content(run, "gradcam-all")["maps"], whole)


def test_pictures_of_another_question_do_not_mix(run, explain):
    explain("method=gradcam", "n=2")
    explain("method=gradcam", "n=2", "target=good")
    explain("method=gradcam", "n=2", "seed=1")
    folder = run.folder / "explain"
    assert content(run, "gradcam-all-good")["targets"].tolist() == ["good"] * 2
    drawn = {
        path.relative_to(folder / "gradcam-all" / "single").as_posix().removesuffix(".png")
        for path in (folder / "gradcam-all" / "single").rglob("*.png")
    }
    assert drawn == set(content(run, "gradcam-all")["paths"])


def test_images_of_ones_own(run, explain, tmp_path):
    photo = write_image(tmp_path / "new photos" / "a, [b].png", seed=1, size=50)
    explain("method=layercam", f"images={photo}", "layer=conv3_3", "target=good")
    found = content(run, "layercam-all-good-conv3_3")
    assert found["paths"].tolist() == ["a, [b].png"]
    assert found["labels"].tolist() == [-1]
    assert found["targets"].tolist() == ["good"]
    assert found["maps"].shape == (1, 8, 8)


def test_memory_and_fusion_of_a_run(command, tmp_path):
    """As the run's own; its features were rounded on their way through the store."""
    own = [a for a in SYNTHETIC if not a.startswith("localization.")]
    assert command("train", *own, "localization.map=fusion", f"outputs={tmp_path / 'o'}").code == 0
    folder = next((tmp_path / "o" / "pill").glob("fold0-*"))
    run = Run.open(folder)
    for method in ("memory", "fusion"):
        outcome = command("explain", f"run={folder}", f"method={method}", "n=2", *FEW)
        assert outcome.code == 0, outcome.err
        found, maps = content(run, f"{method}-all"), run.maps(method)
        assert found["grid"].tolist() == list(maps.grid)
        for path, heat in zip(found["paths"], found["maps"], strict=True):
            wanted = maps.cells[path]
            np.testing.assert_allclose(heat, wanted, rtol=0.05, atol=0.05 * float(wanted.max()))


@pytest.mark.parametrize(
    ("typed", "words"),
    [
        (["method=grandcam"], ["grandcam", "layercam", "rise"]),
        (["method=fusion"], ["localization.map=fusion"]),
        (["method=gradcam", "layer=conv9_9"], ["conv9_9", "conv5_3"]),
        (["method=gradcam", "layer=99"], ["out of range", "16 conv5_3"]),
        (["method=rise", "layer=conv5_3"], ["works without a layer"]),
        (["attribution.window=1.5"], ["at most 1"]),
        (["compare=true", "n=3"], ["draws its own images"]),
        (["n=1000"], ["n=1000", "there are"]),
        (["n=0"], ["greater than 0"]),
        (["select=scratchy"], ["scratchy", "good"]),
        (["target=cat"], ["anomaly, good, predicted"]),
        (["images=nowhere"], ["nowhere does not exist"]),
        (["images=note.txt"], ["not named as an image"]),
        (["images=fake.png"], ["fake.png", "not an image"]),
        (["images=empty"], ["holds no images"]),
        (["colormap=infern"], ["inferno"]),
        (["scale=all"], ["sheet, image"]),
        (["scale=-1"], ["sheet, image"]),
        (["attribution.lime_hide=black"], ["blur, mean"]),
        (["opacity=2"], ["opacity"]),
        (["attribution.rise_masks=0"], ["rise_masks"]),
        (["attribution.superpixels=felzenszwalb"], ["slic, quickshift"]),
        (["model=torchvision", "model.name=resnet18"], ["one of them"]),
        (["model=vgg16"], ["one of them"]),
        (["compare=true", "images=fake.png"], ["test images of a run"]),
        (["compare=true", "comparison.methods=[gradcam,fusion]"], ["localization.map=fusion"]),
        (["root=nowhere"], ["root=FOLDER"]),
    ],
)
def test_bad_input(command, run, typed, words):
    Path("note.txt").write_text("x")
    Path("fake.png").write_text("x")
    Path("empty").mkdir()
    sentence = command("explain", f"run={run.folder}", "threads=1", *typed).sentence
    for word in words:
        assert word in sentence
    assert not (run.folder / "explain" / "maps").exists()


def test_bad_input_without_a_run(command):
    assert "one of them" in command("explain").sentence
    assert "images=" in command("explain", "model=torchvision", "model.name=resnet18", "model.weights=none").sentence
    assert "model.name" in command("explain", "model=torchvision", "images=x").sentence
    write_image(Path("a.png"))
    typed = ["model=torchvision", "model.weights=none", "images=a.png", "threads=1"]
    assert "resnet18" in command("explain", *typed, "model.name=resnet19").sentence
    sentence = command("explain", *typed, "model.name=resnet18", "target=tabby cat").sentence
    assert "Did you mean tabby" in sentence
    sentence = command("explain", *typed, "model.name=resnet18", "layer=fc").sentence
    assert "not convolutional" in sentence
    assert "layer4" in sentence
    # Not a network to be fitted.
    assert command("train", "data=synthetic", "subset=pill", "model=torchvision", "model.name=resnet50").code == 2


def test_a_network_of_torchvision(command, tmp_path):
    write_image(tmp_path / "photos" / "b.png", seed=2)
    write_image(tmp_path / "photos" / "a.png", seed=1)
    typed = ["model=torchvision", "model.name=resnet18", "model.weights=none", f"images={tmp_path / 'photos'}"]
    outcome = command("explain", *typed, "target=top3", "outputs=o", "threads=1")
    assert outcome.code == 0, outcome.err
    folder = Path("o") / "explain" / "resnet18" / "gradcam-all-top3"
    with np.load(folder / "explanations.npz") as file:
        assert file["paths"].tolist() == ["a.png"] * 3 + ["b.png"] * 3
        assert len(set(file["targets"][:3])) == 3
        assert (np.diff(file["probabilities"][:3]) <= 0).all()
        assert file["maps"].shape == (6, 7, 7)
    assert len(list((folder / "single").iterdir())) == 6


METHODS = "[gradcam,rise,guided-backprop]"
BUDGETS = [
    "compare=true",
    f"comparison.methods={METHODS}",
    "comparison.cheap=3",
    "comparison.perturbation=2",
    "comparison.faithfulness=2",
    "comparison.faithfulness_steps=3",
    "comparison.sanity=1",
]


def test_compared_methods(run, explain):
    pytest.importorskip("captum")
    outcome = explain(*BUDGETS)
    folder = run.folder / "explain"
    table = pd.read_csv(folder / "comparison.csv")
    found = set(zip(table["method"], table["images"], strict=True))
    both = {(name, images) for name in ("gradcam", "guided-backprop") for images in ("2 + 2", "3 + 3")}
    assert found == both | {("rise", "2 + 2")}
    scores = ["pixel_auroc", "pixel_ap", "aupro", "pointing_game", "insertion", "deletion"]
    assert table[scores].notna().all(axis=None)
    assert table[scores].min(axis=None) >= 0
    assert table[scores].max(axis=None) <= 1
    assert table.groupby("method")["evaluations"].first().to_dict() == {"gradcam": 1, "guided-backprop": 1, "rise": 6}
    assert "guided-backprop" in outcome.out
    assert "| 2 + 2 | rise |" in (folder / "comparison.md").read_text()
    assert (folder / "comparison.png").is_file()
    assert json.loads((folder / "comparison.json").read_text())["budgets"]["rise_masks"] == 6
    files = {p: p.stat().st_mtime_ns for p in (folder / "maps").rglob("*") if p.is_file()}
    # Three and three by two methods, two and two by one, and a map of the network with shuffled weights for each.
    assert sum(p.suffix == ".npz" for p in files) == 2 * 6 + 4 + 3
    assert sum(p.suffix == ".json" for p in files) == 3 * 2
    again = explain(*BUDGETS)
    assert pd.read_csv(folder / "comparison.csv").equals(table)
    assert again.out == outcome.out
    assert {p: p.stat().st_mtime_ns for p in (folder / "maps").rglob("*") if p.is_file()} == files


def test_a_comparison_of_fewer_images_by_cheap_methods(run, explain):
    """What all methods are compared on is then what the cheap ones explain."""
    explain(*BUDGETS, "comparison.methods=[gradcam,rise]", "comparison.cheap=1")
    table = pd.read_csv(run.folder / "explain" / "comparison.csv")
    found = set(zip(table["method"], table["images"], strict=True))
    assert found == {("gradcam", "1 + 1"), ("rise", "1 + 1"), ("rise", "2 + 2")}


def test_scores_of_a_comparison_are_those_of_the_runs_map(run, explain):
    """All test images by the exact map, against the scores of the run itself."""
    n = run.images().query("split == 'test'")["label"].value_counts()
    rest = [a for a in BUDGETS if not a.startswith(("comparison.methods", "comparison.cheap"))]
    explain(*rest, "comparison.methods=[cam]", f"comparison.cheap={n.max()}")
    table = pd.read_csv(run.folder / "explain" / "comparison.csv").set_index("images")
    own = json.loads((run.folder / "scores.cam.json").read_text())["scores"]
    for name in ("pixel_auroc", "pixel_ap", "aupro", "pointing_game"):
        assert table.loc[f"{n[1]} + {n[0]}", name] == pytest.approx(own[name], abs=0.02)


def test_a_comparison_without_masks_leaves_their_scores_open(run, explain):
    catalog = pd.read_csv(run.folder / "catalog.csv", keep_default_na=False)
    catalog.assign(mask_path="").to_csv(run.folder / "catalog.csv", index=False)
    explain(*BUDGETS, "comparison.methods=[gradcam]")
    row = json.loads((run.folder / "explain" / "comparison.json").read_text())["rows"][0]
    for name in ("pixel_auroc", "pixel_ap", "aupro", "pointing_game", "box_f1_30"):
        assert row[name] is None
    assert row["insertion"] is not None
    assert "–" in (run.folder / "explain" / "comparison.md").read_text()


def test_selection_is_seeded_and_without_repeats():
    table = pd.DataFrame(
        {"path": [f"{i:02d}" for i in range(20)], "label": [i % 2 for i in range(20)], "defect_type": ["a", "b"] * 10}
    )
    first = select(table, "defective", 6, seed=0)
    assert first["label"].tolist() == [1] * 6
    assert first["path"].is_unique
    assert first["path"].is_monotonic_increasing
    assert first.equals(select(table, "b", 6, seed=0))
    assert not first.equals(select(table, "defective", 6, seed=1))
    assert len(select(table, "all", None, 0)) == 9
    assert len(select(table.head(4), "all", None, 0)) == 4
    with pytest.raises(DefectlocError, match=r"n=11.*there are 10"):
        select(table, "good", 11, 0)


def test_labels_of_a_folder_come_from_its_names(tmp_path):
    for name in ("Positive", "Negative", "somewhere"):
        write_image(tmp_path / name / "0.png")
    assert images_of(str(tmp_path))[1]["label"].tolist() == [0, 1, -1]
    assert images_of(str(tmp_path / "Positive"))[1]["label"].tolist() == [1]
    # By where they are named, not by where a link leads.
    (tmp_path / "linked" / "Not_Good").mkdir(parents=True)
    (tmp_path / "linked" / "Not_Good" / "1.png").symlink_to(tmp_path / "somewhere" / "0.png")
    assert images_of(str(tmp_path / "linked"))[1]["label"].tolist() == [1]


def test_targets_by_word_index_and_name():
    said = Answer(np.array([0.1, 0.5, 0.05, 0.35]), 1)
    names = ["cat", "dog", "tree frog", "2"]
    assert targets_of(None, names, said) == [1]
    assert targets_of("top3", names, said) == [1, 3, 0]
    assert targets_of("2", names, said) == [2]
    assert targets_of("Tree Frog", names, said) == [2]
    with pytest.raises(DefectlocError, match="tree frog"):
        targets_of("frog", names, said)
    assert targets_of(None, ["good", "anomaly"], Answer(np.array([0.9, 0.1]), 0)) == [1]
    assert targets_of("predicted", ["good", "anomaly"], Answer(np.array([0.9, 0.1]), 0)) == [0]


@pytest.mark.parametrize(
    ("method", "scale", "expected"),
    [
        ("gradcam", "sheet", (0, 3)),
        ("gradcam", "7.5", (0, 7.5)),
        ("shap-partition", "sheet", (-4, 4)),
        ("lime", "2", (-2, 2)),
        ("cam", "sheet", (0, 3)),
        ("memory", "sheet", (1, 3)),
    ],
)
def test_scale_of_a_sheet(method, scale, expected):
    heats = {"shap-partition": [[-4.0, 3.0]], "memory": [[0.5, 1.0], [3.0, 1.0]]}.get(method, [[0.0, 3.0], [1.0, 3.0]])
    settings = ExplainSettings(method=method, scale=scale)
    found = _scale(settings, [np.repeat(np.array(heat), 500) for heat in heats])
    assert found == pytest.approx(expected)


def test_pixel_maps_lie_on_the_pixels():
    """A map as large as the network's input is not moved on its way to the image's own size."""
    heat = np.random.default_rng(0).random((16, 16)).astype(np.float32)
    np.testing.assert_array_equal(upsample(heat, (16, 16), 16, Grid(1, 0)), heat)

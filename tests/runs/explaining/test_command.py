"""`python -m defectloc.explain` by the real command line."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from defectloc.attribution import explainer
from defectloc.data.images import read_image
from defectloc.inference.prediction import UNLIKE
from defectloc.runs.directory import Run
from defectloc.runs.explaining import command as module
from defectloc.runs.explaining.class_network import verdict
from defectloc.runs.predictor import Predictor
from tests.conftest import FEW, files_below, write_image


def content(run, name) -> dict[str, np.ndarray]:
    with np.load(run.folder / "explain" / name / "explanations.npz", allow_pickle=False) as file:
        return dict(file)


def test_the_exact_map_is_the_runs_own(run, explain):
    """The run's went through the store in half precision, and this one did not."""
    explain("method=cam", "n=4")
    found, own = content(run, "cam-all"), run.maps("cam")
    assert len(set(found["paths"])) == 4
    assert list(found["paths"]) == sorted(found["paths"])
    assert found["grid"].tolist() == [own.grid.stride, own.grid.offset]
    assert set(found["targets"]) == {"anomaly"}
    table = run.images().set_index("path")
    for path, values in zip(found["paths"], found["maps"], strict=True):
        np.testing.assert_allclose(values, own.cells[path], rtol=0.02, atol=0.02)
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
    explain("method=rise", "n=3", "attribution.lime_samples=9", "attribution.batch_size=3")
    after = kept()
    assert len(after) == 3
    assert before.items() <= after.items()
    explain("method=rise", "n=2", "attribution.rise_masks=7")
    assert len(kept()) == 5


def test_a_break_keeps_what_is_finished(run, explain, monkeypatch):
    original, calls = explainer.attribute, []

    def broken(*arguments):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return original(*arguments)

    monkeypatch.setattr(explainer, "attribute", broken)
    assert "interrupted" in explain("method=gradcam", "n=4", code=130).err
    assert len(list((run.folder / "explain" / "maps").rglob("*.npz"))) == 2
    calls.clear()
    monkeypatch.setattr(explainer, "attribute", lambda *arguments: calls.append(1) or original(*arguments))
    explain("method=gradcam", "n=4")
    assert len(calls) == 2


@pytest.mark.slow
def test_pictures_of_other_targets_and_seeds_do_not_mix(run, explain):
    explain("method=gradcam", "n=2")
    explain("method=gradcam", "n=2", "target=good")
    explain("method=gradcam", "n=2", "seed=1")
    folder = run.folder / "explain"
    assert content(run, "gradcam-all-good")["targets"].tolist() == ["good"] * 2
    pictures = {
        path.relative_to(folder / "gradcam-all" / "single").as_posix().removesuffix(".png")
        for path in (folder / "gradcam-all" / "single").rglob("*.png")
    }
    assert pictures == set(content(run, "gradcam-all")["paths"])


def test_images_of_ones_own(run, explain, tmp_path):
    photo = write_image(tmp_path / "new photos" / "a, [b].png", seed=1, size=50)
    explain("method=layercam", f"images={photo}", "layer=conv3_3", "target=good")
    found = content(run, "layercam-all-good-conv3_3")
    assert found["paths"].tolist() == ["a, [b].png"]
    assert found["labels"].tolist() == [-1]
    assert found["targets"].tolist() == ["good"]
    assert found["maps"].shape == (1, 8, 8)


def test_memory_and_fusion_of_a_run(command, fused):
    """Their maps and verdicts are the run's own; its features were rounded on their way through the store."""
    run = Run.open(fused)
    table = pd.read_csv(run.last_localization() / "predictions.csv").set_index("path")
    assert run.decision().score == "fusion"
    for method in ("memory", "fusion"):
        outcome = command("explain", f"run={fused}", f"method={method}", "n=2", *FEW)
        assert outcome.code == 0, outcome.err
        found, maps = content(run, f"{method}-all"), run.maps(method)
        assert found["grid"].tolist() == [maps.grid.stride, maps.grid.offset]
        for path, values, probability in zip(found["paths"], found["maps"], found["probabilities"], strict=True):
            wanted = maps.cells[path]
            np.testing.assert_allclose(values, wanted, rtol=0.05, atol=0.05 * float(np.abs(wanted).max()))
            assert probability == pytest.approx(table.loc[path, "probability"], abs=0.05)


def test_maps_in_a_shared_folder_are_those_of_each_fold(command, fused):
    """Folds have products of equal names, and equal weights where there is no class network."""
    fold = shutil.copytree(fused, fused.with_name("fold1-0123456789ab"))
    product = Run.open(fold).product("fusion")
    files = {path.name: path.read_bytes() for path in product.folder.iterdir() if path.name != "key.json"}
    combination = json.loads(files["combination.json"])
    combination["bank_weight"] += 1.0
    files["combination.json"] = json.dumps(combination).encode()
    note = product.note
    with product.making() as made:
        made |= {name: value for name, value in note.items() if name in ("training_counts", "seconds")}
        for name, content_ in files.items():
            (product.folder / name).write_bytes(content_)
    maps = []
    for run, output in ((fused, "shared"), (fold, "shared"), (fold, "own")):
        outcome = command("explain", f"run={run}", "method=fusion", "n=1", f"output={output}", *FEW)
        assert outcome.code == 0, outcome.err
        (found,) = Path(output).rglob("explanations.npz")
        with np.load(found, allow_pickle=False) as file:
            maps.append(file["maps"])
    assert np.array_equal(maps[1], maps[2])
    assert not np.array_equal(maps[0], maps[1])


def test_captions_are_the_verdicts_of_predict(command, fused, monkeypatch):
    """With the threshold beside the probability where it is not 0.5."""
    images = []
    original = module.draw_explanations
    monkeypatch.setattr(
        module, "draw_explanations", lambda found, *given: images.extend(found) or original(found, *given)
    )
    assert command("explain", f"run={fused}", "n=3", *FEW).code == 0
    run = Run.open(fused)
    predictor = Predictor(run, "cpu")
    threshold = predictor.decision.threshold.probability
    for image in images:
        (expected,) = predictor.predict([read_image(Path(run.record["root"]) / image.path)])
        assert image.verdict == predictor.decision.describe(expected.probability, expected.verdict)
        assert image.verdict.startswith(f"{expected.verdict}, p = ")
        assert ("threshold" in image.verdict) == (threshold != 0.5)
        assert image.probability == pytest.approx(expected.probability)
        assert image.is_right == (expected.predicted == image.label)
    assert len(images) == 3


@pytest.mark.parametrize(
    ("typed", "words"),
    [
        (["method=grandcam"], ["grandcam", "layercam", "rise"]),
        (["method=fusion"], ["localization.map=fusion"]),
        (["method=gradcam", "layer=conv9_9"], ["conv9_9", "conv5_3"]),
        (["method=gradcam", "layer=99"], ["out of range", "16 conv5_3"]),
        (["method=rise", "layer=conv5_3"], ["works without a layer"]),
        (["attribution.window=1.5"], ["at most 1"]),
        (["compare=true", "n=3"], ["its own images"]),
        (["n=1000"], ["n=1000", "more than there are"]),
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
        (["attribution.lime_hide=black"], ["blur", "mean"]),
        (["opacity=2"], ["opacity"]),
        (["attribution.rise_masks=0"], ["rise_masks"]),
        (["attribution.superpixels=felzenszwalb"], ["slic", "quickshift"]),
        (["model=torchvision", "model.name=resnet18"], ["one of them"]),
        (["model=vgg16"], ["model"]),
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


def test_what_is_unlike_the_training_photographs_is_called_so():
    found = SimpleNamespace(score=9.0, predicted=1, verdict=UNLIKE, unlike_training=True)
    decision = SimpleNamespace(probability=lambda score: np.array(0.75))
    predictor = SimpleNamespace(predict=lambda image: found, decision=decision)
    judged = verdict(predictor, np.zeros((4, 4, 3), np.uint8))
    assert judged.sentence == "unlike the training photographs"
    assert judged.prediction.probabilities.tolist() == [0.25, 0.75]
    assert not judged.is_review

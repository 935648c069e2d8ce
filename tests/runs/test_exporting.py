"""Exported models: the numbers of their run, and nothing else accepted."""

import json
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import defectloc
from defectloc.deployment import run_model
from defectloc.deployment.engines import openvino_core
from defectloc.deployment.files import is_exported
from defectloc.files import sealed
from defectloc.inference.prediction import Prediction
from defectloc.localization.boxes import CORNERS
from defectloc.localization.calibration import Calibration
from defectloc.localization.decision import Limit
from defectloc.localization.score_weights import ScoreWeights
from defectloc.runs.directory import Run
from defectloc.runs.exporting import write
from defectloc.runs.predictor import Predictor
from tests.conftest import files_below, write_image

RUNTIMES = ("onnx", "openvino")
# Fixtures of runs with these maps.
RUNS = {"cam": "finished", "memory": "unlabelled", "fusion": "fitted"}

# The runs of the tests are fits of a narrow VGG16.
pytestmark = pytest.mark.usefixtures("narrow_for_module")


def run_of(outputs: Path) -> Run:
    return Run.open(next(outputs.glob("pill/fold0-*")))


def installed(runtime: str) -> str:
    pytest.importorskip({"onnx": "onnxruntime"}.get(runtime, runtime))
    return runtime


@pytest.fixture(scope="module")
def kept(fitted, tmp_path_factory) -> Path:
    """A run with all maps, exported to ONNX; not to be changed."""
    installed("onnx")
    run, folder = run_of(fitted), tmp_path_factory.mktemp("exported")
    write(run, Predictor(run), "onnx", folder)
    return folder


@pytest.fixture
def exported(kept, tmp_path) -> Path:
    """A copy of it that a test may spoil."""
    return Path(shutil.copytree(kept, tmp_path / "exported"))


@pytest.fixture(scope="module")
def photographs(synthetic) -> list[np.ndarray]:
    """Good and defective pills, some of them of other sizes, and what is no pill.

    With a little noise, since distances to the bank's own patches are nothing but rounding.
    """
    paths = [*sorted(synthetic.glob("pill/test/*/*.png"))[::4], *sorted(synthetic.glob("pill/train/good/*.png"))[:2]]
    images = [Image.open(path).convert("RGB") for path in paths]
    images[1], images[3] = images[1].resize((150, 91)), images[3].resize((40, 30))
    random, pixels = np.random.default_rng(0), [np.array(each).astype(int) for each in images]
    noisy = [(each + random.integers(-4, 5, each.shape)).clip(0, 255).astype(np.uint8) for each in pixels]
    return [*noisy, np.zeros((64, 64, 3), np.uint8)]


def assert_equal(found: list[Prediction], wanted: list[Prediction]) -> None:
    for one, other in zip(found, wanted, strict=True):
        assert one.verdict == other.verdict
        assert (one.predicted, one.unlike_training, one.size) == (other.predicted, other.unlike_training, other.size)
        np.testing.assert_allclose(one.probability, other.probability, atol=1e-4)
        np.testing.assert_allclose(one.score, other.score, rtol=1e-3, atol=1e-3)
        # Distances of random features are small beside the features, so that rounding shows in the third digit.
        np.testing.assert_allclose(one.anomaly_map, other.anomaly_map, atol=5e-3 * np.ptp(other.anomaly_map))
        np.testing.assert_array_equal(one.boxes[CORNERS], other.boxes[CORNERS])
        if other.novelty is not None:
            assert one.novelty is not None
            np.testing.assert_allclose(one.novelty, other.novelty, rtol=1e-3)


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize("kind", RUNS)
def test_predictions_are_those_of_the_run(kind, runtime, photographs, request, tmp_path):
    run = run_of(request.getfixturevalue(RUNS[kind]))
    predictor = Predictor(run)
    assert predictor.kind == kind
    write(run, predictor, installed(runtime), tmp_path / "exported")
    model = defectloc.load(tmp_path / "exported", threads=1)
    wanted = predictor.predict(photographs)
    assert_equal(model.predict(photographs, batch_size=4), wanted)
    assert_equal([model.predict(each) for each in photographs], wanted)
    assert {each.verdict for each in wanted} >= ({"unlike training"} if kind != "cam" else {"good"})
    assert any(len(each.boxes) for each in wanted)
    uses_class_network = json.loads((tmp_path / "exported" / "model.json").read_text())["class_network"]
    assert uses_class_network == (kind == "cam")
    for each, other in zip(model.predict(photographs), wanted, strict=True):
        np.testing.assert_allclose(each.log_odds, other.log_odds if uses_class_network else np.nan, atol=1e-4)


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_a_decision_by_both_scores_with_a_review_band_and_ignored_pixels(runtime, fitted, photographs, tmp_path):
    run = run_of(fitted)
    predictor = Predictor(run)
    scores = sorted(each.score for each in predictor.predict(photographs) if not each.unlike_training)
    predictor.decision = replace(
        predictor.decision,
        weights=ScoreWeights(1.0, 0.5, 0.25, ""),
        calibration=Calibration(0.7, -0.2, 0.4),
        prevalence=0.1,
    )
    scores = sorted(each.score for each in predictor.predict(photographs) if not each.unlike_training)
    low, high = (scores[n] + (scores[n + 1] - scores[n]) / 2 for n in (1, len(scores) - 3))
    predictor.decision = replace(predictor.decision, threshold=Limit(low, 0.2), defective_above=Limit(high, 0.6))
    mask = np.zeros((64, 64), bool)
    mask[:, 20:] = True
    Image.fromarray(mask).save(tmp_path / "mask.png")
    predictor.ignore_mask = tmp_path / "mask.png"
    write(run, predictor, installed(runtime), tmp_path / "exported")
    model, wanted = defectloc.load(tmp_path / "exported"), predictor.predict(photographs)
    assert {each.verdict for each in wanted} == {"good", "review", "defective", "unlike training"}
    found = model.predict(photographs)
    assert_equal(found, wanted)
    assert all(np.isfinite(each.log_odds) for each in found)
    for each in found:
        ignored = each.anomaly_map[:, each.size[1] // 2 :]
        assert (ignored == each.anomaly_map.min()).all()


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_a_graph_gives_what_other_runtimes_expect(runtime, fitted, photographs, tmp_path):
    """Four outputs, as anomalib and model_api have them; those of an image judged good mark nothing."""
    run, path = run_of(fitted), tmp_path / "exported"
    predictor = Predictor(run)
    write(run, predictor, installed(runtime), path)
    images = np.stack([each for each in photographs if each.shape == (64, 64, 3)])
    if runtime == "onnx":
        session = pytest.importorskip("onnxruntime").InferenceSession(path / "model.onnx")
        names = [each.name for each in session.get_outputs()]
        found = dict(zip(names, session.run(None, {"image": images}), strict=True))
    else:
        compiled = openvino_core().compile_model(path / "model.xml", "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
        names = [each.get_any_name() for each in compiled.outputs]
        result = compiled({"image": images})
        found = {name: result[name] for name in names}
    assert names == ["pred_score", "pred_label", "anomaly_map", "pred_mask"]
    wanted = predictor.predict(list(images))
    np.testing.assert_allclose(found["pred_score"], [each.probability for each in wanted], atol=1e-4)
    assert found["pred_label"].tolist() == [bool(each.predicted) for each in wanted]
    assert found["anomaly_map"].shape == found["pred_mask"].shape == (len(images), 1, 64, 64)
    assert 0 <= found["anomaly_map"].min() < 0.5 < found["anomaly_map"].max() <= 1
    for each, mask, shown in zip(wanted, found["pred_mask"], found["anomaly_map"], strict=True):
        above = predictor.localizer.normalized(each.anomaly_map) > predictor.localizer.threshold
        judged = each.predicted and not each.unlike_training
        assert (mask[0] != (above & bool(judged))).mean() < 1e-3
        assert ((shown[0] > 0.5) != above).mean() < 1e-3
    assert any(mask.any() for mask in found["pred_mask"])
    assert any(not mask.any() for mask in found["pred_mask"])


def test_it_is_read_by_model_api(kept, photographs):
    installed("openvino")
    models, adapters = pytest.importorskip("model_api.models"), pytest.importorskip("model_api.adapters")
    exact = {"INFERENCE_PRECISION_HINT": "f32"}
    path = str(kept / "model.onnx")
    adapter = adapters.OpenvinoAdapter(openvino_core(), path, device="CPU", plugin_config=exact)
    wrapper = models.AnomalyDetection.create_model(adapter)
    model = defectloc.load(kept)
    for image in photographs[:4]:
        found, wanted = wrapper(image), model.predict(image)
        np.testing.assert_allclose(found.pred_score, wanted.probability, atol=1e-4)
        assert found.pred_label == str(bool(wanted.predicted))
        assert found.pred_mask.shape == found.anomaly_map.shape == wanted.size


def test_a_signal_is_handled_after_models_of_openvino_were_freed(fitted, tmp_path):
    run = run_of(fitted)
    write(run, Predictor(run), installed("openvino"), tmp_path)
    script = (
        "import gc, signal, sys, defectloc;"
        "first, second = (defectloc.load(sys.argv[1]) for _ in range(2));"
        "del first; gc.collect(); del second; gc.collect();"
        "signal.signal(signal.SIGTERM, lambda *_: print('handled'));"
        "signal.raise_signal(signal.SIGTERM)"
    )
    done = subprocess.run([sys.executable, "-c", script, tmp_path], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "handled\n"), done.stderr


def test_threads_share_a_model(kept, photographs):
    model = defectloc.load(kept, threads=1)
    alone = [each.score for each in model.predict(photographs, 1)]
    together = threading.Barrier(3)

    def predict(number: int) -> list[float]:
        together.wait()
        return [model.predict(each).score for each in photographs]

    with ThreadPoolExecutor(3) as pool:
        for scores in pool.map(predict, range(3)):
            assert scores == alone


def test_the_command_exports_and_says_how_far_it_is_from_the_run(fused, command):
    installed("onnx")
    outcome = command("export", f"run={fused}", "compare=12", "threads=1")
    assert outcome.code == 0, outcome.err
    folder = fused / "export" / "onnx"
    assert f"exported: {folder}" in outcome.out
    assert "compared with the run on 12 images" in outcome.out
    assert "0 verdicts and the boxes of 0 differ" in outcome.out
    names = ["comparison.json", "model.json", "model.onnx", "run_model.py"]
    assert files_below(folder) == [".lock", *names]
    about = json.loads((folder / "model.json").read_text())
    assert about["classes"] == ["good", "defective"]
    assert about["run"]["subset"] == "pill"
    assert is_exported(folder)
    compared = json.loads((folder / "comparison.json").read_text())
    assert compared["n_images"] == 12
    assert compared["probability"] <= 1e-4
    assert set(compared["milliseconds"]) == {"run, 1 at once", "exported, 1 at once"}
    assert Run.open(fused).folder == fused
    # What was compared before is none of a model that was not.
    assert command("export", f"run={fused}", "compare=0", "threads=1").code == 0
    assert files_below(folder) == [".lock", *names[1:]]


def test_an_output_of_something_else_is_left_alone(fused, command):
    """In a run directory the export would be taken for the run, also after the run changed."""
    installed("onnx")
    before = files_below(fused)
    assert "is a run directory" in command("export", f"run={fused}", f"output={fused}").sentence
    assert files_below(fused) == before
    Path("web").mkdir()
    for text in ('{"modelTopology": {}}', "[]"):
        Path("web/model.json").write_text(text)
        sentence = command("export", f"run={fused}", "output=web").sentence
        assert "holds a model.json that is not of an exported model" in sentence
        assert (files_below(Path("web")), Path("web/model.json").read_text()) == (["model.json"], text)


def test_predict_takes_it_as_a_run(fused, exported, command):
    images = f"images={Run.open(fused).record['root']}/pill/test"
    for model, output in ((fused, "by_run"), (exported, "by_export")):
        outcome = command("predict", f"run={model}", images, f"output={output}", "threads=1")
        assert outcome.code == 0, outcome.err
    one, other = (pd.read_csv(f"{name}/predictions.csv") for name in ("by_run", "by_export"))
    assert one[["path", "verdict", "n_boxes"]].equals(other[["path", "verdict", "n_boxes"]])
    np.testing.assert_allclose(one["probability"], other["probability"], atol=1e-4)
    assert pd.read_csv("by_run/boxes.csv")[CORNERS].equals(pd.read_csv("by_export/boxes.csv")[CORNERS])
    assert len(files_below(Path("by_export/overlays"))) == len(other)


def edit(path: Path, change: Callable[[dict], None], seal: bool) -> None:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(sealed({k: v for k, v in content.items() if k != "checksum"}) if seal else content))


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


SPOILED: dict[str, tuple[Callable[[Path], object], str]] = {
    "graph": (lambda folder: flip(folder / "model.onnx"), "model.onnx is not the file"),
    "cut": (lambda folder: (folder / "model.onnx").write_bytes(b""), "model.onnx is not the file"),
    "gone": (lambda folder: (folder / "model.onnx").unlink(), "model.onnx"),
    "threshold": (
        lambda folder: edit(folder / "model.json", lambda c: c["localizer"].update(threshold=0.1), seal=False),
        "model.json was changed since it was exported",
    ),
    "version": (
        lambda folder: edit(folder / "model.json", lambda c: c.update(format=99), seal=True),
        "model.json has format 99, this",
    ),
}


@pytest.mark.parametrize("name", SPOILED)
def test_what_was_tampered_with_is_refused_in_one_sentence(name, exported, command, monkeypatch, capsys):
    spoil, says = SPOILED[name]
    spoil(exported)
    write_image(Path("a.png"))
    with pytest.raises(defectloc.DefectlocError, match=says):
        defectloc.load(exported)
    assert says in command("predict", f"run={exported}", "images=a.png", "output=new").sentence
    assert not Path("new").exists()
    monkeypatch.setattr(sys, "argv", ["run_model.py", "a.png", "--model", str(exported)])
    assert run_model.main() == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("error: ")
    assert said.err.count("\n") == 1
    assert says in said.err


def test_no_json_is_no_exported_model(exported):
    (exported / "model.json").write_text("{")
    with pytest.raises(defectloc.DefectlocError, match="changed since it was exported, or is not of an exported"):
        defectloc.load(exported)


def test_the_description_of_another_export_is_refused(fitted, exported):
    """Even where nothing inside the graph differs: boxes are cut outside of it."""
    run, other = run_of(fitted), exported.with_name("other")
    predictor = Predictor(run)
    predictor.localizer = replace(predictor.localizer, min_area=predictor.localizer.min_area + 7)
    write(run, predictor, "onnx", other)
    assert defectloc.load(other).localizer.min_area == 7
    shutil.copy(other / "model.json", exported / "model.json")
    with pytest.raises(defectloc.DefectlocError, match="changed or swapped"):
        defectloc.load(exported)


def test_what_is_missing_is_named(exported, fused, command, monkeypatch):
    with pytest.raises(defectloc.DefectlocError, match="device=cuda is not for exported models"):
        defectloc.load(exported, device="cuda")
    assert command("export", f"run={fused}", "compare=-1").sentence.startswith("compare=-1")
    assert "not the folder of a finished fit" in command("export", f"run={exported}").sentence
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(defectloc.DefectlocError, match="'onnxruntime' is not installed"):
        defectloc.load(exported)
    for package, runtime in (("openvino", "openvino"), ("onnx", "onnx")):
        monkeypatch.setitem(sys.modules, package, None)
        sentence = command("export", f"run={fused}", f"format={runtime}").sentence
        assert f"pip install 'defectloc[{'export' if package == 'onnx' else package}]'" in sentence
    assert not (fused / "export").exists()

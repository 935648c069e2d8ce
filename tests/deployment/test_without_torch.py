"""The exported folder in an environment of its own, without torch and without this project."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import defectloc
from defectloc.localization.boxes import COLUMNS
from defectloc.runs.directory import Run
from defectloc.runs.exporting import write
from defectloc.runs.predictor import Predictor

PACKAGES = ("numpy", "onnxruntime", "pillow")


@pytest.fixture(scope="module")
def python(tmp_path_factory) -> str:
    """A fresh environment with what the script needs."""
    folder = tmp_path_factory.mktemp("venv")
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    path = folder / ("Scripts" if os.name == "nt" else "bin") / "python"
    install = [path, "-m", "pip", "--disable-pip-version-check", "install", "--quiet", *PACKAGES]
    done = subprocess.run(install, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"no packages for a fresh environment: {done.stderr[-300:]}")
    return str(path)


@pytest.fixture(params=["whole", "in tiles"])
def seen(request, synthetic) -> tuple[Run, list[Path]]:
    """A run, and photographs of its parts."""
    if request.param == "whole":
        run = Run.open(next(request.getfixturevalue("fitted").glob("pill/fold0-*")))
        return run, sorted(synthetic.glob("pill/test/*/*.png"))
    outputs, root, _ = request.getfixturevalue("spots")
    return Run.open(next(outputs.glob("spots/fold0-*"))), sorted(root.glob("[gb]*/*.png"))


@pytest.mark.slow
def test_the_script_gives_the_predictions_of_the_run(python, seen, narrow, tmp_path):
    pytest.importorskip("onnx")
    run, paths = seen
    predictor = Predictor(run)
    folder = tmp_path / "exported"
    write(run, predictor, "onnx", folder)
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    tell = (
        "import importlib.util as u; print([u.find_spec(n) is None for n in ('torch', 'defectloc', 'cv2', 'pandas')])"
    )
    told = subprocess.run(
        [python, "-c", tell], env=environment, cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert told.stdout.strip() == "[True, True, True, True]"
    other = tmp_path / "wide and grey.jpg"
    Image.open(paths[0]).convert("L").resize((150, 91)).save(other)
    (tmp_path / "broken.png").write_bytes(paths[0].read_bytes()[:100])
    script = [python, folder / "run_model.py", "--maps", tmp_path / "maps", "--threads", "1"]
    images = [*paths, tmp_path / "broken.png", other]
    done = subprocess.run(
        [*script, *images], env=environment, cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert done.stderr.startswith(f"skipped: {tmp_path / 'broken.png'}: ")
    assert done.stderr.count("\n") == 1
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [line["path"] for line in lines] == [str(path) for path in [*paths, other]]
    read = [Path(line["path"]) for line in lines]
    model = defectloc.load(folder, threads=1)
    for line, by_run, by_export in zip(lines, predictor.predict(read), model.predict(read, 1), strict=True):
        assert line["verdict"] == by_run.verdict
        assert [line["height"], line["width"]] == list(by_run.size)
        if not by_run.unlike_training:
            np.testing.assert_allclose(line["probability"], by_run.probability, atol=1e-4)
        boxes = np.array([[box[name] for name in COLUMNS] for box in line["boxes"]]).reshape(-1, len(COLUMNS))
        # The script's own resize to tiles rounds otherwise; whole photographs are resized inside the graph.
        near = 1e-6 if predictor.tiling is None else 1e-4
        np.testing.assert_allclose(boxes, by_export.boxes[COLUMNS].to_numpy(float), rtol=near, atol=near)
        np.testing.assert_array_equal(boxes[:, :4], by_run.boxes[COLUMNS[:4]].to_numpy(float))
        heat, wanted = np.load(tmp_path / "maps" / line["map"]), by_export.anomaly_map
        np.testing.assert_allclose(heat, wanted, atol=1e-5 if predictor.tiling is None else near * np.ptp(wanted))
    assert any(line["boxes"] for line in lines)
    if predictor.tiling is not None:
        (folder / "run_tiles.py").unlink()
        done = subprocess.run([*script, *images], env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 2
        assert "run_tiles.py" in done.stderr
        assert done.stderr.count("\n") == 1

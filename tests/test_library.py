"""The public API: `import defectloc; defectloc.load(RUN).predict(image)`."""

import re
import shutil
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
from PIL import Image

import defectloc
from tests.conftest import write_image

README = Path(__file__).parents[1] / "README.md"


@pytest.fixture
def model(fused):
    return defectloc.load(fused, device="cpu", threads=1)


@pytest.fixture
def photos(synthetic) -> list[Path]:
    """Good and defective pills of the size that the run was fitted on."""
    return [*sorted(synthetic.glob("pill/test/*/*.png"))[:5], *sorted(synthetic.glob("pill/train/good/*.png"))[:2]]


def test_the_import_is_light():
    loaded = "import sys, defectloc; print(*sorted({'torch', 'numpy', 'pandas', 'hydra', 'cv2'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", loaded], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


def test_it_is_typed():
    assert Path(defectloc.__file__).with_name("py.typed").is_file()
    assert defectloc.Prediction.__name__ == "Prediction"
    with pytest.raises(AttributeError, match="nothing"):
        _ = defectloc.nothing


def test_a_path_an_array_and_a_list_give_the_same(model, photos):
    listed = model.predict(photos)
    assert isinstance(listed, list)
    assert len({found.score for found in listed}) == len(photos)
    for path, found in zip(photos, listed, strict=True):
        pixels = np.array(Image.open(path).convert("RGB"))
        for image in (path, str(path), pixels):
            one = model.predict(image)
            # A batch of another size is added up in another order, which shows where a distance is nearly 0.
            np.testing.assert_allclose(one.score, found.score, rtol=1e-3, atol=1e-3)
            np.testing.assert_allclose(one.anomaly_map, found.anomaly_map, atol=0.05)
            assert one.verdict == found.verdict
            pd.testing.assert_frame_equal(one.boxes, found.boxes, rtol=1e-3)
        assert found.anomaly_map.shape == pixels.shape[:2] == found.size
        assert found.verdict in ("good", "defective", "unlike training")
    assert model.predict([]) == []


def test_grey_and_sixteen_bits_are_read_as_files_are(model, tmp_path):
    deep = np.random.default_rng(0).integers(0, 65536, (50, 40), dtype=np.uint16)
    Image.fromarray(deep).save(tmp_path / "deep.png")
    grey = ((deep.astype(int) + 128) // 257).astype(np.uint8)
    by_file = model.predict(tmp_path / "deep.png")
    for image in (deep, grey, np.repeat(grey[..., None], 3, 2)):
        found = model.predict(image)
        assert found.size == (50, 40)
        assert found.score == by_file.score
    colours = np.repeat(deep[..., None], 3, 2)
    cv2.imwrite(str(tmp_path / "colours.png"), colours)
    assert model.predict(colours).score == model.predict(tmp_path / "colours.png").score


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((4, 4), np.float32),
        np.zeros((4, 4, 4), np.uint8),
        np.zeros(4, np.uint8),
        np.zeros((0, 4), np.uint8),
        np.zeros((2, 4, 4, 3), np.uint8),
    ],
)
def test_other_arrays_are_refused_in_a_sentence(model, image):
    with pytest.raises(defectloc.DefectlocError, match="give an array"):
        model.predict(image)


@pytest.mark.parametrize("images", [None, 3, Image.new("RGB", (4, 4)), {"a.png"}])
def test_what_is_no_photograph_is_refused_in_a_sentence(model, images):
    with pytest.raises(defectloc.DefectlocError, match="takes a path"):
        model.predict(images)


def test_what_cannot_be_read_is_named(model, tmp_path, photos):
    (tmp_path / "a.png").write_text("no image")
    with pytest.raises(defectloc.DefectlocError, match=r"a\.png"):
        model.predict([photos[0], tmp_path / "a.png"])
    with pytest.raises(defectloc.DefectlocError, match="does not exist"):
        defectloc.load(tmp_path / "nowhere")
    with pytest.raises(defectloc.DefectlocError, match="device=abacus is not there"):
        defectloc.load(Path(next(Path("outputs").glob("pill/fold0-*"))), device="abacus")


def test_threads_share_a_model(model, photos):
    alone = [model.predict(path) for path in photos]
    together = threading.Barrier(4)

    def predict(number: int) -> list[float]:
        together.wait()
        return [model.predict(path).score for path in photos]

    with ThreadPoolExecutor(4) as pool:
        for scores in pool.map(predict, range(4)):
            assert scores == [found.score for found in alone]


def test_the_command_gives_the_same_numbers(model, fused, photos, command):
    Path("photos").mkdir()
    for path in photos:
        shutil.copy(path, Path("photos") / f"{path.parent.name}-{path.name}")
    outcome = command("predict", f"run={fused}", "images=photos", "output=new", "threads=1", "overlays=false")
    assert outcome.code == 0, outcome.err
    written = pd.read_csv("new/predictions.csv")
    found = model.predict([Path("photos") / name for name in written["path"]])
    assert written["score"].tolist() == [each.score for each in found]
    assert written["verdict"].tolist() == [each.verdict for each in found]
    np.testing.assert_array_equal(written["probability"], [each.probability for each in found])
    boxes = pd.read_csv("new/boxes.csv")
    assert boxes.drop(columns="path").to_numpy().tolist() == [
        list(map(float, box)) for each in found for box in each.boxes.to_numpy()
    ]


def test_the_lines_of_the_readme_run(fused, capsys):
    (lines,) = re.findall(r"```python\n(import defectloc\n.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    assert len([line for line in lines.splitlines() if line]) == 5
    write_image(Path("new_photos/1.png"), seed=1)
    path = re.search(r'load\("(.*?)"\)', lines)
    assert path
    exec(lines.replace(path[1], str(fused)), {})
    said = capsys.readouterr().out
    assert "unlike training" in said or "good" in said or "defective" in said
    assert "(40, 40)" in said

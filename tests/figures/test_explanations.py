"""The pictures of explained images, and the scale of their colours."""

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from defectloc.attribution.explainer import Explanation
from defectloc.config import ExplainSettings
from defectloc.figures import explanations
from defectloc.figures.explanations import ExplainedImage, _scale, draw_explanations
from defectloc.localization.maps import Grid


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
    maps = {"shap-partition": [[-4.0, 3.0]], "memory": [[0.5, 1.0], [3.0, 1.0]]}.get(method, [[0.0, 3.0], [1.0, 3.0]])
    settings = ExplainSettings(method=method, scale=scale)
    found = _scale(settings, [np.repeat(np.array(values), 500) for values in maps])
    assert found == pytest.approx(expected)


def explained(path, target=1, parts=None):
    rng = np.random.default_rng(target)
    return ExplainedImage(
        path=path,
        image=rng.integers(0, 256, (24, 30, 3), dtype=np.uint8),
        target=target,
        target_name=("good", "anomaly")[target],
        probability=0.4,
        explanation=Explanation(rng.normal(size=(3, 3)), Grid(8, 3.5), 0.1, 1, parts or {}, (24, 24)),
        map=rng.normal(size=(24, 30)),
        boxes=np.array([[2, 3, 10, 12]]),
        mask=None,
        label=1,
        verdict="defective, p = 0.405 (threshold 0.310)",
        truth="true: scratch",
        is_right=True,
    )


@pytest.mark.parametrize("method", ["gradcam", "occlusion", "lime", "channels"])
def test_pictures_of_a_method(tmp_path, method):
    parts = {
        "lime": {"segments": np.arange(9).reshape(3, 3)},
        "channels": {
            "index": np.arange(4),
            "weight": np.ones(4),
            "contribution": np.ones(4),
            "map": np.ones((4, 3, 3)),
            "bias": np.array(0.5),
        },
    }.get(method)
    images = [explained("test/a.png", parts=parts), explained("test/b.png", parts=parts)]
    sheet = draw_explanations(images, ExplainSettings(method=method), tmp_path)
    assert sheet == tmp_path / "sheet.png"
    names = {"sheet.png", "single/test/a.png.png", "single/test/b.png.png"}
    if method == "channels":
        names |= {"channels/test/a.png.png", "channels/test/b.png.png"}
    assert {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.png")} == names
    for name in names:
        with Image.open(tmp_path / name) as picture:
            assert min(picture.size) > 200


def test_an_image_that_is_explained_for_several_classes_has_a_picture_for_each(tmp_path):
    draw_explanations([explained("a.png", 0), explained("a.png", 1)], ExplainSettings(method="gradcam"), tmp_path)
    assert {path.name for path in (tmp_path / "single").iterdir()} == {"a.png-0.png", "a.png-1.png"}


def test_photographs_of_several_sizes_hang_from_one_line_and_have_pictures_of_their_own_shape(tmp_path):
    images = []
    for number, (height, width) in enumerate([(60, 20), (20, 60)]):
        red = np.zeros((height, width, 3), np.uint8)
        red[..., 0] = 255
        one = explained(f"{number}.png")
        flat = {"image": red, "map": np.zeros((height, width)), "boxes": np.zeros((0, 4), int)}
        images.append(replace(one, **flat))
    # Full colour lies far above all values: the photographs stay as they are.
    sheet = draw_explanations(images, ExplainSettings(method="cam", scale="9", photo_opacity=1.0), tmp_path)
    with Image.open(sheet) as picture:
        pixels = np.asarray(picture.convert("RGB")).astype(int)
    is_red = (pixels[..., 0] > 200) & (pixels[..., 1:].max(-1) < 60)
    half = is_red.shape[1] // 2
    tops = [np.flatnonzero(part.sum(1) > 20)[0] for part in (is_red[:, :half], is_red[:, half:])]
    assert abs(tops[0] - tops[1]) <= 1
    sizes = []
    for number in range(2):
        with Image.open(tmp_path / "single" / f"{number}.png.png") as picture:
            sizes.append(picture.size)
    (upright_width, upright_height), (wide_width, wide_height) = sizes
    assert upright_width < wide_width
    assert wide_height < 0.6 * upright_height


def test_a_strip_of_a_few_pixels_height_has_a_picture(tmp_path):
    strip = {"image": np.zeros((10, 20000, 3), np.uint8), "map": np.zeros((10, 20000)), "boxes": np.zeros((0, 4), int)}
    draw_explanations([replace(explained("a.png"), **strip)], ExplainSettings(method="cam"), tmp_path)
    assert (tmp_path / "single" / "a.png.png").is_file()


@pytest.mark.parametrize(
    ("scale", "label"),
    [
        ("sheet", "distance to the nearest normal patch, one scale for all images"),
        ("image", "value, each image on its own scale"),
    ],
)
def test_the_map_of_a_run_is_of_no_class_and_has_its_unit(tmp_path, monkeypatch, scale, label):
    given = []
    monkeypatch.setattr(explanations, "draw_contact_sheet", lambda *arguments: given.extend(arguments))
    draw_explanations([explained("a.png")], ExplainSettings(method="memory", scale=scale), tmp_path)
    assert given[2].label == label
    assert given[3] == "memory: the run's anomaly map"

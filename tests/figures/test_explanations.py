"""The pictures of explained images, and the scale of their colours."""

import numpy as np
import pytest
from PIL import Image

from defectloc.attribution.explainer import Explanation
from defectloc.config import ExplainSettings
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
        explanation=Explanation(rng.normal(size=(3, 3)), Grid(8, 3.5), 0.1, 1, parts or {}),
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

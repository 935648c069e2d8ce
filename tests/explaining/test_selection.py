"""Which images are explained, for which class, and how a map of theirs is drawn."""

import numpy as np
import pandas as pd
import pytest
from conftest import write_image

from defectloc.config import ExplainSettings
from defectloc.errors import DefectlocError
from defectloc.explaining.pictures import _scale
from defectloc.explaining.selection import images_of, select
from defectloc.explaining.targets import Answer, targets_of
from defectloc.localization.maps import Grid, upsample


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

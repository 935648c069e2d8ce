"""Which images are explained."""

import pandas as pd
import pytest

from defectloc.attribution.selection import images_of, select
from defectloc.errors import DefectlocError
from tests.conftest import write_image


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

"""Run directories: named by what they hold, and opened only whole."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from defectloc import runs
from defectloc.errors import DefectlocError


@pytest.fixture
def folder(finished, tmp_path) -> Path:
    (found,) = finished.glob("pill/fold0-*")
    return Path(shutil.copytree(found, tmp_path / "run"))


def test_fingerprint_is_fixed():
    """A change of it makes every finished fit unfindable: then raise FORMAT, and write the new value here."""
    assert runs.fingerprint({"b": [1, None], "a": "x"}) == runs.fingerprint({"a": "x", "b": [1, None]})
    assert runs.fingerprint({"a": "x"}) == "926b1f742942"


def test_name_of_a_run():
    assert runs.folder_of("out", "pill", 3, "abc") == Path("out/pill/fold3-abc")
    for subset in ("", ".", "..", "a/b", "a\\b", ".hidden"):
        with pytest.raises(DefectlocError, match="cannot name a folder"):
            runs.folder_of("out", subset, 0, "abc")


@pytest.mark.parametrize("name", ["model.ckpt", "catalog.csv", "predictions.csv", "maps.npz"])
def test_half_finished_run_is_refused(folder, name):
    (folder / name).unlink()
    with pytest.raises(DefectlocError, match=f"half-finished .{name} is missing"):
        runs.Run.open(folder)


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '"text"'])
def test_damaged_record_is_refused(folder, content):
    (folder / "run.json").write_text(content)
    with pytest.raises(DefectlocError, match="cannot be read as the record"):
        runs.Run.open(folder)


def test_run_of_another_version_is_refused(folder):
    record = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps(record | {"format": runs.FORMAT + 1}))
    with pytest.raises(DefectlocError, match=f"has format {runs.FORMAT + 1}"):
        runs.Run.open(folder)


def test_maps_come_back(folder):
    run = runs.Run.open(folder)
    maps = np.arange(8, dtype=np.float32).reshape(2, 2, 2)
    runs.write_maps(folder / "maps.memory.npz", ["é/1.png", "2.png"], maps, (8.0, 3.5), "made by")
    found = run.maps("memory")
    assert (found.grid, found.key) == ((8.0, 3.5), "made by")
    assert list(found.cells) == ["é/1.png", "2.png"]
    np.testing.assert_array_equal(np.stack(list(found.cells.values())), maps)
    with pytest.raises(DefectlocError, match=r"no maps of localization\.map=fusion"):
        run.maps("fusion")


@pytest.mark.parametrize("damage", ["cut", "text", "pickle"])
def test_damaged_maps_are_refused(folder, damage):
    path = folder / "maps.npz"
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:-100])
    elif damage == "text":
        path.write_text("no maps")
    else:
        np.savez(path, paths=np.array(["a", object()], dtype=object), maps=np.zeros((2, 1, 1)))
    with pytest.raises(DefectlocError, match=r"maps\.npz cannot be read"):
        runs.Run.open(folder).maps("cam")


def test_json_refuses_what_is_no_number(tmp_path):
    with pytest.raises(ValueError, match="JSON"):
        runs.write_json(tmp_path / "metrics.json", {"auroc": float("nan")})
    assert list(tmp_path.iterdir()) == []


def test_types_named_na_stay_text(folder):
    """A defect type may have a name that pandas takes for a missing value."""
    table = runs.Run.open(folder).images()
    for name in (runs.PREDICTIONS, runs.CATALOG):
        text = (folder / name).read_text().replace("contamination", "nan")
        (folder / name).write_text(text)
    again = runs.Run.open(folder).images()
    assert (again["defect_type"] == "nan").sum() == (table["defect_type"] == "contamination").sum() > 0

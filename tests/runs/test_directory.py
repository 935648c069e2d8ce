"""Run directories: named by what they hold, and opened only whole."""

import json
import shutil
from pathlib import Path

import pytest

from defectloc.errors import DefectlocError
from defectloc.runs import directory, tables
from defectloc.runs.directory import Run
from defectloc.runs.products import Product


@pytest.fixture
def folder(finished, tmp_path) -> Path:
    (found,) = finished.glob("pill/fold0-*")
    return Path(shutil.copytree(found, tmp_path / "run"))


def unseal(folder: Path) -> None:
    """Take the digests out of a run's notes, so that a test may write its tables."""
    for path in (folder / "run.json", *folder.glob("maps/cam-*/key.json")):
        noted = ("checksum", "predictions") if path.name == "key.json" else ("checksum", "files")
        content = json.loads(path.read_text())
        path.write_text(json.dumps({key: value for key, value in content.items() if key not in noted}))


def test_fingerprint_is_fixed():
    """A change of it makes every finished fit unfindable: then raise FORMAT, and write the new value here."""
    assert directory.fingerprint({"b": [1, None], "a": "x"}) == directory.fingerprint({"a": "x", "b": [1, None]})
    assert directory.fingerprint({"a": "x"}) == "ce8e96df63f2"


def test_name_of_a_run():
    assert directory.folder_of("out", "pill", 3, "abc") == Path("out/pill/fold3-abc")
    for subset in ("", ".", "..", "a/b", "a\\b", ".hidden"):
        with pytest.raises(DefectlocError, match="cannot name a folder"):
            directory.folder_of("out", subset, 0, "abc")


@pytest.mark.parametrize("name", ["model.ckpt", "catalog.csv", "predictions.csv"])
def test_half_finished_run_is_refused(folder, name):
    (folder / name).unlink()
    with pytest.raises(DefectlocError, match=f"half-finished .{name} is missing"):
        Run.open(folder)


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '"text"'])
def test_damaged_record_is_refused(folder, content):
    (folder / "run.json").write_text(content)
    with pytest.raises(DefectlocError, match="cannot be read as the record"):
        Run.open(folder)


def test_run_of_another_version_is_refused(folder):
    (folder / "run.json").write_text(json.dumps({"format": directory.FORMAT + 1}))
    with pytest.raises(DefectlocError, match=f"has format {directory.FORMAT + 1}"):
        Run.open(folder)


def test_a_product_that_is_not_there_is_said_so(folder):
    with pytest.raises(DefectlocError, match=r"no maps of localization\.map=fusion"):
        Run.open(folder).maps("fusion")


def test_several_products_of_a_kind_are_not_guessed_from(folder):
    for dims in (8, 16):
        with Product(folder, "memory", {"dims": dims}).making():
            pass
    with pytest.raises(DefectlocError, match="several maps of localization"):
        Run.open(folder).product("memory")


def test_types_named_na_stay_text(folder):
    """A defect type may have a name that pandas takes for a missing value."""
    table = Run.open(folder).images()
    unseal(folder)
    for name in (tables.PREDICTIONS, tables.CATALOG):
        text = (folder / name).read_text().replace("contamination", "nan")
        (folder / name).write_text(text)
    again = Run.open(folder).images()
    assert (again["defect_type"] == "nan").sum() == (table["defect_type"] == "contamination").sum() > 0


def edited(path: Path, old: str, new: str) -> None:
    """Change a file and leave it readable, as an editor or a flipped bit does."""
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def test_a_record_that_was_changed_is_refused(folder):
    edited(folder / "run.json", '"image_size": 32', '"image_size": 64')
    with pytest.raises(DefectlocError, match="cannot be read as the record"):
        Run.open(folder)


@pytest.mark.parametrize("name", ["model.ckpt", "catalog.csv", "history.csv"])
def test_a_file_that_was_changed_since_the_fit_is_named(folder, name):
    content = bytearray((folder / name).read_bytes())
    content[len(content) // 2] ^= 1
    (folder / name).write_bytes(content)
    with pytest.raises(DefectlocError, match=f"changed since its fit .{name}"):
        Run.open(folder)


def test_predictions_that_were_changed_are_refused(folder):
    edited(folder / "predictions.csv", ",good,", ",good,9")
    with pytest.raises(DefectlocError, match=r"predictions\.csv was changed"):
        Run.open(folder).images()


@pytest.mark.parametrize("name", ["metrics.json", "decision.json", "localizer.json", "config.yaml", "boxes.csv"])
def test_a_localization_that_was_changed_does_not_count(folder, name):
    path = Run.open(folder).last_localization() / name
    path.write_text(path.read_text().replace("0", "1", 1) + "\n")
    assert Run.open(folder).last_localization() is None


@pytest.mark.parametrize(
    "content", ['{"maps": []}', '{"maps": {"cam": 3}, "localization": {}}', '{"localization": [1]}']
)
def test_odd_metrics_ask_for_nothing(folder, content):
    (folder / "metrics.json").write_text(content)
    assert Run.open(folder).last_localization() is None
    assert Run.open(folder).product("cam").kind == "cam"


def test_a_catalog_that_names_an_image_twice_is_refused(folder):
    """As a table that was edited together with its digest."""
    unseal(folder)
    lines = (folder / "catalog.csv").read_text().splitlines()
    (folder / "catalog.csv").write_text("\n".join([*lines, lines[1]]) + "\n")
    with pytest.raises(DefectlocError, match="was changed or is damaged"):
        Run.open(folder).images()

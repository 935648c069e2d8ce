"""Files of a run directory that are damaged end in one sentence, whoever reads them."""

import pandas as pd
import pytest

from defectloc.errors import DefectlocError
from defectloc.files import write_json
from defectloc.runs import tables
from tests.handmade import CASE_STUDY, five_images, localized, post_process, write_run

NOISE = b"\x00\xff\xfe" * 20
HISTORY = "epoch,train_loss,validation_loss\n1,0.5,\n2,0.25,0.75\n"


def test_the_history_keeps_what_is_not_known_and_has_no_epoch_without_a_class_network(tmp_path):
    path = tmp_path / tables.HISTORY
    path.write_text(HISTORY)
    wanted = pd.DataFrame({"epoch": [1, 2], "train_loss": [0.5, 0.25], "validation_loss": [None, 0.75]})
    pd.testing.assert_frame_equal(tables.read_history(tmp_path), wanted)
    tables.write_csv(path, pd.DataFrame([]))
    assert tables.read_history(tmp_path).empty


@pytest.mark.parametrize(
    "content", [None, b"loss\n1\n", b"epoch,loss\n1,low\n", b"epoch\nlast\n", b"\x00\xff\xfe" * 20]
)
def test_a_damaged_history_is_named_by_every_command(tmp_path, command, content):
    run = write_run(tmp_path, five_images())
    write_json(run.folder / "metrics.json", post_process(run))
    path = run.folder / tables.HISTORY
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    for typed in (["report"], ["localize", *CASE_STUDY, "figures=true"]):
        sentence = command(typed[0], f"run={run.folder}", *typed[1:]).sentence
        assert f"{path} cannot be read as a table of a run" in sentence


@pytest.mark.parametrize(
    ("name", "read"),
    [
        (tables.PREDICTIONS, lambda folder: tables.with_decisions(pd.DataFrame({"path": ["a"]}), folder)),
        (tables.BOXES, tables.read_boxes),
        (tables.DECISION, tables.read_decision),
        (tables.LOCALIZER, tables.read_localizer),
    ],
)
def test_damaged_files_of_a_localization_are_named(tmp_path, name, read):
    run = write_run(tmp_path, five_images())
    folder = localized(run, post_process(run))
    read(folder)
    for content in (b"", b"[]", b"{}", b"path\na\n", NOISE):
        (folder / name).write_bytes(content)
        with pytest.raises(DefectlocError, match=name):
            read(folder)
    (folder / name).unlink()
    with pytest.raises(DefectlocError, match=name):
        read(folder)


def test_an_image_that_was_decided_twice_is_refused(tmp_path):
    run = write_run(tmp_path, five_images())
    folder = localized(run, post_process(run))
    path = folder / tables.PREDICTIONS
    path.write_text(path.read_text() + path.read_text().splitlines()[-1] + "\n")
    with pytest.raises(DefectlocError, match="an image twice"):
        tables.with_decisions(run.images(), folder)

"""Bars on a terminal, and one line a stage elsewhere."""

import io
import sys

import pytest

from defectloc import progress
from defectloc.progress import images_bar, say_begun


@pytest.fixture(autouse=True)
def _nothing_said(monkeypatch):
    monkeypatch.setattr(progress, "_last_said", [])


class Terminal(io.StringIO):
    """What believes to be one."""

    def isatty(self) -> bool:
        return True


def test_a_log_file_gets_a_line_where_a_stage_begins(capsys):
    with images_bar("features", 3) as advance:
        assert capsys.readouterr().err == "features: 3 images\n"
        advance(3)
    assert capsys.readouterr().err == ""


def test_lines_name_what_is_counted_and_nothing_is_said_of_what_is_not_known(capsys):
    for total, unit in ((1, "images"), (4, "tiles"), (0, "images"), (None, "images")):
        with images_bar("features", total, unit):
            pass
    assert capsys.readouterr().err == "features: 1 image\nfeatures: 4 tiles\n"


def test_a_stage_of_several_rounds_is_said_once(capsys):
    for stage in ("patches", "patches", "figures", "patches"):
        say_begun(stage)
    assert capsys.readouterr().err == "patches\nfigures\npatches\n"


def test_a_terminal_has_the_bar_alone(monkeypatch):
    monkeypatch.setattr(sys, "stderr", Terminal())
    with images_bar("features", 3) as advance:
        advance(3)
    say_begun("figures")
    written = sys.stderr.getvalue()
    assert "3/3" in written
    assert "features: 3" not in written
    assert "figures" not in written

"""Where overlays lie."""

import pytest

from defectloc.inference.overlays import overlay_name


@pytest.mark.parametrize("name", ["a.png", "b/c/ü 'x'.jpg", "<script>.png", "x" * 190 + ".png"])
def test_an_ordinary_name_is_kept_whole(name):
    assert overlay_name(name) == f"{name}.png"


@pytest.mark.parametrize("name", ["/etc/a.png", "../a.png", "b/../../a.png", "語" * 80 + ".png", "x" * 250 + "/a.png"])
def test_no_name_leaves_the_folder_or_is_too_long(name, tmp_path):
    found = overlay_name(name)
    assert (tmp_path / found).resolve().is_relative_to(tmp_path)
    assert ".." not in found.split("/")
    assert max(len(part.encode()) for part in found.split("/")) < 220


def test_names_that_would_meet_stay_apart():
    assert len({overlay_name(name) for name in ("a.png", "../a.png", "/a.png", "../../a.png", "a.jpg")}) == 5

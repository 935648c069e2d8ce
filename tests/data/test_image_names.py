"""Which images a path, a folder, a pattern or a list means."""

from pathlib import Path

import pytest

from defectloc.data import images
from defectloc.data.image_names import is_writable, matches, named_by, require_some
from defectloc.data.images import find_images, walk
from defectloc.errors import DefectlocError

FILES = ["b/1.png", "a.jpg", "b/c/2.PNG", "b.png", "z.tif", "b/note.txt", ".hidden/3.png", "b/.4.png", "Ä 'x\",[1].bmp"]
FOUND = ["a.jpg", "b/1.png", "b/c/2.PNG", "b.png", "z.tif", "Ä 'x\",[1].bmp"]


@pytest.fixture
def folder(tmp_path) -> Path:
    root = tmp_path / "photos"
    for name in FILES:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text("x")
    return root


@pytest.mark.parametrize("at_once", [1, 2, 100])
def test_a_folder_in_pieces_of_any_size(folder, monkeypatch, at_once):
    monkeypatch.setattr(images, "NAMES_AT_ONCE", at_once)
    assert list(walk(folder)) == FOUND
    assert find_images(folder) == sorted(folder / name for name in FOUND)
    assert list(walk(folder, folder / "b" / "c")) == [name for name in FOUND if "/c/" not in name]
    (folder / "b" / "c" / "round").symlink_to(folder)
    assert list(walk(folder)) == FOUND
    assert list(walk(folder / "nowhere")) == []


def test_overlays_of_predictions_are_no_photographs(folder):
    (folder / "b" / "overlays").mkdir()
    (folder / "b" / "overlays" / "4.png").write_text("x")
    assert "b/overlays/4.png" in list(named_by(str(folder)))
    (folder / "b" / "predict.json").write_text("{}")
    assert list(named_by(str(folder))) == FOUND
    assert list(named_by(str(folder / "b" / "**"))) == ["1.png", "c/2.PNG"]
    assert list(named_by(str(folder / "b" / "overlays"))) == ["4.png"], "asked for by name"


def test_a_folder_and_an_image(folder):
    names = named_by(str(folder))
    assert (list(names), names.base, names.is_folder) == (FOUND, folder, True)
    assert list(names) == FOUND, "a second time"
    one = named_by(str(folder / FOUND[-1]))
    assert list(one) == [FOUND[-1]], "a literal name comes before a pattern"
    assert one.path(FOUND[-1]).is_file()


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("*.png", ["b.png"]),
        ("**/*.png", ["b/1.png", "b.png"]),
        ("b/**", ["b/1.png", "b/c/2.PNG"]),
        ("*/[0-9].p?g", ["b/1.png"]),
        ("**", FOUND),
    ],
)
def test_a_pattern(folder, pattern, expected):
    names = named_by(str(folder / pattern))
    assert [(names.base / name).relative_to(folder).as_posix() for name in names] == expected


def test_parts_of_patterns():
    assert matches(["a", "b", "c"], ["**", "c"])
    assert matches(["c"], ["**", "c"])
    assert matches(["a", "b"], ["a", "**"])
    assert not matches(["a"], ["a", "**"])
    assert not matches(["a", "b"], ["*"])


def test_a_list(folder, tmp_path):
    listed = ["photos/z.tif", str(folder / "a.jpg"), "photos/gone.png", "photos/a.jpg", "photos/Ä 'x\",[1].bmp"]
    path = tmp_path / "list.txt"
    path.write_text("\ufeff" + "\r\n".join(listed) + "\n\n", encoding="utf-8")
    names = named_by(str(path))
    assert list(names) == listed
    assert [names.path(name).is_file() for name in names] == [True, True, False, True, True]


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("list.txt", "a.png\nnote.md\n", "entry 2, 'note.md', is not named as an image"),
        ("list.txt", "a\0.png\n", "entry 1"),
        ("table.csv", "a.png", "not named as an image"),
    ],
)
def test_what_is_no_list(tmp_path, name, content, says):
    (tmp_path / name).write_text(content)
    with pytest.raises(DefectlocError, match=says):
        named_by(str(tmp_path / name))


def test_a_list_in_another_encoding(tmp_path):
    (tmp_path / "list.txt").write_bytes("Größe.png".encode("utf-16"))
    with pytest.raises(DefectlocError, match="cannot be read as a list"):
        named_by(str(tmp_path / "list.txt"))


@pytest.mark.parametrize("images", ["empty", "empty/*.png", "empty.txt"])
def test_nothing_there(tmp_path, images):
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty.txt").write_text("\n")
    with pytest.raises(DefectlocError, match="no image"):
        require_some(named_by(str(tmp_path / images)), images)


def test_names_that_are_no_text():
    assert is_writable("Ä.png")
    assert not is_writable("\udcff.png")

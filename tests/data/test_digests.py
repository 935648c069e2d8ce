"""Digests: right whatever happens to the files and to the table of what is known, and not computed twice."""

import hashlib
import json
import os

import pytest

from defectloc import files
from defectloc.data import digests
from defectloc.data.digests import Digests
from defectloc.errors import DefectlocError


@pytest.fixture
def later(monkeypatch):
    """Let the files of a test be older than the resolution of their time stamps."""
    now = digests.time.time_ns
    monkeypatch.setattr(digests.time, "time_ns", lambda: now() + 10_000_000_000)


@pytest.fixture
def hashed(monkeypatch) -> list:
    """List the files that were hashed."""
    names, digest = [], files.digest
    monkeypatch.setattr(files, "digest", lambda path: names.append(path.name) or digest(path))
    return names


def write(folder, n=3):
    folder.mkdir(exist_ok=True)
    for i in range(n):
        (folder / f"{i}.png").write_bytes(bytes([i]) * 10)
    return sorted(folder.iterdir())


def expected(paths):
    return [hashlib.sha256(path.read_bytes()).hexdigest() for path in paths]


def test_another_process_does_not_hash_again(tmp_path, later, hashed):
    paths = write(tmp_path / "photos")
    twice = [*paths, paths[0]]
    assert Digests(tmp_path / "kept").of(twice) == expected(twice)
    assert sorted(hashed) == ["0.png", "1.png", "2.png"]
    assert Digests(tmp_path / "kept").of(paths) == expected(paths)
    assert len(hashed) == 3
    assert [path.name for path in (tmp_path / "kept").iterdir()] == ["digests.json"]


def test_what_changed_is_hashed_again(tmp_path, later, hashed):
    paths = write(tmp_path / "photos")
    Digests(tmp_path).of(paths)
    stamp = paths[0].stat()
    # The same size, and the time stamp put back.
    paths[0].write_bytes(b"x" * 10)
    os.utime(paths[0], ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    (tmp_path / "new").write_bytes(b"y" * 10)
    os.replace(tmp_path / "new", paths[1])
    assert Digests(tmp_path).of(paths) == expected(paths)
    assert sorted(hashed[3:]) == ["0.png", "1.png"]


def test_a_file_that_was_just_written_is_not_kept(tmp_path, hashed):
    paths = write(tmp_path / "photos")
    for _ in range(2):
        assert Digests(tmp_path).of(paths) == expected(paths)
    assert len(hashed) == 6


@pytest.mark.parametrize("damage", ["empty", "cut", "flip", "foreign", "wrong shape", "folder"])
def test_a_damaged_table_counts_as_empty(tmp_path, later, hashed, damage):
    paths = write(tmp_path / "photos")
    Digests(tmp_path).of(paths)
    kept = tmp_path / "digests.json"
    text = kept.read_text()
    if damage == "folder":
        kept.unlink()
        kept.mkdir()
    elif damage == "wrong shape":
        body = json.dumps({str(paths[0]): [1, 2]})
        kept.write_text(f"{hashlib.sha256(body.encode()).hexdigest()}\n{body}\n")
    else:
        digest = expected(paths)[0]
        flipped = text.replace(digest, digest[:-1] + ("0" if digest[-1] != "0" else "1"))
        kept.write_text({"empty": "", "cut": text[:200], "flip": flipped, "foreign": "[1, 2]"}[damage])
    assert Digests(tmp_path).of(paths) == expected(paths)
    assert len(hashed) == 6


def test_two_processes_add_to_one_table_and_lost_files_leave_it(tmp_path, later, hashed):
    paths = write(tmp_path / "photos", 4)
    one, other = Digests(tmp_path), Digests(tmp_path)
    one.of(paths[:2])
    other.of(paths[2:])
    Digests(tmp_path).of(paths)
    assert len(hashed) == 4
    paths[0].unlink()
    (tmp_path / "photos" / "9.png").write_bytes(b"9")
    Digests(tmp_path).of([tmp_path / "photos" / "9.png"])
    assert "0.png" not in (tmp_path / "digests.json").read_text()


def test_without_a_folder_nothing_is_kept_and_one_that_cannot_be_written_does_no_harm(tmp_path, later):
    paths = write(tmp_path / "photos")
    assert Digests(None).of(paths) == expected(paths)
    (tmp_path / "file").write_text("")
    assert Digests(tmp_path / "file" / "x").of(paths) == expected(paths)


def test_relative_paths(tmp_path, later):
    paths = write(tmp_path / "photos")
    relative = [path.relative_to(tmp_path) for path in paths]
    assert Digests(tmp_path / "kept").of(relative) == expected(paths)


@pytest.mark.parametrize("name", ["gone.png", "photos", "null\0.png", "x" * 300])
def test_a_missing_file_is_named(tmp_path, name):
    write(tmp_path / "photos")
    with pytest.raises(DefectlocError, match="cannot be read"):
        Digests(None).of([tmp_path / name])

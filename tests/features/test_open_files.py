"""Array files are hashed once and held open in small numbers."""

import hashlib
import os
from pathlib import Path

import numpy as np
import pytest

from defectloc.features import open_files


def array_file(path: Path, value: float, n: int = 3) -> tuple[Path, str]:
    """Write an array `(n, 2, 4)` that is old enough for its time stamp to tell of a change."""
    np.save(path, np.full((n, 2, 4), value, np.float32) + np.arange(n, dtype=np.float32)[:, None, None])
    os.utime(path, (1e9, 1e9))
    return path, hashlib.sha256(path.read_bytes()).hexdigest()


def test_the_hash_is_that_of_the_bytes_and_follows_a_change(tmp_path):
    path, expected = array_file(tmp_path / "a.npy", 1)
    assert open_files.sha256(path)[1] == expected
    path, changed = array_file(path, 2)
    os.utime(path, (2e9, 2e9))
    assert open_files.sha256(path)[1] == changed != expected


def test_a_fresh_file_is_hashed_again_since_its_time_stamp_tells_nothing(tmp_path):
    path, _ = array_file(tmp_path / "a.npy", 1)
    os.utime(path)
    status = path.stat()
    first = open_files.sha256(path)[1]
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    with path.open("rb+") as file:
        file.write(content)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert open_files.sha256(path)[1] != first


def test_rows_are_copied_and_what_is_open_is_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr(open_files, "MAX_OPEN", 2)
    files = [array_file(tmp_path / f"{i}.npy", 10 * i) for i in range(5)]
    for _ in range(2):
        for i, (path, sha256) in enumerate(files):
            _, array = open_files.opened(path, None, sha256)
            np.testing.assert_array_equal(array.row(2), np.full((2, 4), 10 * i + 2))
            array.row(0)[:] = 7
            assert len(open_files._arrays) <= 2


def test_other_bytes_are_refused_unless_the_file_is_known(tmp_path):
    path, sha256 = array_file(tmp_path / "a.npy", 1)
    identity, _ = open_files.opened(path, None, sha256)
    with pytest.raises(ValueError, match="other bytes"):
        open_files.opened(path, None, "0" * 64)
    assert open_files.opened(path, identity, sha256)[0] == identity
    path, _ = array_file(path, 2)
    os.utime(path, (2e9, 2e9))
    open_files.close(path)
    with pytest.raises(ValueError, match="other bytes"):
        open_files.opened(path, identity, sha256)


def test_a_file_is_let_go_of(tmp_path):
    path, sha256 = array_file(tmp_path / "a.npy", 1)
    other, other_sha256 = array_file(tmp_path / "b.npy", 2)
    for each, expected in ((path, sha256), (other, other_sha256)):
        open_files.opened(each, None, expected)
    open_files.close(path)
    assert {Path(identity[0]).name for identity in open_files._arrays if str(tmp_path) in identity[0]} == {"b.npy"}

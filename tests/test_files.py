"""Files are whole or absent; a lock outlives nobody."""

import contextlib
import errno
import json
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from defectloc.errors import DefectlocError
from defectloc.files import are_as_written, atomic, digest, lock, read_json, refusal, sealed, write_json, write_text

HOLDER = """
import sys, time
from pathlib import Path
from defectloc.files import lock
with lock(Path(sys.argv[1]), "nothing"):
    print("held", flush=True)
    time.sleep(600)
"""


def hold(path) -> subprocess.Popen:
    child = subprocess.Popen([sys.executable, "-c", HOLDER, str(path)], stdout=subprocess.PIPE, text=True)
    assert child.stdout.readline() == "held\n"
    return child


def test_atomic_replaces_whole_files_only(tmp_path):
    path = tmp_path / "deep" / "file.txt"
    write_text(path, "old")
    with pytest.raises(ZeroDivisionError), atomic(path) as temporary:
        temporary.write_text(f"half {1 / 0}")
    assert path.read_text() == "old"
    assert os.listdir(path.parent) == ["file.txt"]
    write_text(path, "новый")
    assert path.read_text(encoding="utf-8") == "новый"


@pytest.fixture
def disk(monkeypatch) -> list[str]:
    """What reaches the disk, in its order: the names of synced files and folders, and of renamed files."""
    done, sync, rename = [], os.fsync, Path.replace

    def syncing(handle):
        done.append(f"sync {'folder' if stat.S_ISDIR(os.fstat(handle).st_mode) else 'file'}")
        sync(handle)

    def renaming(path, target):
        done.append("rename")
        return rename(path, target)

    monkeypatch.setattr("os.fsync", syncing)
    monkeypatch.setattr(Path, "replace", renaming)
    return done


def test_bytes_reach_the_disk_before_the_name_and_the_name_before_the_return(tmp_path, disk):
    write_text(tmp_path / "file", "text")
    assert disk == ["sync file", "rename", "sync folder"]


def test_what_is_verified_when_it_is_read_is_not_synced(tmp_path, disk):
    write_text(tmp_path / "file", "text", durable=False)
    assert disk == ["rename"]


def test_a_folder_that_cannot_be_synced_is_no_error(tmp_path, monkeypatch):
    sync = os.fsync

    def refuse_folders(handle):
        if stat.S_ISDIR(os.fstat(handle).st_mode):
            raise OSError(errno.EINVAL, "Invalid argument")
        sync(handle)

    monkeypatch.setattr("os.fsync", refuse_folders)
    write_text(tmp_path / "file", "text")
    assert (tmp_path / "file").read_text() == "text"


def test_bytes_that_do_not_reach_the_disk_leave_the_old_file(tmp_path, monkeypatch):
    write_text(tmp_path / "file", "old")

    def full(handle):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(DefectlocError, match="no space is left"):
        write_text(tmp_path / "file", "new")
    assert (tmp_path / "file").read_text() == "old"
    assert os.listdir(tmp_path) == ["file"]


def test_json_is_read(tmp_path):
    (tmp_path / "file").write_text('{"a": [1, null, "\u00e4"]}', encoding="utf-8")
    assert read_json(tmp_path / "file") == {"a": [1, None, "ä"]}


@pytest.mark.parametrize(
    "content",
    [b"", b'{"a": 1', b"[]", b"null", b"3", b"\xff\xfe", b'{"a": \x80}', b"\0" * 100, b"[" * 100_000, b"9" * 5_000],
    ids=["empty", "cut", "list", "null", "number", "utf-16", "not utf-8", "zeros", "deep", "long"],
)
def test_json_that_is_damaged_counts_as_missing(tmp_path, content):
    (tmp_path / "file").write_bytes(content)
    assert read_json(tmp_path / "file") is None


def test_json_refuses_what_is_no_number(tmp_path):
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "metrics.json", {"auroc": float("nan")})
    assert list(tmp_path.iterdir()) == []


def test_json_that_is_missing_or_a_folder_is_none(tmp_path):
    assert read_json(tmp_path / "none") is None
    assert read_json(tmp_path) is None
    assert read_json(tmp_path / "none" / "none") is None


def test_atomic_files_are_readable_as_others_are(tmp_path):
    before = os.umask(0o027)
    try:
        write_text(tmp_path / "file", "")
    finally:
        os.umask(before)
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o640


def test_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DefectlocError, match=r"file.* cannot be written .*another output folder"):
        write_text(tmp_path / "file" / "inside.txt", "")
    with pytest.raises(DefectlocError, match="cannot be written"), lock(tmp_path / "file" / ".lock", "this"):
        pass


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_full_disk_has_its_own_sentence(tmp_path, code):
    assert "no space is left" in str(refusal(OSError(code, "full"), tmp_path))


def test_lock_of_a_killed_process_is_free(tmp_path, capsys):
    child = hold(tmp_path / ".lock")
    child.send_signal(signal.SIGKILL)
    child.wait()
    child.stdout.close()
    with lock(tmp_path / ".lock", "this"):
        assert capsys.readouterr().err == ""


def test_who_waits_says_so_once_and_goes_on_when_the_holder_dies(tmp_path):
    holder = hold(tmp_path / ".lock")
    code = HOLDER.replace("time.sleep(600)", "pass")
    waiter = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path / ".lock")], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert waiter.stderr.readline() == "waiting: another process is busy with nothing\n"
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    holder.stdout.close()
    out, err = waiter.communicate()
    assert (out, err) == ("held\n", "")


def test_a_lock_is_taken_again_by_its_holder(tmp_path, capsys):
    with lock(tmp_path / ".lock", "this"), lock(tmp_path / "x" / ".." / ".lock", "this"):
        pass
    with lock(tmp_path / ".lock", "this"):
        with lock(tmp_path / ".lock", "this"):
            pass
        other = subprocess.Popen(
            [sys.executable, "-c", HOLDER.replace("time.sleep(600)", "pass"), str(tmp_path / ".lock")],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        # The inner end has not freed it.
        assert other.stderr.readline() == "waiting: another process is busy with nothing\n"
    assert other.communicate()[0] == "held\n"
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("code", [errno.EACCES, errno.EROFS])
def test_lock_in_a_folder_that_cannot_be_written_names_the_folder(tmp_path, monkeypatch, code):
    def refuse(*args, **kwargs):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr("filelock.FileLock.acquire", refuse)
    with pytest.raises(DefectlocError) as raised, lock(tmp_path / "run" / ".lock", "this"):
        pass
    assert str(raised.value) == (
        f"{tmp_path / 'run'} cannot be written ({os.strerror(code)}); choose another output folder."
    )


def test_error_leaves_no_folder_that_holds_only_the_lock(tmp_path):
    with pytest.raises(ZeroDivisionError), lock(tmp_path / "a" / "b" / ".lock", "this"):
        raise ZeroDivisionError
    assert os.listdir(tmp_path) == []
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "result").write_text("")
    with pytest.raises(ZeroDivisionError), lock(tmp_path / "a" / "b" / ".lock", "this"):
        raise ZeroDivisionError
    assert os.listdir(tmp_path / "a") == ["result"]
    (tmp_path / "mine").mkdir()
    with pytest.raises(ZeroDivisionError), lock(tmp_path / "mine" / ".lock", "this"):
        raise ZeroDivisionError
    assert (tmp_path / "mine").is_dir()


def test_waiting_process_survives_that_the_holder_takes_its_folder_away(tmp_path):
    path = tmp_path / "run" / ".lock"
    code = HOLDER.replace("time.sleep(600)", "pass")

    def give_up_while_another_waits() -> subprocess.Popen:
        with contextlib.suppress(ZeroDivisionError), lock(path, "this"):
            waiter = subprocess.Popen(
                [sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
            )
            assert "waiting" in waiter.stderr.readline()
            raise ZeroDivisionError
        return waiter

    waiter = give_up_while_another_waits()
    out, _ = waiter.communicate()
    assert (out, waiter.returncode) == ("held\n", 0)


def test_sealed_content_that_was_changed_counts_as_missing(tmp_path):
    path, content = tmp_path / "x.json", {"b": [1.5, None], "a": {"10": 1, "9": 2}}
    path.write_text(json.dumps(sealed(content), indent=2))
    assert {key: value for key, value in read_json(path).items() if key != "checksum"} == content
    path.write_text(path.read_text().replace("1.5", "1.6"))
    assert read_json(path) is None


@pytest.mark.parametrize("digests", [None, [], {"a": 1}, {"a": "0" * 64}, {"none": "0" * 64}, {"\0": "0"}])
def test_files_are_as_written_only_with_their_digests(tmp_path, digests):
    (tmp_path / "a").write_text("a")
    assert are_as_written(tmp_path, {"a": digest(tmp_path / "a")})
    assert not are_as_written(tmp_path, digests)

"""Files are whole or absent; a lock outlives nobody."""

import contextlib
import errno
import os
import signal
import subprocess
import sys

import pytest

from defectloc.errors import DefectlocError
from defectloc.files import atomic, lock, refusal, write_text

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


def test_atomic_files_are_readable_as_others_are(tmp_path):
    before = os.umask(0o027)
    try:
        write_text(tmp_path / "file", "")
    finally:
        os.umask(before)
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o640


def test_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DefectlocError, match=r"file.* cannot be written .*outputs=DIR"):
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

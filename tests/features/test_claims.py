"""A claim lasts as long as its object and its process, and no longer."""

import gc
import subprocess
import sys

import pytest

from defectloc.features.claims import Claim, claimed


def names(folder) -> set[str]:
    with claimed(folder) as found:
        return found


def test_a_claim_grows_and_ends_with_its_object(tmp_path):
    one, other = Claim(tmp_path), Claim(tmp_path)
    assert names(tmp_path) == set()
    one.add(["a-1", "a-2"])
    one.add(["a-2", "b c-3"])
    other.add(["a-1"])
    assert names(tmp_path) >= {"a-1", "a-2", "b c-3"}
    del one
    gc.collect()
    assert "a-1" in names(tmp_path)
    assert "a-2" not in names(tmp_path)
    del other
    gc.collect()
    assert names(tmp_path) == set()
    assert [path.name for path in tmp_path.iterdir()] == [".claims.lock"]


def test_a_claim_of_nothing_leaves_no_trace(tmp_path):
    Claim(tmp_path / "none").add([])
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize("end", ["", "os.kill(os.getpid(), 9)"])
def test_a_claim_ends_with_its_process(tmp_path, end):
    code = f"""
import os, sys
from pathlib import Path
from defectloc.features.claims import Claim, claimed
claim = Claim(Path(sys.argv[1]))
claim.add(["a-1"])
with claimed(Path(sys.argv[1])) as names:
    print(names, flush=True)
{end}
"""
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=False)
    assert "a-1" in done.stdout, done.stderr
    assert names(tmp_path) == set()
    assert [path.name for path in tmp_path.iterdir()] == [".claims.lock"]


@pytest.mark.skipif(sys.platform == "win32", reason="no fork")
def test_a_forked_child_does_not_end_the_claims_of_its_parent(tmp_path):
    code = """
import gc, os, sys
from pathlib import Path
from defectloc.features.claims import Claim, claimed
claim = Claim(Path(sys.argv[1]))
claim.add(["a-1"])
child = os.fork()
if child == 0:
    del claim
    gc.collect()
    sys.exit(0)
assert os.waitpid(child, 0)[1] == 0
with claimed(Path(sys.argv[1])) as names:
    print(names)
"""
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=False)
    assert "a-1" in done.stdout, done.stderr


def test_a_claim_that_cannot_be_written_is_none(tmp_path):
    (tmp_path / "file").write_text("")
    Claim(tmp_path / "file").add(["a-1"])

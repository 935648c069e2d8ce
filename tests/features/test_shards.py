"""A shard is sound or it is not; whatever its files hold, that is no traceback."""

import json
from pathlib import Path

import numpy as np
import pytest

from defectloc.errors import DefectlocError
from defectloc.features import shards
from defectloc.features.shards import Shard

DIGESTS = ["0" * 64, "1" * 64]
VALUES = np.arange(2 * 3 * 2 * 2, dtype=np.float16).reshape(2, 3, 2, 2)


@pytest.fixture
def note(tmp_path) -> Path:
    shards.write(tmp_path, "conv3_3.pool2", DIGESTS, VALUES)
    return tmp_path / f"{shards.name_of('conv3_3.pool2', DIGESTS)}.json"


def test_what_is_written_is_read(note):
    shard = Shard(note)
    assert shard.digests == DIGESTS
    assert shard.name.startswith("conv3_3.pool2-")
    assert shard.is_sound()
    for index in range(2):
        np.testing.assert_array_equal(shard.row(index), VALUES[index])
    np.testing.assert_array_equal(np.load(note.with_suffix(".npy")), VALUES)


@pytest.mark.parametrize(
    "text", ["", "[]", "{", "null", '{"digests": 5}', '{"digests": [1, null]}', json.dumps({"digests": DIGESTS[::-1]})]
)
def test_a_note_of_other_images_is_refused(note, text):
    note.write_text(text)
    with pytest.raises(ValueError, match="does not list the images"):
        Shard(note)


@pytest.mark.parametrize("content", [None, b"", b"\x93NUMPY", b"\x93NUMPY\x01\x00\x10\x00" + b"{'descr'" * 20])
def test_other_bytes_are_not_sound(note, content):
    path = note.with_suffix(".npy")
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    shard = Shard(note)
    assert not shard.is_sound()
    with pytest.raises(DefectlocError, match="removed or damaged"):
        shard.row(0)


def test_a_shard_that_was_written_anew_is_sound(note):
    shard = Shard(note)
    shards.write(note.parent, "conv3_3.pool2", DIGESTS, VALUES + 1)
    assert shard.is_sound()
    np.testing.assert_array_equal(shard.row(1), VALUES[1] + 1)


def test_a_removed_shard_is_gone(note):
    assert shards.remove(note)
    assert not list(note.parent.iterdir())
    assert shards.remove(note)

"""What can happen to a file of any kind."""

import gzip
import io
import json
import pickle
import zipfile

import numpy as np
from numpy.random import Generator
from PIL import Image


def empty(content: bytes, random: Generator) -> bytes:
    return b""


def truncated(content: bytes, random: Generator) -> bytes:
    """Keep a part of at least one byte."""
    return content[: int(random.integers(1, max(len(content), 2)))]


def flipped(content: bytes, random: Generator) -> bytes:
    """Flip 1 to 16 bits anywhere."""
    changed = np.frombuffer(content, np.uint8).copy()
    for place in random.choice(len(changed) * 8, min(int(random.integers(1, 17)), len(changed) * 8), replace=False):
        changed[place // 8] ^= 1 << (place % 8)
    return changed.tobytes()


def zeros(content: bytes, random: Generator) -> bytes:
    """Keep the length alone, as some file systems do in a power cut."""
    return bytes(len(content))


def with_a_tail(content: bytes, random: Generator) -> bytes:
    """Append up to 200 bytes of noise."""
    return content + random.bytes(int(random.integers(1, 201)))


def noise(content: bytes, random: Generator) -> bytes:
    return random.bytes(len(content))


def replaced(content: bytes, random: Generator) -> bytes:
    """Take the content of a file of another type under the old name."""
    others = [other for other in OTHER_TYPES.values() if other[:4] != content[:4]]
    return others[int(random.integers(len(others)))]


def _png() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8), (200, 30, 30)).save(buffer, "PNG")
    return buffer.getvalue()


def _zip() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        # The time of writing would make each one different.
        file.writestr(zipfile.ZipInfo("readme.txt"), "not what was expected")
    return buffer.getvalue()


OTHER_TYPES = {
    "text": b"remarks on the batch of Monday\n",
    "html": b"<!DOCTYPE html><html><body>404 Not Found</body></html>",
    "json": json.dumps({"name": "something else"}).encode(),
    "csv": b"a;b\n1;2\n",
    "pickle": pickle.dumps({"a": 1}),
    "gzip": gzip.compress(b"text", mtime=0),
    "zip": _zip(),
    "png": _png(),
    "pdf": b"%PDF-1.4\n1 0 obj\n<<>>\nendobj\n%%EOF\n",
    # What git leaves in place of a large file that was not fetched.
    "lfs": b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 12345\n",
}

"""Array files opened by this process: each verified once, and at most a few held open at a time."""

import hashlib
import mmap
import os
import threading
import time
from collections import OrderedDict
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path

import numpy as np

# A map takes one of the handles of which a process may have few hundreds (macOS: 256).
MAX_OPEN = 64
# Of bytes changed within the resolution of time stamps (up to 2 s) the time stamp tells nothing.
_RESOLUTION_NS = 2 * 10**9

# Path, bytes, time stamp and inode: where these are equal, so is the content.
Identity = tuple[str, int, int, int]


@dataclass(frozen=True)
class OpenArray:
    """A memory-mapped array `(N, ...)`, whose first byte is `start`."""

    map: mmap.mmap
    shape: tuple[int, ...]
    dtype: np.dtype
    start: int

    def row(self, index: int) -> np.ndarray:
        """Copy one entry of the first axis."""
        size = int(np.prod(self.shape[1:]))
        n_bytes = size * self.dtype.itemsize
        start = self.start + index * n_bytes
        values = np.frombuffer(self.map, self.dtype, size, start).reshape(self.shape[1:]).copy()
        if hasattr(mmap, "MADV_DONTNEED"):
            # The page cache keeps the bytes; the process would count every page that it has ever touched as its own.
            first = start // mmap.PAGESIZE * mmap.PAGESIZE
            self.map.madvise(mmap.MADV_DONTNEED, first, start + n_bytes - first)
        return values


_digests: dict[Identity, str] = {}
_arrays: "OrderedDict[Identity, OpenArray]" = OrderedDict()
_lock = threading.Lock()


def sha256(path: Path) -> tuple[Identity, str]:
    """Hash a file, once per process as long as it is not changed; raises OSError where it cannot be read."""
    with path.open("rb") as file:
        identity = _identity(path, file)
        return identity, _sha256(file, identity)


def opened(path: Path, identity: Identity | None, expected: str) -> tuple[Identity, OpenArray]:
    """Open an array file whose SHA-256 is `expected`, or known to be so of the file of this identity.

    Raises OSError where it cannot be read, and ValueError where it holds other bytes.
    """
    if identity is not None:
        with _lock:
            known = _arrays.get(identity)
            if known is not None:
                _arrays.move_to_end(identity)
                return identity, known
    # One opening for the check and for what is read later, lest the file is exchanged in between.
    with path.open("rb") as file:
        found = _identity(path, file)
        if found != identity and _sha256(file, found) != expected:
            raise ValueError(f"{path} holds other bytes than those that were written")
        array = _mapped(file)
    with _lock:
        _arrays[found] = array
        # Dropped and not closed: another thread may be copying from it.
        while len(_arrays) > MAX_OPEN:
            _arrays.popitem(last=False)
    return found, array


def close(path: Path) -> None:
    """Let go of a file: what is held open takes disk space even when it is removed."""
    with _lock:
        for identity in [each for each in _arrays if each[0] == str(path)]:
            del _arrays[identity]


def _sha256(file: BufferedReader, identity: Identity) -> str:
    known = _digests.get(identity)
    if known is not None:
        return known
    found = hashlib.file_digest(file, "sha256").hexdigest()
    if abs(time.time_ns() - identity[2]) > _RESOLUTION_NS:
        _digests[identity] = found
    return found


def _mapped(file: BufferedReader) -> OpenArray:
    file.seek(0)
    np.lib.format.read_magic(file)
    shape, _, dtype = np.lib.format.read_array_header_1_0(file)
    return OpenArray(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ), shape, dtype, file.tell())


def _identity(path: Path, file: BufferedReader) -> Identity:
    status = os.fstat(file.fileno())
    return str(path), status.st_size, status.st_mtime_ns, status.st_ino

"""One file of the store: feature maps of up to 64 images, with a note of whose they are and their checksum."""

import contextlib
import hashlib
import json
import mmap
import os
import weakref
from pathlib import Path
from typing import ClassVar

import numpy as np

from defectloc.files import atomic, write_text


class Shard:
    """A file of feature maps whose bytes are as they were written, held open.

    What is held open stays readable when another process removes the file, so that eviction needs to ask nobody.
    """

    # What this process is reading, whichever store opened it.
    in_use: ClassVar["weakref.WeakSet[Shard]"] = weakref.WeakSet()

    def __init__(self, note: Path) -> None:
        """Raises OSError, ValueError or KeyError where the note or the bytes are not what was written."""
        self.note = note
        written = json.loads(note.read_text(encoding="utf-8"))
        self.digests: list[str] = written["digests"]
        if note.stem.rpartition("-")[2] != _name(self.digests):
            raise ValueError(f"{note} does not list the images that it is named by")
        # One opening for the check and for what is read later, lest the file is exchanged in between.
        with note.with_suffix(".npy").open("rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != written["sha256"]:
                raise ValueError(f"{note} belongs to other bytes")
            file.seek(0)
            np.lib.format.read_magic(file)
            shape, _, self._dtype = np.lib.format.read_array_header_1_0(file)
            self._shape, self._start = shape[1:], file.tell()
            self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        Shard.in_use.add(self)

    def row(self, index: int) -> np.ndarray:
        """Copy the maps `(C, H, W)` of one image."""
        size = int(np.prod(self._shape))
        start, n_bytes = self._start + index * size * self._dtype.itemsize, size * self._dtype.itemsize
        values = np.frombuffer(self._map, self._dtype, size, start).reshape(self._shape).copy()
        if hasattr(mmap, "MADV_DONTNEED"):
            # The page cache keeps the bytes; the process would count every page that it has ever touched as its own.
            first = start // mmap.PAGESIZE * mmap.PAGESIZE
            self._map.madvise(mmap.MADV_DONTNEED, first, start + n_bytes - first)
        return values

    def touch(self) -> None:
        """Note the use; a store that cannot be written has nothing to evict."""
        with contextlib.suppress(OSError):
            os.utime(self.note)


def write(folder: Path, level: str, digests: list[str], values: np.ndarray) -> None:
    """Write maps `(N, C, H, W)` and then, as the sign that they are whole, the note."""
    path = folder / f"{level}-{_name(digests)}.npy"
    # Plain writing: a full disk is then an error, whereas writing to a memory map would kill the process.
    with atomic(path) as temporary:
        with temporary.open("wb") as file:
            # As np.save, whose error does not tell that the disk is full.
            np.lib.format.write_array_header_1_0(file, np.lib.format.header_data_from_array_1_0(values))
            file.write(np.ascontiguousarray(values).data)
        with temporary.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    write_text(path.with_suffix(".json"), json.dumps({"digests": digests, "sha256": sha256}))


def remove(note: Path) -> bool:
    """Delete a shard, and tell whether that could be done: Windows refuses what is being read.

    The numbers go first: a note without numbers is worth nothing to a reader, and is removed with the next orphans.
    """
    try:
        note.with_suffix(".npy").unlink(missing_ok=True)
        note.unlink(missing_ok=True)
    except PermissionError:
        return False
    return True


def remove_orphans(folder: Path) -> None:
    """Delete what a killed process has left; only for the holder of the folder's lock."""
    for path in folder.glob(".*-*"):
        if path.suffix in (".npy", ".json"):
            path.unlink(missing_ok=True)
    for path in folder.glob("*-*.npy"):
        if not path.with_suffix(".json").exists():
            path.unlink(missing_ok=True)
    for path in folder.glob("*-*.json"):
        if not path.with_suffix(".npy").exists():
            path.unlink(missing_ok=True)


def _name(digests: list[str]) -> str:
    return hashlib.sha256("".join(digests).encode()).hexdigest()[:16]

"""One file of the store: feature maps of up to 64 images, with a note of whose they are and their checksum."""

import contextlib
import errno
import hashlib
import json
import os
import weakref
from pathlib import Path

import numpy as np

from defectloc.errors import DefectlocError
from defectloc.features import open_files
from defectloc.files import atomic, read_json, write_text


class Shard:
    """A file of feature maps of the images that `digests` names; the note is read at once, the bytes when needed."""

    def __init__(self, note: Path) -> None:
        """Raises ValueError where the note cannot be read, or names other images than the file's name does."""
        self.note, self.path, self.name = note, note.with_suffix(".npy"), note.stem
        written = read_json(note) or {}
        digests = written.get("digests")
        self.digests = [str(digest) for digest in digests] if isinstance(digests, list) else []
        if self.name.rpartition("-")[2] != _hash(self.digests):
            raise ValueError(f"{note} does not list the images that it is named by")
        self._sha256 = str(written.get("sha256"))
        self._identity: open_files.Identity | None = None
        weakref.finalize(self, open_files.close, self.path).atexit = False

    def is_sound(self) -> bool:
        """Tell whether the bytes are those that were written; raises DefectlocError where no file can be opened."""
        try:
            identity, found = open_files.sha256(self.path)
        except OSError as error:
            _raise_if_exhausted(error, self.path)
            return False
        if found != self._sha256:
            # Another process may have written the shard anew.
            self._sha256 = str((read_json(self.note) or {}).get("sha256"))
        self._identity = identity if found == self._sha256 else None
        return self._identity is not None

    def row(self, index: int) -> np.ndarray:
        """Copy the maps `(C, H, W)` of one image; raises DefectlocError where the bytes are gone or others."""
        try:
            self._identity, array = open_files.opened(self.path, self._identity, self._sha256)
        except (OSError, ValueError) as error:
            _raise_if_exhausted(error, self.path)
            raise DefectlocError(
                f"{self.path} was removed or damaged while it was in use; start the command again, which computes its "
                "features anew."
            ) from error
        return array.row(index)

    def touch(self) -> None:
        """Set the time of the last use; a store that cannot be written has nothing to evict."""
        with contextlib.suppress(OSError):
            os.utime(self.note)


def name_of(level: str, digests: list[str]) -> str:
    """Name the shard of one level of some images."""
    return f"{level}-{_hash(digests)}"


def write(folder: Path, level: str, digests: list[str], values: np.ndarray) -> None:
    """Write maps `(N, C, H, W)` and then, as the sign that they are whole, the note."""
    path = folder / f"{name_of(level, digests)}.npy"
    # Plain writing: a full disk is then an error, whereas writing to a memory map would kill the process. Not synced:
    # what a power cut takes, the checksum tells.
    with atomic(path, durable=False) as temporary:
        with temporary.open("wb") as file:
            # As np.save, whose error does not tell that the disk is full.
            np.lib.format.write_array_header_1_0(file, np.lib.format.header_data_from_array_1_0(values))
            file.write(np.ascontiguousarray(values).data)
        with temporary.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    write_text(path.with_suffix(".json"), json.dumps({"digests": digests, "sha256": sha256}), durable=False)


def remove(note: Path) -> bool:
    """Delete a shard, and tell whether that could be done: Windows refuses what is being read.

    The numbers go first: a note without numbers is worth nothing to a reader, and is removed with the next orphans.
    """
    open_files.close(note.with_suffix(".npy"))
    try:
        note.with_suffix(".npy").unlink(missing_ok=True)
        note.unlink(missing_ok=True)
    except OSError:
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


def _raise_if_exhausted(error: Exception, path: Path) -> None:
    """Raise DefectlocError where the process has no handle left, which tells nothing about the file."""
    if isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE):
        raise DefectlocError(
            f"{path} cannot be opened, since this process has too many files open; raise the limit with "
            "'ulimit -n 4096'."
        ) from error


def _hash(digests: list[str]) -> str:
    return hashlib.sha256("".join(digests).encode()).hexdigest()[:16]

"""What living processes read of a key: an eviction leaves it alone, although no file of it need be open.

A claim is two files: a list of shards, one a line, and a lock that its process holds. The operating system frees the
lock of a process that dies, however it dies; a claim whose lock is free is removed by whoever meets it.
"""

import contextlib
import os
import uuid
import weakref
from collections.abc import Collection, Iterator
from pathlib import Path

import filelock

# A lock that nothing refers to would be released.
_held: dict[Path, filelock.BaseFileLock] = {}


class Claim:
    """The shards of one key that this process will read; it ends with this object or with the process."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._names: set[str] = set()
        self._list: Path | None = None

    def add(self, names: Collection[str]) -> None:
        """Claim shards by name, which need not exist yet; does nothing in a store that this user cannot write."""
        new = sorted(set(names) - self._names)
        if not new:
            return
        with contextlib.suppress(OSError), _changing(self._folder):
            if self._list is None:
                self._list = _begin(self._folder)
                weakref.finalize(self, _end, self._list, os.getpid())
            with self._list.open("a", encoding="utf-8") as file:
                file.writelines(f"{name}\n" for name in new)
            self._names.update(new)


@contextlib.contextmanager
def claimed(folder: Path) -> Iterator[set[str]]:
    """Give the names of the shards of a key that living processes read; meanwhile none can be added.

    Raises OSError in a store that this user cannot write.
    """
    with _changing(folder):
        names: set[str] = set()
        for path in folder.glob(".claim-*.lock"):
            listed = path.with_suffix(".txt")
            if _is_free(path):
                for each in (listed, path):
                    each.unlink(missing_ok=True)
            else:
                # The claim may end at this moment.
                with contextlib.suppress(FileNotFoundError):
                    names.update(listed.read_text(encoding="utf-8").splitlines())
        yield names


@contextlib.contextmanager
def _changing(folder: Path) -> Iterator[None]:
    """Exclude other processes for the milliseconds in which claims are read or written."""
    with filelock.FileLock(folder / ".claims.lock").acquire(poll_interval=0.005):
        yield


def _begin(folder: Path) -> Path:
    path = folder / f".claim-{uuid.uuid4().hex}.txt"
    # Not of one thread: the garbage collector ends claims in any.
    lock = filelock.FileLock(path.with_suffix(".lock"), thread_local=False)
    lock.acquire(timeout=0)
    _held[path] = lock
    return path


def _end(path: Path, owner: int) -> None:
    # A forked child has copies of its parent's claims.
    if os.getpid() == owner:
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)
            path.with_suffix(".lock").unlink(missing_ok=True)
        _held.pop(path).release()


def _is_free(path: Path) -> bool:
    lock = filelock.FileLock(path)
    try:
        lock.acquire(timeout=0)
    # Timeout, or a lock of another user that may not be opened.
    except OSError:
        return False
    lock.release()
    return True

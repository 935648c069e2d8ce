"""Files that are whole or absent: atomic writing, reading what may be damaged, and a lock between processes."""

import contextlib
import errno
import hashlib
import json
import os
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import filelock

from defectloc.errors import DefectlocError

CHECKSUM = "checksum"
# Each look opens the lock file: a thousand waiting jobs are 2,000 requests a second for a file server, not 20,000.
_POLL_SECONDS = 0.5
_UMASK = threading.Lock()
_NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@contextlib.contextmanager
def atomic(path: Path, durable: bool = True) -> Iterator[Path]:
    """Give a temporary path beside `path` to write to; rename it into place, or remove it after an error.

    The bytes reach the disk before the name and the name before this returns, so that a power cut leaves the old file
    or the new one. Files whose bytes are verified whenever they are read need not be `durable`.

    Raises DefectlocError when the disk is full or the folder cannot be written.
    """
    make_directory(path.parent)
    try:
        handle, name = tempfile.mkstemp(prefix=f".{path.stem}-", suffix=path.suffix, dir=path.parent)
    except OSError as error:
        raise refusal(error, path) from error
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        # mkstemp makes files that only their owner can read.
        temporary.chmod(0o666 & ~_umask())
        if durable:
            _sync_file(temporary)
        temporary.replace(path)
        if durable:
            _sync_folder(path.parent)
    except OSError as error:
        raise refusal(error, path) from error
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str, durable: bool = True) -> None:
    """Write a UTF-8 text file atomically."""
    with atomic(path, durable) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write JSON atomically; NaN is refused, since what cannot be measured is null."""
    write_text(path, json.dumps(content, indent=2, allow_nan=False) + "\n")


def digest_of(content: Any) -> str:
    """Return the SHA-256 of plain content as hexadecimal digits, whatever the order of its keys."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def sealed(content: dict[str, Any]) -> dict[str, Any]:
    """Add the key `checksum`, by which `read_json` tells content that was changed since."""
    plain = json.loads(json.dumps(content, allow_nan=False))
    return plain | {CHECKSUM: _checksum(plain)}


def read_json(path: Path) -> dict[str, Any] | None:
    """Read a JSON object; None for a file that is missing, empty, damaged or holds anything else.

    What cannot be read, or was `sealed` and changed since, counts as missing, so that it is made again.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    # A few thousand opening brackets end in a RecursionError.
    except (OSError, ValueError, RecursionError):
        return None
    if not isinstance(found, dict) or found.get(CHECKSUM, _checksum(found)) != _checksum(found):
        return None
    return found


def _checksum(content: dict[str, Any]) -> str:
    return digest_of({key: value for key, value in content.items() if key != CHECKSUM})


def are_as_written(folder: Path, digests: Any) -> bool:
    """Tell whether files of a folder, given by name with their SHA-256, are all there and as they were written."""
    if not isinstance(digests, dict):
        return False
    try:
        return all(digest(folder / name) == wanted for name, wanted in digests.items())
    except (DefectlocError, ValueError):
        # A name with a null byte is a ValueError.
        return False


def digest(path: Path) -> str:
    """Return the SHA-256 of a file as 64 lower-case hexadecimal digits; raises DefectlocError if it is unreadable."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise DefectlocError(f"{path} cannot be read ({error.strerror}).") from error


def make_directory(path: Path) -> None:
    """Make a folder and its parents; raises DefectlocError where that is not allowed."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise refusal(error, path) from error


def refusal(error: OSError, path: Path) -> DefectlocError:
    """Put an error of the file system into one sentence."""
    if error.errno in _NO_SPACE:
        return DefectlocError(f"no space is left to write {path}; free some or choose another output folder.")
    return DefectlocError(f"{path} cannot be written ({error.strerror}); choose another output folder.")


@contextlib.contextmanager
def lock(path: Path, what: str) -> Iterator[None]:
    """Hold the lock file `path`; wait, and say so once, while another process is busy with `what`.

    A thread that holds the lock may take it again. The operating system frees the lock when its holder dies, however
    it dies, so there is none to time out. Folders that were made for the lock and hold nothing else after an error are
    removed.

    Raises DefectlocError, which names the folder, where the lock file cannot be made.
    """
    # One object per path is what makes the lock re-entrant.
    holder, new_folders = filelock.FileLock(path.absolute(), is_singleton=True), _missing_folders(path.parent)
    _acquire(holder, path, what)
    try:
        yield
    except BaseException:
        if new_folders and os.listdir(path.parent) == [path.name]:
            path.unlink()
            _remove_empty(new_folders)
        raise
    finally:
        holder.release()


def _acquire(holder: filelock.BaseFileLock, path: Path, what: str) -> None:
    timeout = 0
    while True:
        make_directory(path.parent)
        try:
            holder.acquire(timeout=timeout, poll_interval=_POLL_SECONDS)
            return
        except filelock.Timeout:
            print(f"waiting: another process is busy with {what}", file=sys.stderr, flush=True)
            timeout = -1
        except FileNotFoundError:
            # The holder gave up and took its folder with it.
            continue
        except OSError as error:
            raise refusal(error, path.parent) from error


def _missing_folders(folder: Path) -> list[Path]:
    """List what `make_directory` would make, the innermost first."""
    return [each for each in (folder, *folder.parents) if not each.exists()]


def _remove_empty(folders: list[Path]) -> None:
    with contextlib.suppress(OSError):
        for folder in folders:
            folder.rmdir()


def _sync_file(path: Path) -> None:
    # For writing, since Windows refuses to sync what is open for reading only.
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    # Windows cannot open a folder, and some network file systems cannot sync one.
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _umask() -> int:
    # It can only be read by setting it, which two threads must not do at once: one would keep the other's 0.
    with _UMASK:
        mask = os.umask(0)
        os.umask(mask)
    return mask

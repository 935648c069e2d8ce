"""SHA-256 of files, kept between processes, so that a second run need not read every image again."""

import hashlib
import json
import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from defectloc import files
from defectloc.errors import DefectlocError

_NAME = "digests.json"
# What tells one content of a file from the next: size, mtime and ctime in ns, inode. An edit that puts the time stamp
# back still changes the ctime.
_Stamp = tuple[int, int, int, int]
# A file may be written again within the resolution of its time stamps without a change of them ("racy clean" in git).
_SETTLED_NS = 2_000_000_000


class Digests:
    """SHA-256 of files; known ones are found again by path, size, time stamps and inode, in one file below `folder`."""

    def __init__(self, folder: Path | None) -> None:
        """With `folder=None` nothing is kept on the disk. A lost or damaged file counts as empty."""
        self._file = None if folder is None else folder / _NAME
        self._known = {} if self._file is None else _read(self._file)

    def of(self, paths: list[Path]) -> list[str]:
        """Return the SHA-256 of each file as 64 hexadecimal digits; raises DefectlocError for a missing file."""
        wanted = list(dict.fromkeys(Path(os.path.abspath(path)) for path in paths))
        with ThreadPoolExecutor(4) as pool:
            stamps = dict(zip(wanted, pool.map(_stamp, wanted), strict=True))
            unknown = [path for path in wanted if self._found(path, stamps[path]) is None]
            hashed = dict(zip(unknown, pool.map(files.digest, unknown), strict=True))
            after = dict(zip(unknown, pool.map(_stamp, unknown), strict=True))
        latest = time.time_ns() - _SETTLED_NS
        settled = {
            str(path): (stamps[path], hashed[path])
            for path in unknown
            if after[path] == stamps[path] and max(stamps[path][1:3]) <= latest
        }
        result = [
            hashed.get(path) or self._found(path, stamps[path]) for path in map(Path, map(os.path.abspath, paths))
        ]
        if settled:
            self._known |= settled
            self._write()
        return [digest for digest in result if digest is not None]

    def _found(self, path: Path, stamp: _Stamp) -> str | None:
        known = self._known.get(str(path))
        return known[1] if known is not None and known[0] == stamp else None

    def _write(self) -> None:
        if self._file is None:
            return
        # Another process may have added to the file since it was read here.
        known = _read(self._file) | self._known
        kept = {path: [*stamp, digest] for path, (stamp, digest) in known.items() if os.path.exists(path)}
        body = json.dumps(kept, sort_keys=True)
        try:
            files.write_text(self._file, f"{hashlib.sha256(body.encode()).hexdigest()}\n{body}\n")
        except DefectlocError:
            # A folder that cannot be written costs time in the next process, nothing else.
            return


def _read(file: Path) -> dict[str, tuple[_Stamp, str]]:
    try:
        checksum, _, body = file.read_text(encoding="utf-8").rstrip("\n").partition("\n")
        if hashlib.sha256(body.encode()).hexdigest() != checksum:
            return {}
        known = json.loads(body)
        return {
            path: ((size, mtime, ctime, inode), digest) for path, (size, mtime, ctime, inode, digest) in known.items()
        }
    except (OSError, ValueError, AttributeError, TypeError):
        return {}


def _stamp(path: Path) -> _Stamp:
    try:
        found = path.stat()
    except (OSError, ValueError) as error:
        # A name with a null byte is a ValueError.
        raise DefectlocError(f"{path} cannot be read ({getattr(error, 'strerror', None) or error}).") from error
    return found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino

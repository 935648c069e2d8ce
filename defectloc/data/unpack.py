"""Archives unpacked whole or not at all, and never outside their folder."""

import lzma
import os
import shutil
import stat
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import IO

from defectloc.data.download import bytes_bar
from defectloc.errors import DefectlocError

_DAMAGED = (tarfile.TarError, zipfile.BadZipFile, lzma.LZMAError, zlib.error, EOFError, RuntimeError)


class _UnsafeError(Exception):
    """A member that does not belong in a data set."""


def unpack(archive: Path, folder: Path, *, only: str | None = None) -> Path:
    """Unpack a .tar, .tar.gz, .tar.xz or .zip archive to `folder`, which must not exist yet, and return it.

    With `only`, just what lies in the archive's folder of that name is unpacked, and lands directly in `folder`.
    Raises DefectlocError, and leaves nothing behind, for a damaged archive, for a member with an absolute path, with
    `..`, or that is neither a file nor a folder, and where `only` is not in the archive.
    """
    if folder.exists():
        raise DefectlocError(f"{folder} is already there; move it away to unpack {archive.name} again.")
    partial = None
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", suffix=".partial", dir=folder.parent))
        # mkdtemp makes folders that only their owner can enter.
        partial.chmod(0o755)
        with archive.open("rb") as file, bytes_bar(f"unpacking {archive.name}") as advance:
            take = _unpack_zip if file.read(2) == b"PK" else _unpack_tar
            seen = take(file, partial, only, advance)
        if not any(partial.iterdir()):
            inside = f"it holds {', '.join(sorted(seen))}" if seen else "it is empty"
            raise DefectlocError(f"{archive} has no folder {only or ''}: {inside}.")
        os.rename(partial, folder)
    except _UnsafeError as error:
        raise DefectlocError(f"{archive} was not unpacked, because it is not safe: {error}.") from error
    except _DAMAGED as error:
        raise DefectlocError(f"{archive} is damaged or no archive ({error}); remove it and fetch it again.") from error
    except OSError as error:
        raise DefectlocError(f"{archive} cannot be unpacked to {folder} ({error.strerror or error}).") from error
    finally:
        if partial is not None:
            shutil.rmtree(partial, ignore_errors=True)
    return folder


def _unpack_tar(
    file: IO[bytes], target: Path, only: str | None, advance: Callable[[int, int | None], None]
) -> set[str]:
    total = os.fstat(file.fileno()).st_size
    seen: set[str] = set()
    file.seek(0)
    with tarfile.open(fileobj=file, mode="r:*") as tar:
        for member in tar:
            advance(file.tell(), total)
            name = _place(member.name, only, seen)
            if name is None:
                continue
            # tarfile's own filters came with Python 3.11.4; a data set needs no links.
            if not (member.isreg() or member.isdir()):
                raise _UnsafeError(f"{member.name} is neither a file nor a folder")
            _write(None if member.isdir() else tar.extractfile(member), target / name)
        # A tar ends with a block of zeros; without one, iteration just stops where the file does.
        if tar.fileobj is None or tar.fileobj.tell() < tar.offset + tarfile.BLOCKSIZE:
            raise tarfile.ReadError("it ends too early")
        # Only the last bytes of a compressed stream tell whether it came whole.
        while tar.fileobj.read(1 << 20):
            pass
    return seen


def _unpack_zip(
    file: IO[bytes], target: Path, only: str | None, advance: Callable[[int, int | None], None]
) -> set[str]:
    total = os.fstat(file.fileno()).st_size
    seen: set[str] = set()
    with zipfile.ZipFile(file) as archive:
        for info in archive.infolist():
            advance(info.header_offset, total)
            name = _place(info.filename, only, seen)
            if name is None:
                continue
            kind = stat.S_IFMT(info.external_attr >> 16)
            if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
                raise _UnsafeError(f"{info.filename} is neither a file nor a folder")
            _write(None if info.is_dir() else archive.open(info), target / name)
    return seen


def _write(content: IO[bytes] | None, destination: Path) -> None:
    """Write a file, or make a folder where there is no content."""
    if content is None:
        destination.mkdir(parents=True, exist_ok=True)
        return
    destination.parent.mkdir(parents=True, exist_ok=True)
    with content, destination.open("wb") as sink:
        shutil.copyfileobj(content, sink)


def _place(name: str, only: str | None, seen: set[str]) -> str | None:
    """Return where a member goes, None if it is not wanted; adds its top folder to `seen`."""
    path = PurePosixPath(name)
    if path.is_absolute() or PureWindowsPath(name).anchor or ".." in path.parts or ".." in PureWindowsPath(name).parts:
        raise _UnsafeError(f"{name} leaves the folder")
    if path.parts:
        seen.add(path.parts[0])
    if only is None:
        return str(path)
    # One folder more at the top is common: mvtec_anomaly_detection/pill beside pill.
    for depth in (0, 1):
        if path.parts[depth : depth + 1] == (only,) and len(path.parts) > depth + 1:
            return str(PurePosixPath(*path.parts[depth + 1 :]))
    return None

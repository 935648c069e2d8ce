"""Which images are meant by a path, a folder, a pattern or a list, one name after the other."""

import fnmatch
import glob
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath

from defectloc.data.images import is_image_name, walk
from defectloc.errors import DefectlocError

LIST_SUFFIX = ".txt"
KINDS = "(PNG, JPEG, BMP or TIFF)"


@dataclass(frozen=True)
class ImageNames:
    """Names of images below `base`, with `/`; gone through anew each time, and never held all at once."""

    base: Path
    is_folder: bool
    _names: Callable[[], Iterable[str]]

    def __iter__(self) -> Iterator[str]:
        """Give the names in order: sorted by their parts, or as they are listed."""
        return iter(self._names())

    def path(self, name: str) -> Path:
        """Give the file of a name."""
        return self.base / name


def named_by(images: str, left_out: Path | None = None) -> ImageNames:
    """Find out what is meant by an image, a folder, a pattern such as `line/**/*.png`, or a list of paths (`.txt`).

    What is there under the very name comes before a pattern. Names are relative to the folder; to the part of the
    pattern before its first wildcard; those of a list are as they are written, relative to the list's own folder.
    Nothing below `left_out` is found. Raises DefectlocError where nothing is there, or something is no image by name.
    """
    path = Path(images).expanduser()
    if path.is_dir():
        return ImageNames(path, True, lambda: walk(path, left_out))
    if not path.is_file():
        if glob.has_magic(images):
            return _matching(path, left_out)
        raise DefectlocError(f"images={images} does not exist.")
    if path.suffix.lower() == LIST_SUFFIX:
        _check_list(path)
        return ImageNames(path.parent, False, lambda: _listed(path))
    if not is_image_name(path):
        raise DefectlocError(f"images={images} is not named as an image {KINDS} or a list of them ({LIST_SUFFIX}).")
    return ImageNames(path.parent, False, lambda: [path.name])


def require_some(names: ImageNames, images: str) -> None:
    """Raise DefectlocError where there is no image at all."""
    if next(iter(names), None) is None:
        what = f"holds no images {KINDS}" if names.is_folder else "names no image"
        raise DefectlocError(f"images={images} {what}.")


def _matching(pattern: Path, left_out: Path | None) -> ImageNames:
    """Walk below the folder before the first wildcard."""
    plain = list(itertools.takewhile(lambda part: not glob.has_magic(part), pattern.parts))
    base, wanted = Path(*plain), pattern.parts[len(plain) :]
    return ImageNames(base, False, lambda: (name for name in walk(base, left_out) if matches(name.split("/"), wanted)))


def matches(parts: Sequence[str], pattern: Sequence[str]) -> bool:
    """Tell whether a path fits a pattern, both in parts: `*`, `?` and `[...]` within one, `**` for any number of them.

    As a last part `**` stands for at least one.
    """
    if not pattern:
        return not parts
    if pattern[0] == "**":
        least = len(pattern) == 1
        return any(matches(parts[n:], pattern[1:]) for n in range(least, len(parts) + 1))
    return bool(parts) and fnmatch.fnmatchcase(parts[0], pattern[0]) and matches(parts[1:], pattern[1:])


def _listed(path: Path) -> Iterator[str]:
    try:
        # A byte order mark is what some editors of Windows put before the first name.
        with path.open(encoding="utf-8-sig", newline="\n") as file:
            for line in file:
                if name := line.rstrip("\r\n"):
                    yield name
    except (OSError, ValueError) as error:
        raise DefectlocError(f"{path} cannot be read as a list of paths in UTF-8 ({error}).") from error


def _check_list(path: Path) -> None:
    for number, name in enumerate(_listed(path), start=1):
        if "\0" in name or not is_image_name(PurePath(name)):
            raise DefectlocError(f"{path}: entry {number}, {name[:100]!r}, is not named as an image {KINDS}.")


def is_writable(name: str) -> bool:
    """Tell whether a name can stand in a table: not where the file system gave bytes that are no UTF-8."""
    return name == name.encode(errors="ignore").decode()

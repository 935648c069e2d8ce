"""Which image of a data set is meant by a name in the files of an annotation tool."""

import os
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePath, PurePosixPath

from defectloc.errors import DefectlocError


@dataclass(frozen=True)
class ImageName:
    """A name as it is written, with `/`, and what else is known of it.

    `file` is where the image lies, or a link to it; `is_served`: the name begins at a folder that Label Studio serves,
    which is that of the data set or one above it.
    """

    written: str
    file: Path | None = None
    is_served: bool = False


class ImageFinder:
    """Finds images of a data set by the names that one file or folder of annotations has for them."""

    def __init__(
        self, images: list[str], path: Path, root: Path | None, names: Collection[ImageName], renamed: dict[str, str]
    ) -> None:
        """`path` of the annotations, for messages; `names` all that they hold; `renamed`: images by their names there.

        `root` is the folder of the data set, to which links lead.
        """
        self._images, self._path, self._renamed = set(images), path, renamed
        self._by_name: dict[str, list[str]] = defaultdict(list)
        for image in images:
            self._by_name[PurePosixPath(image).name].append(image)
        self._folders = {folder for image in images for folder in PurePosixPath(image).parent.parts}
        self._root = None if root is None else os.path.realpath(root)
        self._served = self._prefixes(root, [name.written for name in names if name.is_served])

    def __call__(self, name: ImageName) -> str:
        """Give the path of an image; raises DefectlocError for one that is not there, or may be two.

        What a name leads to comes first, then the very path, then the path with the longest common end, since tools
        leave out folders or prefix their own; a path that leads through other folders of the data set is no such one.
        """
        for found in (self._by_file(name), self._by_folder_served(name), self._renamed.get(name.written)):
            if found is not None:
                return found
        parts = PurePosixPath(name.written.replace("\\", "/")).parts
        candidates = self._by_name.get(parts[-1] if parts else "", [])
        written = (name.written, self._below_root(name.written))
        exact = [each for each in candidates if each in written]
        common = [_common_end(PurePosixPath(each).parts, parts) for each in candidates]
        best = exact or [each for each, n in zip(candidates, common, strict=True) if n == max(common)]
        # A path that the name holds from its beginning goes before one of which the name holds the end.
        whole = [each for each in best if len(PurePosixPath(each).parts) == max(common)]
        best = whole if len(best) > 1 and whole else best
        if len(best) != 1:
            what = "is not in the data set" if not best else f"may be {best[0]} or {best[1]}"
            raise DefectlocError(f"data.annotations={self._path}: the image {name.written} {what}.")
        if not exact and not whole and not self._folders.isdisjoint(parts[: -max(common)]):
            raise DefectlocError(
                f"data.annotations={self._path}: the image {name.written} is not in the data set; {best[0]} lies in "
                "another folder."
            )
        return best[0]

    def _by_file(self, name: ImageName) -> str | None:
        found = None if name.file is None else self._below_root(os.path.realpath(name.file))
        return found if found in self._images else None

    def _below_root(self, path: str) -> str | None:
        if self._root is None or not os.path.isabs(path):
            return None
        return PurePath(os.path.relpath(path, self._root)).as_posix()

    def _by_folder_served(self, name: ImageName) -> str | None:
        if not name.is_served:
            return None
        found = sorted({image for prefix in self._served if (image := self._without(prefix, name.written)) is not None})
        if len(found) > 1:
            raise DefectlocError(
                f"data.annotations={self._path}: the image {name.written} may be {found[0]} or {found[1]}, by the "
                "folder that Label Studio serves; give its JSON export."
            )
        return found[0] if found else None

    def _prefixes(self, root: Path | None, written: list[str]) -> list[str]:
        """List by what the served names may begin before the paths of images: all of them fit, or most do."""
        folders = set() if root is None else {os.path.realpath(root), os.path.abspath(root)}
        every = ["", *sorted({end for folder in folders for end in _ends(folder)})]
        fitting = {prefix: sum(self._without(prefix, name) is not None for name in written) for prefix in every}
        return [prefix for prefix, n in fitting.items() if n and n == max(fitting.values())]

    def _without(self, prefix: str, name: str) -> str | None:
        image = name.removeprefix(prefix)
        return image if name.startswith(prefix) and image in self._images else None


def _ends(folder: str) -> Iterator[str]:
    """Give the last names of a folder's path, the last two, and so on, each with a `/` at its end."""
    parts = PurePath(folder).parts[1:]
    for n in range(1, len(parts) + 1):
        yield "/".join(parts[-n:]) + "/"


def _common_end(first: Iterable[str], second: Iterable[str]) -> int:
    n = 0
    for one, other in zip(reversed(tuple(first)), reversed(tuple(second)), strict=False):
        if one != other:
            break
        n += 1
    return n

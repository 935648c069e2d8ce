"""Folders of images that lie beside those of a data set, and are not read."""

from collections.abc import Iterable
from pathlib import Path

from defectloc.data.images import is_image_name
from defectloc.notes import say_once

# Folders that a note names.
MOST_NAMED = 5


def note_unread(places: Iterable[Path], known: Iterable[Path]) -> None:
    """Say which folders directly inside of `places` hold images, but neither hold nor belong to a `known` folder."""
    read = list(known)
    unread = [
        str(folder)
        for place in places
        for folder in sorted(place.iterdir())
        if not any(folder.is_relative_to(each) or each.is_relative_to(folder) for each in read)
        and _holds_images(folder)
    ]
    if unread:
        more = f" and {len(unread) - MOST_NAMED} more" if len(unread) > MOST_NAMED else ""
        say_once(
            f"unread {unread}",
            f"data=folder does not read the images in {', '.join(unread[:MOST_NAMED])}{more}; it reads the folders of "
            "good and defective images in train/ and test/, or without these in data.root.",
        )


def _holds_images(folder: Path) -> bool:
    """Look into a folder and the folders in it, not deeper: figures of runs lie there, which are no data."""
    if not folder.is_dir() or folder.name.startswith("."):
        return False
    return any(is_image_name(path) for pattern in ("*", "*/*") for path in folder.glob(pattern))

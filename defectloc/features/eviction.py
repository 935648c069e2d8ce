"""What all keys of a store hold on disk, and the removal of what was not used for longest."""

import contextlib
import time
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from defectloc.features import shards
from defectloc.features.claims import claimed
from defectloc.files import read_json

GIGABYTE = 10**9


@dataclass(frozen=True)
class Entry:
    """A shard on disk; `used` is the time of its last use, in seconds since 1970."""

    note: Path
    level: str
    bytes: int
    used: float


@dataclass(frozen=True)
class Holding:
    """What is stored under one key; `settings` are what it was computed with, `used` is in seconds since 1970."""

    key: str
    settings: dict[str, Any]
    levels: list[str]
    n_images: int
    entries: list[Entry]

    @property
    def bytes(self) -> int:
        """Add up the shards."""
        return sum(entry.bytes for entry in self.entries)

    @property
    def used(self) -> float:
        """Give the time of the last use of any shard."""
        return max(entry.used for entry in self.entries)


def entries(folder: Path) -> list[Entry]:
    """List the shards of one key, the longest unused first."""
    found = []
    for note in folder.glob("*-*.json"):
        # Another process may remove it at any time.
        with contextlib.suppress(OSError):
            status, size = note.stat(), note.with_suffix(".npy").stat().st_size
            found.append(Entry(note, note.stem.rpartition("-")[0], size + status.st_size, status.st_mtime))
    return sorted(found, key=lambda entry: (entry.used, entry.note.name))


def keys(root: Path) -> list[Path]:
    """List the folders of the keys of a store; none where there is no store."""
    return sorted(path.parent for path in root.glob("*/key.json"))


def shrink(root: Path, limit: float) -> int:
    """Remove the least recently used shards until at most `limit` bytes are left; returns the bytes that are.

    What a living process reads stays, also where that alone is more than the limit.
    """
    found = sorted((entry for folder in keys(root) for entry in entries(folder)), key=lambda entry: entry.used)
    total = left = sum(entry.bytes for entry in found)
    if left <= limit:
        return left
    in_use = {folder: _in_use(folder) for folder in {entry.note.parent for entry in found}}
    unwanted = []
    for entry in found:
        if left <= limit:
            break
        if entry.note.stem not in in_use[entry.note.parent]:
            unwanted.append(entry)
            left -= entry.bytes
    return total - remove(unwanted)


def remove(unwanted: Collection[Entry]) -> int:
    """Remove those shards that no living process reads; returns the bytes that are free now."""
    freed = 0
    for folder in {entry.note.parent for entry in unwanted}:
        # A store that cannot be written stays as it is.
        with contextlib.suppress(OSError), claimed(folder) as names:
            for entry in unwanted:
                if entry.note.parent == folder and entry.note.stem not in names and shards.remove(entry.note):
                    freed += entry.bytes
    return freed


def holdings(root: Path) -> list[Holding]:
    """Describe the keys of a store that hold anything."""
    found = []
    for folder in keys(root):
        stored = entries(folder)
        if stored:
            images: set[str] = set()
            for entry in stored:
                with contextlib.suppress(ValueError):
                    images.update(shards.Shard(entry.note).digests)
            levels = sorted({entry.level for entry in stored})
            settings = read_json(folder / "key.json") or {}
            found.append(Holding(folder.name, settings, levels, len(images), stored))
    return found


def unused_for(entry: Entry, days: float) -> bool:
    """Tell whether a shard was not used for so many days."""
    return time.time() - entry.used > days * 86400


def _in_use(folder: Path) -> set[str]:
    with contextlib.suppress(OSError), claimed(folder) as names:
        return names
    return {entry.note.stem for entry in entries(folder)}

"""What all keys of a store hold on disk, and the removal of what was not used for longest."""

import contextlib
import json
import time
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import filelock

from defectloc.features import shards

GIGABYTE = 10**9


@dataclass(frozen=True)
class Entry:
    """A shard on disk; `used` is the time of its last use, in seconds since 1970."""

    note: Path
    level: str
    bytes: int
    used: float


def entries(folder: Path) -> list[Entry]:
    """List the shards of one key, the longest unused first."""
    found = []
    for note in folder.glob("*-*.json"):
        # Another process may remove it between one look and the next.
        with contextlib.suppress(OSError):
            status, size = note.stat(), note.with_suffix(".npy").stat().st_size
            found.append(Entry(note, note.stem.rpartition("-")[0], size + status.st_size, status.st_mtime))
    return sorted(found, key=lambda entry: (entry.used, entry.note.name))


def keys(root: Path) -> list[Path]:
    """List the folders of the keys of a store; none where there is no store."""
    return sorted(path.parent for path in root.glob("*/key.json"))


def shrink(root: Path, limit: float, keep: Collection[Path] = ()) -> int:
    """Remove the least recently used shards until at most `limit` bytes are left; returns the bytes that are.

    `keep` names the notes that stay. A key whose lock another process holds is being computed, and is left alone.
    """
    found = sorted((e for folder in keys(root) for e in entries(folder)), key=lambda entry: entry.used)
    left = sum(entry.bytes for entry in found)
    for entry in found:
        if left <= limit:
            break
        if entry.note not in keep:
            left -= remove([entry])
    return left


def remove(unwanted: Collection[Entry]) -> int:
    """Remove shards, each under its key's lock; returns the bytes that are free now."""
    freed = 0
    for entry in unwanted:
        with _unless_busy(entry.note.parent) as idle:
            if idle and shards.remove(entry.note):
                freed += entry.bytes
    return freed


def holdings(root: Path) -> list[dict[str, Any]]:
    """Describe each key: what it was computed with, levels, images, bytes and last use (seconds since 1970)."""
    rows = []
    for folder in keys(root):
        stored = entries(folder)
        if not stored:
            continue
        images: set[str] = set()
        for entry in stored:
            with contextlib.suppress(OSError, ValueError, KeyError):
                images.update(json.loads(entry.note.read_text(encoding="utf-8"))["digests"])
        with contextlib.suppress(OSError, ValueError):
            rows.append(
                {
                    "key": folder.name,
                    "settings": json.loads((folder / "key.json").read_text(encoding="utf-8")),
                    "levels": sorted({entry.level for entry in stored}),
                    "images": len(images),
                    "bytes": sum(entry.bytes for entry in stored),
                    "used": max(entry.used for entry in stored),
                    "entries": stored,
                }
            )
    return rows


def unused_for(entry: Entry, days: float) -> bool:
    """Tell whether a shard was not used for so many days."""
    return time.time() - entry.used > days * 86400


@contextlib.contextmanager
def _unless_busy(folder: Path) -> Iterator[bool]:
    holder = filelock.FileLock(folder / ".lock")
    try:
        holder.acquire(timeout=0)
    except (filelock.Timeout, OSError):
        yield False
        return
    try:
        yield True
    finally:
        holder.release()

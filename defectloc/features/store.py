"""The trunk's outputs, computed once per image and memory-mapped; this package knows no network.

A store is a folder named by what its numbers depend on. It holds shards of at most 64 images: `<level>-<hash>.npy`
with the numbers and `<level>-<hash>.json` with the images' digests and the checksum. The JSON is written last, so a
shard without one is the rest of a process that was killed, and is removed. The JSON's time stamp is the last use.

The JSON files are the index: only the shards of the images that are asked for are opened.
"""

import contextlib
import hashlib
import json
import os
import sys
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from defectloc.features import shards
from defectloc.features.claims import Claim
from defectloc.features.eviction import GIGABYTE, entries, remove, shrink
from defectloc.features.reading import Derive, Features, Place, rounded
from defectloc.features.shards import Shard
from defectloc.files import lock, read_json, write_text
from defectloc.progress import images_bar

SHARD_IMAGES = 64

Trunk = Callable[[list[Any], Sequence[str]], dict[str, np.ndarray]]


class FeatureStore:
    """Feature maps by (image digest, level), below `root`, for one `key`.

    `key` holds all that the numbers depend on besides the image: size, preprocessing, backbone, cut, weights, view,
    precision, and under `dtype` how they are stored ('float16' or 'float32').

    `derive` names, for a level, another one and a function that makes `(N, C, h, w)` of its `(N, C, H, W)`: where the
    other is stored, the level is made of it when it is read, and not stored. The function must commute with rounding,
    as a max-pool does, so that the numbers do not depend on what was stored first.

    With a limit, the least recently used shards of all keys, this one included, are removed when a new one would pass
    it. What was asked of a store stays on disk for as long as the store or the features read from it are in use, in
    whichever process.
    """

    def __init__(
        self,
        root: Path,
        key: dict[str, Any],
        limit_gb: float | None = None,
        derive: Mapping[str, tuple[str, Derive]] | None = None,
    ) -> None:
        text = json.dumps(key, sort_keys=True)
        self.root = Path(root).absolute()
        self.folder = self.root / hashlib.sha256(text.encode()).hexdigest()[:16]
        self.key, self.dtype = key, np.dtype(key["dtype"])
        self.limit_gb, self.derive = limit_gb, dict(derive or {})
        self._claim = Claim(self.folder)
        self._shards: dict[str, Shard] = {}
        self._unsound: set[str] = set()

    def ensure(
        self,
        catalog: pd.DataFrame,
        levels: Sequence[str],
        trunk: Trunk,
        view: Callable[[str], Any],
        batch_size: int = 8,
        workers: int = 2,
        unit: str = "images",
    ) -> int:
        """Compute what is missing of `levels` for the images of `catalog`; returns how many images went through.

        `view(path)` decodes one image of the catalog into an input of the trunk, ahead of time and in threads;
        `trunk(inputs, levels)` gives `(N, C, H, W)` per level; `unit` names the images in what people read. Of
        processes that come together one computes, the others wait. A shard whose bytes have changed is computed again.

        Raises DefectlocError where the store cannot be written, or the process may open no more files.
        """
        images = catalog.drop_duplicates("digest")
        digests = list(images["digest"])
        n_computed = 0
        if self._missing(digests, levels):
            with lock(self.folder / ".lock", "computing features of these images"):
                shards.remove_orphans(self.folder)
                # Another process may have made good what was damaged.
                self._unsound.clear()
                todo = images[images["digest"].isin(self._missing(digests, levels))]
                self._remove_unsound()
                self._compute(todo, levels, trunk, view, batch_size, workers, unit)
                self._remove_derivable(digests, levels)
                n_computed = len(todo)
        for shard in {place.shard for level in levels for place in self._places(digests, level).values()}:
            shard.touch()
        self._evict(say=True)
        return n_computed

    def read(self, digests: Sequence[str], level: str) -> Features:
        """Give the feature maps of one level in the order of `digests`; raises KeyError for one not computed."""
        found = self._places(digests, level)
        places = [found[digest] for digest in digests]
        for shard in {place.shard for place in places}:
            shard.touch()
        return Features(places, self.dtype, self._claim)

    def _compute(
        self,
        todo: pd.DataFrame,
        levels: Sequence[str],
        trunk: Trunk,
        view: Callable[[str], Any],
        batch_size: int,
        workers: int,
        unit: str,
    ) -> None:
        computed = [level for level in levels if level not in self.derive or self.derive[level][0] not in levels]
        with images_bar("features", len(todo), unit) as advance, _ahead(view, list(todo["path"]), workers) as inputs:
            for start in range(0, len(todo), SHARD_IMAGES):
                digests = list(todo["digest"][start : start + SHARD_IMAGES])
                parts: dict[str, list[np.ndarray]] = {level: [] for level in computed}
                for at in range(0, len(digests), batch_size):
                    batch = [next(inputs) for _ in digests[at : at + batch_size]]
                    for level, values in trunk(batch, computed).items():
                        parts[level].append(rounded(values, self.dtype))
                    advance(len(batch))
                if read_json(self.folder / "key.json") is None:
                    write_text(self.folder / "key.json", json.dumps(self.key, indent=2, sort_keys=True))
                # Before they are there, lest another process evicts them at once.
                self._claim.add([shards.name_of(level, digests) for level in computed])
                for level in computed:
                    shards.write(self.folder, level, digests, np.concatenate(parts[level]))
                self._evict()

    def _missing(self, digests: Collection[str], levels: Sequence[str]) -> set[str]:
        return {digest for level in levels for digest in set(digests) - self._places(digests, level).keys()}

    def _places(self, digests: Collection[str], level: str) -> dict[str, Place]:
        """Find the images of which a level is stored; their shards are sound, and are not evicted from now on."""
        self._read_notes()
        while True:
            rows = self._rows(level)
            places = {digest: rows[digest] for digest in digests if digest in rows}
            needed = list({place.shard for place in places.values()})
            # Claimed first and checked then, so that what is there now is there later.
            self._claim.add([shard.name for shard in needed])
            with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
                sound = list(pool.map(Shard.is_sound, needed))
            if all(sound):
                return places
            self._unsound.update(shard.name for shard, good in zip(needed, sound, strict=True) if not good)

    def _rows(self, level: str) -> dict[str, Place]:
        """Tell for each image that is stored where a level is, or what it is to be derived from."""
        rows: dict[str, Place] = {}
        for name, shard in sorted(self._shards.items()):
            if name.rpartition("-")[0] == level and name not in self._unsound:
                rows.update({digest: Place(shard, row) for row, digest in enumerate(shard.digests)})
        if level in self.derive:
            source, step = self.derive[level]
            rows.update({digest: replace(p, steps=(*p.steps, step)) for digest, p in self._rows(source).items()})
        return rows

    def _read_notes(self) -> None:
        """Bring the index up to date with what other processes have written and removed since."""
        notes = {note.stem: note for note in self.folder.glob("*-*.json") if not note.name.startswith(".")}
        self._shards = {name: shard for name, shard in self._shards.items() if name in notes}
        for name in notes.keys() - self._shards.keys():
            try:
                self._shards[name] = Shard(notes[name])
            except ValueError:
                self._unsound.add(name)

    def _remove_unsound(self) -> None:
        """Remove what is damaged; its images may be stored anew under other names."""
        for name in self._unsound:
            shards.remove(self.folder / f"{name}.json")
        self._unsound.clear()

    def _remove_derivable(self, digests: Collection[str], levels: Sequence[str]) -> None:
        """Remove levels that were stored before the ones which they can be derived from."""
        stored = entries(self.folder)
        for level, (source, _) in self.derive.items():
            if source in levels:
                known = self._places(digests, source).keys()
                names = {name for name, shard in self._shards.items() if known >= set(shard.digests)}
                remove([entry for entry in stored if entry.level == level and entry.note.stem in names])

    def _evict(self, say: bool = False) -> None:
        if self.limit_gb is None:
            return
        left = shrink(self.root, self.limit_gb * GIGABYTE)
        if say and left > self.limit_gb * GIGABYTE:
            print(
                f"note: {left / GIGABYTE:.2f} GB of stored features are in use, more than "
                f"features.limit_gb={self.limit_gb:g}; they are removed when they are no longer used",
                file=sys.stderr,
            )


@contextlib.contextmanager
def _ahead(view: Callable[[str], Any], paths: list[str], workers: int) -> Iterator[Iterator[Any]]:
    """Decode images in threads while the network computes, only so far ahead that memory stays small."""
    with ThreadPoolExecutor(max(1, workers)) as pool:

        def decoded() -> Iterator[Any]:
            waiting: list[Future] = []
            for path in paths:
                waiting.append(pool.submit(view, path))
                if len(waiting) > SHARD_IMAGES:
                    yield waiting.pop(0).result()
            while waiting:
                yield waiting.pop(0).result()

        try:
            yield decoded()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

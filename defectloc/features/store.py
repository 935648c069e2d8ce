"""The trunk's outputs, computed once per image and memory-mapped; this room knows no network.

A store is a folder named by what its numbers depend on. It holds shards of at most 64 images: `<level>-<hash>.npy`
with the numbers and `<level>-<hash>.json` with the images' digests and the checksum. The JSON is written last, so a
shard without one is the rest of a process that was killed, and is removed. The JSON's time stamp is the last use.
"""

import contextlib
import hashlib
import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from defectloc.features import shards
from defectloc.features.eviction import GIGABYTE, shrink
from defectloc.features.shards import Shard
from defectloc.files import lock, write_text
from defectloc.progress import images_bar

SHARD_IMAGES = 64

Trunk = Callable[[list[Any], Sequence[str]], dict[str, np.ndarray]]
Derive = Callable[[np.ndarray], np.ndarray]


class FeatureStore:
    """Feature maps by (image digest, level), below `root`, for one `key`.

    `key` holds all that the numbers depend on besides the image: size, preprocessing, backbone, cut, weights, view,
    precision, and under `dtype` how they are stored ('float16' or 'float32').

    `derive` names, for a level, another one and a function that makes `(N, C, h, w)` of its `(N, C, H, W)`: where the
    other is stored, the level is made of it when it is read, and not stored. The function must commute with rounding,
    as a max-pool does, so that the numbers do not depend on what was stored first.

    With a limit, the least recently used shards of all keys go when a new one would pass it; what this process reads
    stays, and what another one reads stays readable to it.
    """

    def __init__(
        self,
        root: Path,
        key: dict[str, Any],
        limit_gb: float | None = None,
        derive: Mapping[str, tuple[str, Derive]] | None = None,
    ) -> None:
        text = json.dumps(key, sort_keys=True)
        self.root = Path(root)
        self.folder = self.root / hashlib.sha256(text.encode()).hexdigest()[:16]
        self.key, self.dtype = key, np.dtype(key["dtype"])
        self.limit_gb, self.derive = limit_gb, dict(derive or {})
        self._shards: dict[str, Shard] = {}

    def ensure(
        self,
        catalog: pd.DataFrame,
        levels: Sequence[str],
        trunk: Trunk,
        view: Callable[[str], Any],
        batch_size: int = 8,
        workers: int = 2,
    ) -> int:
        """Compute what is missing of `levels` for the images of `catalog`; returns how many images went through.

        `view(path)` decodes one image of the catalog into an input of the trunk, ahead of time and in threads;
        `trunk(inputs, levels)` gives `(N, C, H, W)` per level. Of processes that come together one computes, the
        others wait. A shard whose bytes have changed is computed again.
        """
        images = catalog.drop_duplicates("digest")
        # Bytes that were sound a while ago are checked again.
        self._shards.clear()
        n_computed = 0
        if self._missing(images["digest"], levels):
            with lock(self.folder / ".lock", "computing features of these images"):
                shards.remove_orphans(self.folder)
                missing = self._missing(images["digest"], levels)
                self._remove_unsound(levels)
                todo = images[images["digest"].isin(missing)]
                self._compute(todo, levels, trunk, view, batch_size, workers)
                self._remove_derivable()
                n_computed = len(todo)
        for level in levels:
            index = self._index(level)
            for shard in {index[digest][0] for digest in images["digest"]}:
                shard.touch()
        self._evict(say=True)
        return n_computed

    def read(self, digests: Sequence[str], level: str) -> "Features":
        """Give the feature maps of one level in the order of `digests`; raises KeyError for one not computed."""
        rows = self._index(level)
        places = [rows[digest] for digest in digests]
        for shard in {place[0] for place in places}:
            shard.touch()
        return Features(places, self._derived(level))

    def _compute(
        self,
        todo: pd.DataFrame,
        levels: Sequence[str],
        trunk: Trunk,
        view: Callable[[str], Any],
        batch_size: int,
        workers: int,
    ) -> None:
        computed = [level for level in levels if level not in self.derive or self.derive[level][0] not in levels]
        with images_bar("features", len(todo)) as advance, _ahead(view, list(todo["path"]), workers) as inputs:
            for start in range(0, len(todo), SHARD_IMAGES):
                digests = list(todo["digest"][start : start + SHARD_IMAGES])
                parts: dict[str, list[np.ndarray]] = {level: [] for level in computed}
                for at in range(0, len(digests), batch_size):
                    batch = [next(inputs) for _ in digests[at : at + batch_size]]
                    for level, values in trunk(batch, computed).items():
                        parts[level].append(self._stored(values))
                    advance(len(batch))
                if not (self.folder / "key.json").exists():
                    write_text(self.folder / "key.json", json.dumps(self.key, indent=2, sort_keys=True))
                for level in computed:
                    shards.write(self.folder, level, digests, np.concatenate(parts[level]))
                    # Opened at once: what is open is not evicted.
                    self._open(level)
                self._evict()

    def _stored(self, values: np.ndarray) -> np.ndarray:
        # A float16 ends at 65504; beyond it a feature would turn into infinity.
        limit = np.finfo(self.dtype).max
        return np.clip(values, -limit, limit).astype(self.dtype)

    def _missing(self, digests: pd.Series, levels: Sequence[str]) -> set[str]:
        return {digest for level in levels for digest in set(digests) - self._index(level).keys()}

    def _index(self, level: str) -> dict[str, tuple[Shard, int, bool]]:
        """Tell for each digest the shard, the row, and whether the level is to be derived from what is there."""
        rows: dict[str, tuple[Shard, int, bool]] = {}
        source = self.derive[level][0] if level in self.derive else None
        for name, derived in ((source, True), (level, False)):
            for shard in self._open(name) if name else []:
                rows.update({digest: (shard, row, derived) for row, digest in enumerate(shard.digests)})
        return rows

    def _open(self, level: str) -> list[Shard]:
        """Open the sound shards of a level, those anew that other processes have written since."""
        for note in sorted(self.folder.glob(f"{level}-*.json")):
            if note.stem not in self._shards:
                with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
                    self._shards[note.stem] = Shard(note)
        return [shard for name, shard in sorted(self._shards.items()) if name.rpartition("-")[0] == level]

    def _derived(self, level: str) -> Derive | None:
        if level not in self.derive:
            return None
        function = self.derive[level][1]
        return lambda values: self._stored(function(values.astype(np.float32)))

    def _remove_unsound(self, levels: Sequence[str]) -> None:
        """Remove what could not be opened; its images may be stored anew under other names."""
        for level in levels:
            for note in self.folder.glob(f"{level}-*.json"):
                if note.stem not in self._shards:
                    shards.remove(note)

    def _remove_derivable(self) -> None:
        """Remove levels that were stored before the ones which they can be derived from."""
        for level, (source, _) in self.derive.items():
            known = {digest for shard in self._open(source) for digest in shard.digests}
            for shard in self._open(level) if known else []:
                if known.issuperset(shard.digests) and shards.remove(shard.note):
                    del self._shards[shard.note.stem]

    def _evict(self, say: bool = False) -> None:
        if self.limit_gb is None:
            return
        left = shrink(self.root, self.limit_gb * GIGABYTE, {shard.note for shard in Shard.in_use})
        if say and left > self.limit_gb * GIGABYTE:
            print(
                f"note: {left / GIGABYTE:.2f} GB of stored features are in use, more than "
                f"features.limit_gb={self.limit_gb:g}; they go when they are no longer used",
                file=sys.stderr,
            )


class Features(Sequence[np.ndarray]):
    """Feature maps `(C, H, W)` that stay on disk until one is asked for."""

    def __init__(self, places: list[tuple[Shard, int, bool]], derive: Derive | None = None) -> None:
        self._places, self._derive = places, derive

    def __len__(self) -> int:
        """Count the images."""
        return len(self._places)

    def __getitem__(self, index: Any) -> Any:
        """Give the maps of one image as they are stored, or as they would be."""
        shard, row, derived = self._places[index]
        values = shard.row(row)
        return self._derive(values[None])[0] if derived and self._derive else values


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

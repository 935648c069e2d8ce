"""The trunk's outputs, computed once per image and memory-mapped; this room knows no network.

A store is a folder named by what its numbers depend on. It holds shards of at most 64 images: `<level>-<hash>.npy`
with the numbers and `<level>-<hash>.json` with the images' digests and the checksum. The JSON is written last, so a
shard without one is the rest of a process that was killed, and is removed.
"""

import contextlib
import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from defectloc.files import atomic, lock, write_text
from defectloc.progress import images_bar

SHARD_IMAGES = 64

Trunk = Callable[[list[Any], Sequence[str]], dict[str, np.ndarray]]


class FeatureStore:
    """Feature maps by (image digest, level), below `root`, for one `key`.

    `key` holds all that the numbers depend on besides the image: size, preprocessing, backbone, cut, weights, view,
    precision, and under `dtype` how they are stored ('float16' or 'float32').
    """

    def __init__(self, root: Path, key: dict[str, Any]) -> None:
        text = json.dumps(key, sort_keys=True)
        self.folder = Path(root) / hashlib.sha256(text.encode()).hexdigest()[:16]
        self.key, self.dtype = key, np.dtype(key["dtype"])
        self._rows: dict[str, dict[str, tuple[Path, int]]] = {}

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
        if not self._missing(images["digest"], levels):
            return 0
        with lock(self.folder / ".lock", "computing features of these images"):
            self._remove_orphans()
            missing = self._missing(images["digest"], levels)
            todo = images[images["digest"].isin(missing)]
            with images_bar("features", len(todo)) as advance, _ahead(view, list(todo["path"]), workers) as inputs:
                for start in range(0, len(todo), SHARD_IMAGES):
                    digests = list(todo["digest"][start : start + SHARD_IMAGES])
                    parts: dict[str, list[np.ndarray]] = {level: [] for level in levels}
                    for at in range(0, len(digests), batch_size):
                        batch = [next(inputs) for _ in digests[at : at + batch_size]]
                        for level, values in trunk(batch, levels).items():
                            parts[level].append(self._stored(values))
                        advance(len(batch))
                    if not (self.folder / "key.json").exists():
                        write_text(self.folder / "key.json", json.dumps(self.key, indent=2, sort_keys=True))
                    for level in levels:
                        self._write(level, digests, np.concatenate(parts[level]))
        self._rows.clear()
        return len(todo)

    def read(self, digests: Sequence[str], level: str) -> "Features":
        """Give the feature maps of one level in the order of `digests`; raises KeyError for one not computed."""
        rows = self._index(level)
        return Features([rows[digest] for digest in digests])

    def _stored(self, values: np.ndarray) -> np.ndarray:
        # A float16 ends at 65504; beyond it a feature would turn into infinity.
        limit = np.finfo(self.dtype).max
        return np.clip(values, -limit, limit).astype(self.dtype)

    def _missing(self, digests: pd.Series, levels: Sequence[str]) -> set[str]:
        self._rows.clear()
        return {digest for level in levels for digest in set(digests) - self._index(level).keys()}

    def _index(self, level: str) -> dict[str, tuple[Path, int]]:
        if level not in self._rows:
            rows: dict[str, tuple[Path, int]] = {}
            for note in sorted(self.folder.glob(f"{level}-*.json")):
                shard = note.with_suffix(".npy")
                digests = _sound(note, shard)
                rows.update({digest: (shard, row) for row, digest in enumerate(digests)})
            self._rows[level] = rows
        return self._rows[level]

    def _write(self, level: str, digests: list[str], values: np.ndarray) -> None:
        name = hashlib.sha256("".join(digests).encode()).hexdigest()[:16]
        path = self.folder / f"{level}-{name}.npy"
        # Plain writing: a full disk is then an error, whereas writing to a memory map would kill the process.
        with atomic(path) as temporary:
            with temporary.open("wb") as file:
                # As np.save, whose error does not tell that the disk is full.
                np.lib.format.write_array_header_1_0(file, np.lib.format.header_data_from_array_1_0(values))
                file.write(np.ascontiguousarray(values).data)
            note = {"digests": digests, "sha256": _sha256(temporary)}
        write_text(path.with_suffix(".json"), json.dumps(note))

    def _remove_orphans(self) -> None:
        for path in [*self.folder.glob("*.npy"), *self.folder.glob(".*.npy"), *self.folder.glob(".*.json")]:
            if path.name.startswith(".") or not path.with_suffix(".json").exists():
                path.unlink(missing_ok=True)


class Features(Sequence[np.ndarray]):
    """Feature maps `(C, H, W)` that stay on disk until one is asked for."""

    def __init__(self, places: list[tuple[Path, int]]) -> None:
        self._places = places
        self._maps: dict[Path, np.ndarray] = {}

    def __len__(self) -> int:
        """Count the images."""
        return len(self._places)

    def __getitem__(self, index: Any) -> Any:
        """Give the maps of one image as they are stored."""
        path, row = self._places[index]
        if path not in self._maps:
            self._maps[path] = np.load(path, mmap_mode="r", allow_pickle=False)
        return self._maps[path][row]


def _sound(note: Path, shard: Path) -> list[str]:
    """Give the digests of a shard whose bytes are as they were written, else none."""
    try:
        written = json.loads(note.read_text(encoding="utf-8"))
        if _sha256(shard) == written["sha256"]:
            return written["digests"]
    except (OSError, ValueError, KeyError):
        pass
    return []


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


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

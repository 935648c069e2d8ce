"""One method at work on one model; each image's map is stored, so that a break loses one image only."""

import hashlib
import json
import time
import zipfile
import zlib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from defectloc.attribution.methods import METHODS, attribute
from defectloc.attribution.network import ExplainedModel
from defectloc.config import AttributionConfig
from defectloc.data.resize import resize
from defectloc.files import atomic
from defectloc.localization.maps import Grid

# Raised when a method's code changes its result.
VERSION = 1
_OWN = ("map", "grid", "seconds", "evaluations")


@dataclass(frozen=True)
class Explanation:
    """One image's map `(h, w)` for one class, where its cells lie in the network's input, and its cost."""

    map: np.ndarray
    grid: Grid
    # of the network at work, and images that went through it
    seconds: float
    evaluations: float
    parts: dict[str, np.ndarray]


@dataclass(frozen=True)
class Explainer:
    """A method with its settings on one model; the maps are stored below `folder`."""

    method: str
    model: ExplainedModel
    config: AttributionConfig
    seed: int
    layer: str | None
    folder: Path

    @property
    def key(self) -> str:
        """Name all that a map depends on, but the image and the class."""
        method = METHODS[self.method]
        content: list[Any] = [
            VERSION,
            self.method,
            {name: value for name, value in asdict(self.config).items() if name in method.uses},
            self.seed,
            None if method.layer == "never" else self.layer,
            self.model.key,
            self.model.image_size,
        ]
        if self.method in self.model.extra_maps:
            content.append(self.model.extra_maps[self.method].key)
        return f"{self.method}-{hashlib.sha256(json.dumps(content).encode()).hexdigest()[:8]}"

    def seed_of(self, digest: str) -> int:
        """Give each image a seed of its own, whatever else is explained."""
        return int(hashlib.sha256(f"{self.seed} {digest}".encode()).hexdigest()[:8], 16)

    def explain(self, image: np.ndarray, target: int) -> Explanation:
        """Explain an image `(H, W, 3)` for the class of index `target`, or read the stored map."""
        digest = hashlib.sha256(repr(image.shape).encode() + image.tobytes()).hexdigest()
        path = self.folder / self.key / f"{digest[:16]}-{target}.npz"
        if path.is_file():
            stored = _read(path)
            if stored is not None:
                return stored
        values = resize(image, self.model.image_size)[None]
        started = time.perf_counter()
        found = attribute(self.method, self.model, values, [target], self.config, [self.seed_of(digest)], self.layer)
        seconds = time.perf_counter() - started
        made = Explanation(found.maps[0], found.grid, seconds, found.evaluations, found.parts[0])
        _write(path, made)
        return made


def _write(path: Path, made: Explanation) -> None:
    arrays: dict[str, Any] = {f"part.{name}": value for name, value in made.parts.items()}
    arrays |= {"map": made.map, "grid": np.array([made.grid.stride, made.grid.offset])}
    arrays |= {"seconds": np.array(made.seconds), "evaluations": np.array(made.evaluations)}
    with atomic(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, **arrays)


def _read(path: Path) -> Explanation | None:
    """Read a stored map; None where the file is damaged."""
    try:
        with np.load(path, allow_pickle=False) as content:
            stride, offset = content["grid"].tolist()
            parts = {name.removeprefix("part."): content[name] for name in content.files if name not in _OWN}
            seconds, evaluations = float(content["seconds"]), float(content["evaluations"])
            return Explanation(content["map"], Grid(stride, offset), seconds, evaluations, parts)
    except (OSError, EOFError, ValueError, KeyError, NotImplementedError, zipfile.BadZipFile, zlib.error):
        return None

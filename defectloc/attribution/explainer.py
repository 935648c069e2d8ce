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
import torch
from numpy.typing import NDArray

from defectloc.attribution.methods import METHODS, Attribution, attribute
from defectloc.attribution.network import ExplainedModel, ExtraMap, undisturbed
from defectloc.config import AttributionConfig
from defectloc.data.resize import resize
from defectloc.data.tiles import Size
from defectloc.files import atomic
from defectloc.localization.maps import Grid, block_maxima, upsample

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
    # height and width of the photograph in the network's input
    input_size: Size

    def at(self, size: Size) -> NDArray[np.float32]:
        """Give the map `(H, W)` at the photograph's `size`, or another."""
        return upsample(self.map, size, self.input_size, self.grid)

    def reduced(self, size: tuple[int, int]) -> NDArray[np.float32]:
        """Give the map at the network's `size`; one in tiles, which may have more cells, keeps its maxima."""
        cells, grid = block_maxima(self.map, size, self.grid)
        return upsample(cells, size, self.input_size, grid)


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
        size = self.model.input_size(self.method, (image.shape[0], image.shape[1]))
        if path.is_file():
            stored = _read(path, size)
            if stored is not None:
                return stored
        own = self.model.extra_maps.get(self.method)
        started = time.perf_counter()
        found = self._of_network(image, target, self.seed_of(digest)) if own is None else self._own(own, image)
        seconds = time.perf_counter() - started
        made = Explanation(found.maps[0], found.grid, seconds, found.evaluations, found.parts[0], size)
        _write(path, made)
        return made

    def _of_network(self, image: np.ndarray, target: int, seed: int) -> Attribution:
        values = resize(image, self.model.image_size)[None]
        return attribute(self.method, self.model, values, [target], self.config, [seed], self.layer)

    def _own(self, own: ExtraMap, image: np.ndarray) -> Attribution:
        network = self.model.network
        with undisturbed(network), torch.no_grad():
            values, grid = own.map(network, image)
        return Attribution(values[None], grid, own.evaluations((image.shape[0], image.shape[1])), [{}])


def _write(path: Path, made: Explanation) -> None:
    arrays: dict[str, Any] = {f"part.{name}": value for name, value in made.parts.items()}
    arrays |= {"map": made.map, "grid": np.array([made.grid.stride, made.grid.offset])}
    arrays |= {"seconds": np.array(made.seconds), "evaluations": np.array(made.evaluations)}
    with atomic(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, **arrays)


def _read(path: Path, input_size: Size) -> Explanation | None:
    """Read a stored map; None where the file is damaged."""
    try:
        with np.load(path, allow_pickle=False) as content:
            stride, offset = content["grid"].tolist()
            parts = {name.removeprefix("part."): content[name] for name in content.files if name not in _OWN}
            seconds, evaluations = float(content["seconds"]), float(content["evaluations"])
            return Explanation(content["map"], Grid(stride, offset), seconds, evaluations, parts, input_size)
    except (OSError, EOFError, ValueError, KeyError, NotImplementedError, zipfile.BadZipFile, zlib.error):
        return None

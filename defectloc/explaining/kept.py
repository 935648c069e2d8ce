"""Maps that were made before: each image's own file, so that nothing is made twice and a break loses one image."""

import hashlib
import json
import time
import zipfile
import zlib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from defectloc.config import AttributionConfig
from defectloc.files import atomic
from defectloc.localization.maps import Grid

if TYPE_CHECKING:
    from defectloc.attribution.subject import Subject

# Raised when a method's code changes what it gives.
VERSION = 1
_OWN = ("heat", "grid", "seconds", "evaluations")


@dataclass(frozen=True)
class Explanation:
    """One image's map `(h, w)` for one class, where its cells lie, and what it cost."""

    heat: np.ndarray
    grid: Grid
    # of the network at work, images that went through it
    seconds: float
    evaluations: float
    parts: dict[str, np.ndarray]


@dataclass(frozen=True)
class Maker:
    """A method with its settings, asking one subject."""

    method: str
    subject: "Subject"
    config: AttributionConfig
    seed: int
    layer: str | None
    folder: Path

    @property
    def key(self) -> str:
        """Name all that a map depends on, but the image and the class."""
        from defectloc.attribution.methods import METHODS

        known = METHODS[self.method]
        settings = {name: value for name, value in asdict(self.config).items() if name in known.uses}
        layer = None if known.layer == "never" else self.layer
        content: list[Any] = [
            VERSION,
            self.method,
            settings,
            self.seed,
            layer,
            self.subject.key,
            self.subject.image_size,
        ]
        if self.method in self.subject.run_maps:
            content.append(self.subject.run_maps[self.method].key)
        return f"{self.method}-{hashlib.sha256(json.dumps(content).encode()).hexdigest()[:8]}"

    def seed_of(self, digest: str) -> int:
        """Give each image a seed of its own, whatever else is explained."""
        return int(hashlib.sha256(f"{self.seed} {digest}".encode()).hexdigest()[:8], 16)

    def explain(self, image: np.ndarray, target: int) -> Explanation:
        """Explain an image `(H, W, 3)`, or read what was kept."""
        from defectloc.attribution.methods import attribute
        from defectloc.data.resize import resize

        digest = hashlib.sha256(repr(image.shape).encode() + image.tobytes()).hexdigest()
        path = self.folder / self.key / f"{digest[:16]}-{target}.npz"
        if path.is_file():
            before = _read(path)
            if before is not None:
                return before
        values = resize(image, self.subject.image_size)[None]
        started = time.perf_counter()
        seeds = [self.seed_of(digest)]
        found = attribute(self.method, self.subject, values, [target], self.config, seeds, self.layer)
        seconds = time.perf_counter() - started
        made = Explanation(found.maps[0], found.grid, seconds, found.evaluations, found.parts[0])
        _write(path, made)
        return made


def _write(path: Path, made: Explanation) -> None:
    arrays: dict[str, Any] = {f"part.{name}": value for name, value in made.parts.items()}
    arrays |= {"heat": made.heat, "grid": np.array([made.grid.stride, made.grid.offset])}
    arrays |= {"seconds": np.array(made.seconds), "evaluations": np.array(made.evaluations)}
    with atomic(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, **arrays)


def _read(path: Path) -> Explanation | None:
    """Read what was kept; a file that is damaged is made anew."""
    try:
        with np.load(path, allow_pickle=False) as content:
            stride, offset = content["grid"].tolist()
            parts = {name.removeprefix("part."): content[name] for name in content.files if name not in _OWN}
            seconds, evaluations = float(content["seconds"]), float(content["evaluations"])
            return Explanation(content["heat"], Grid(stride, offset), seconds, evaluations, parts)
    except (OSError, EOFError, ValueError, KeyError, NotImplementedError, zipfile.BadZipFile, zlib.error):
        return None

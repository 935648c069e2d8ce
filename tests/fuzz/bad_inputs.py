"""A thousand bad inputs: a plan of what to spoil in a folder of valid files, each case the same for the same seed.

for case in plan(folder, seed=0, n=1000):
    with spoiled(folder, case):
        ...  # run a command; `case` says in its text what was done
"""

import contextlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.random import Generator

from . import bad_bytes, bad_images, bad_tables

Corruption = Callable[[bytes, Generator], bytes]

_ANY: tuple[Corruption, ...] = (
    bad_bytes.empty,
    bad_bytes.truncated,
    bad_bytes.flipped,
    bad_bytes.zeros,
    bad_bytes.noise,
    bad_bytes.replaced,
    bad_bytes.with_a_tail,
)
_IMAGE: tuple[Corruption, ...] = (
    bad_images.one_pixel,
    bad_images.long,
    bad_images.other_size,
    bad_images.deep,
    bad_images.floating,
    bad_images.cmyk,
    bad_images.animated,
    bad_images.transparent,
    bad_images.palette,
    bad_images.one_bit,
    bad_images.black,
    bad_images.white,
    bad_images.huge_claim,
)
_JSON: tuple[Corruption, ...] = (bad_tables.odd_value, bad_tables.without_a_node, bad_tables.deep_nesting)
CORRUPTIONS: dict[str, tuple[Corruption, ...]] = {
    "image": (*_ANY, *_IMAGE),
    "mask": (*_ANY, *_IMAGE),
    "csv": (
        *_ANY,
        bad_tables.without_a_column,
        bad_tables.renamed_column,
        bad_tables.header_alone,
        bad_tables.odd_cell,
        bad_tables.repeated_row,
        bad_tables.ragged_row,
        bad_tables.open_quote,
        bad_tables.semicolons,
        bad_tables.utf_16,
    ),
    "json": (*_ANY, *_JSON),
    "coco": (*_ANY, *_JSON, bad_tables.odd_annotation),
    "npz": (
        *_ANY,
        bad_tables.without_an_array,
        bad_tables.renamed_array,
        bad_tables.other_shape,
        bad_tables.other_dtype,
        bad_tables.pickled_array,
        bad_tables.not_finite,
    ),
    "other": _ANY,
}
# After these no reader can make sense of a file of any kind: taking it for good input is an error.
UNREADABLE = frozenset({"empty", "zeros", "noise", "replaced"})
_IMAGES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff")
_MASK_FOLDERS = ("ground_truth", "masks")


@dataclass(frozen=True)
class Case:
    """One file, by its path below the folder, and what is done to it."""

    path: str
    kind: str
    corruption: str
    seed: tuple[int, ...]

    @property
    def unreadable(self) -> bool:
        """Tell whether no reader can make sense of the file."""
        return self.corruption in UNREADABLE

    def apply(self, content: bytes) -> bytes:
        """Give the bad content made of the good one; the same whenever it is called."""
        (corruption,) = (each for each in CORRUPTIONS[self.kind] if each.__name__ == self.corruption)
        return corruption(content, np.random.default_rng(self.seed))

    def __str__(self) -> str:
        """Say what was done, for the message of a failure."""
        return f"{self.path}: {self.corruption}, seed {self.seed}"


def kind_of(path: Path) -> str:
    """Tell by name and content what a file is: image, mask, csv, json, coco, npz or other."""
    suffix = path.suffix.lower()
    if suffix in _IMAGES:
        return "mask" if any(parent.name in _MASK_FOLDERS for parent in path.parents) else "image"
    if suffix == ".json":
        tree = json.loads(path.read_bytes())
        return "coco" if isinstance(tree, dict) and {"images", "annotations"} <= tree.keys() else "json"
    return suffix[1:] if suffix in (".csv", ".npz") else "other"


def plan(folder: Path, seed: int, n: int, pattern: str = "**/*") -> list[Case]:
    """Choose `n` cases for the files below `folder` that fit the glob pattern.

    Each corruption of each kind of file comes once before any comes twice, each time on a random file of the kind, so
    that a short plan covers what can happen and a long one the files.
    """
    files: dict[str, list[str]] = {}
    for path in sorted(path for path in folder.glob(pattern) if path.is_file() and path.stat().st_size):
        files.setdefault(kind_of(path), []).append(path.relative_to(folder).as_posix())
    pairs = [(kind, each.__name__) for kind in sorted(files) for each in CORRUPTIONS[kind]]
    if not pairs:
        raise ValueError(f"{folder} holds no file that could be spoiled")
    random, cases = np.random.default_rng(seed), []
    while len(cases) < n:
        for index in random.permutation(len(pairs)):
            kind, corruption = pairs[index]
            path = files[kind][int(random.integers(len(files[kind])))]
            cases.append(Case(path, kind, corruption, (seed, len(cases))))
    return cases[:n]


@contextlib.contextmanager
def spoiled(folder: Path, case: Case) -> Iterator[Path]:
    """Spoil a file for the time of the block, and give its path; afterwards it is as it was."""
    path = folder / case.path
    content = path.read_bytes()
    path.write_bytes(case.apply(content))
    try:
        yield path
    finally:
        path.write_bytes(content)

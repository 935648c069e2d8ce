"""A survey of a data set before training: what it holds, what is wrong with it, and whether its parts are aligned."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image

from defectloc.data.images import read_image
from defectloc.errors import DefectlocError
from defectloc.progress import images_bar

MEAN_SIDE = 128
# On real and synthetic sets: pills 0.98 and 0.76, solar cells 0.62, screws 0.03, tiles and concrete 0.00; the real
# pills fall below the cut when each is shifted by up to a tenth of the side.
ALIGNED_FROM = 0.3
# The real pills keep 0.57 of their alignment under quarter turns, 0.98 once each was turned at random; discs keep 0.97.
ROUND_FROM = 0.9
# Gradients are compared after a blur of this many of the 128 pixels, so that a shift of a percent does not matter.
_TOLERANCE = 2.0


@dataclass(frozen=True)
class Duplicate:
    """Images of the same bytes: `paths` relative to the root; `conflict` where their labels differ."""

    paths: list[str]
    conflict: bool


@dataclass(frozen=True)
class Survey:
    """What was found; see `survey`.

    `counts`: one row per defect type, good first, with `defect_type`, `label`, `images`, `with_mask`. `formats`: number
    of images by mode and size ("RGB 900x900"), most frequent first. `mean_images`: by label, `(128, 128, 3)` uint8.
    `alignment`: -1..1, None for fewer than two good images that show anything; `turned`: the same after quarter turns.
    """

    counts: pd.DataFrame
    formats: pd.Series
    duplicates: list[Duplicate]
    mean_images: dict[int, NDArray[np.uint8]]
    alignment: float | None
    turned: float | None

    @property
    def arrangement(self) -> str:
        """How parts lie: `aligned`, `centred` (same place, any rotation), `scattered` (or a texture), `unknown`."""
        if self.alignment is None or self.turned is None:
            return "unknown"
        if self.alignment < ALIGNED_FROM:
            return "scattered"
        return "centred" if self.turned >= ROUND_FROM * self.alignment else "aligned"

    @property
    def advice(self) -> str:
        """One or two sentences on augmentation, with the figures they rest on."""
        figures = "" if self.alignment is None else f" (alignment {self.alignment:.2f}, cut {ALIGNED_FROM})"
        return {
            "aligned": f"Parts are aligned{figures}: the mean image is sharp. Augment little (augmentation=none or "
            "light), because turned or flipped parts would not occur.",
            "centred": f"Parts lie in the same place but look alike at any rotation{figures}, or are round: "
            "augmentation=rotation is safe, shifts are not needed.",
            "scattered": f"Parts are rotated or shifted, or a texture fills the image{figures}: the mean image is "
            "blurred. augmentation=rotation or flips is safe.",
            "unknown": "Too few good images to tell whether parts are aligned.",
        }[self.arrangement]

    @property
    def warnings(self) -> list[str]:
        """One sentence for each thing to correct or to know before training."""
        found = []
        conflicts = [d for d in self.duplicates if d.conflict]
        if conflicts:
            found.append(
                f"Identical files with different labels: {len(conflicts)} times, such as "
                f"{' and '.join(conflicts[0].paths[:2])}; one of the labels is wrong."
            )
        copies = [d for d in self.duplicates if not d.conflict]
        if copies:
            surplus = sum(len(d.paths) - 1 for d in copies)
            found.append(
                f"Images stored more than once: {surplus}, such as {' and '.join(copies[0].paths[:2])}; "
                "copies belong to one group and share a fold, but count as several images: remove them."
            )
        if len(self.formats) > 1:
            common = self.formats.index[0]
            found.append(
                f"Combinations of mode and size: {len(self.formats)}; the most frequent is {common}, with "
                f"{self.formats.iloc[0]} of {self.formats.sum()} images."
            )
        return found


def survey(catalog: pd.DataFrame, root: Path) -> Survey:
    """Read every image of a catalog (`path`, `label`, `defect_type`, `mask_path`, `digest`) once and describe the set.

    Raises DefectlocError for an empty catalog or an image that cannot be read.
    """
    if catalog.empty:
        raise DefectlocError(f"there are no images in {root}.")
    paths = [root / path for path in catalog["path"]]
    sums = {label: np.zeros((MEAN_SIDE, MEAN_SIDE, 3)) for label in sorted(catalog["label"].unique())}
    formats: list[str] = []
    # Sums of gradient fields suffice for the mean over all pairs, so that no image need be kept.
    upright, turned = _PairMean(), _PairMean()
    with ThreadPoolExecutor(4) as pool, images_bar("reading images", len(paths)) as advance:
        for label, (name, small) in zip(catalog["label"], pool.map(_read, paths), strict=True):
            formats.append(name)
            sums[label] += small
            if label == 0:
                gradient = _gradient(small)
                upright.add(gradient)
                turned.add(_gradient(np.rot90(small, turned.offered % 4)))
            advance(1)
    images = catalog["label"].value_counts()
    return Survey(
        counts=_counts(catalog),
        formats=pd.Series(formats, name="images").value_counts(),
        duplicates=_duplicates(catalog),
        mean_images={int(label): np.round(total / images[label]).astype(np.uint8) for label, total in sums.items()},
        alignment=upright.value(),
        turned=turned.value(),
    )


class _PairMean:
    """The mean cosine between the gradient fields of all pairs of images.

    Of unit vectors v_i, |sum v_i|^2 = n + sum over pairs of v_i . v_j: the sharpness of the mean image, freed from what
    n images would leave of it by chance. 1: all edges coincide; 0: as unrelated as two textures.
    """

    def __init__(self) -> None:
        self.total: NDArray[np.floating] | float = 0.0
        self.used = 0
        self.offered = 0

    def add(self, field: NDArray[np.floating]) -> None:
        self.offered += 1
        length = float(np.linalg.norm(field))
        # A blank image has no edges that could coincide.
        if length > 1e-6:
            self.total = self.total + field / length
            self.used += 1

    def value(self) -> float | None:
        if self.used < 2:
            return None
        return float((np.sum(np.square(self.total)) - self.used) / (self.used * (self.used - 1)))


def _gradient(small: NDArray[np.uint8]) -> NDArray[np.floating]:
    grey = cv2.GaussianBlur(small.mean(axis=2), (0, 0), _TOLERANCE)
    return np.stack(np.gradient(grey))


def _read(path: Path) -> tuple[str, NDArray[np.uint8]]:
    image = read_image(path)
    # The mode is gone after decoding, and opening reads only the head of the file.
    with Image.open(path) as file:
        name = f"{file.mode} {file.width}x{file.height}"
    small = cv2.resize(image, (MEAN_SIDE, MEAN_SIDE), interpolation=cv2.INTER_AREA)
    return name, small.astype(np.uint8)


def _counts(catalog: pd.DataFrame) -> pd.DataFrame:
    table = catalog.groupby(["label", "defect_type"], as_index=False).agg(
        images=("path", "size"), with_mask=("mask_path", "count")
    )
    return table[["defect_type", "label", "images", "with_mask"]]


def _duplicates(catalog: pd.DataFrame) -> list[Duplicate]:
    copies = catalog[catalog.duplicated("digest", keep=False)]
    groups = [group for _, group in copies.groupby("digest", sort=False)]
    return [Duplicate(group["path"].tolist(), group["label"].nunique() > 1) for group in groups]

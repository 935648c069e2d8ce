"""Boxes and outlines in a folder as YOLO reads it: `images/`, of each image a text file in `labels/`, `data.yaml`."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from defectloc.data.annotated_names import ImageName
from defectloc.data.images import find_images, image_size
from defectloc.data.labelme import Drawn
from defectloc.errors import DefectlocError

DATA, IMAGES, LABELS = "data.yaml", "images", "labels"


def is_one(folder: Path) -> bool:
    """Tell whether a folder is made for YOLO."""
    return (folder / DATA).is_file()


def name_of(path: str) -> str:
    """Name an image of a data set below `images/`, as `annotate` does.

    Readers find the labels by the last folder `images` of a path, and a listed image by the first `./`.
    """
    *parents, name = path.split("/")
    return "/".join([*(f"{part}_" if part == IMAGES or part.endswith(".") else part for part in parents), name])


def read(folder: Path) -> Iterator[Drawn]:
    """Read the labels of all images below `images/`, by their paths from there.

    Boxes may have a score as sixth number; more numbers are an outline. Raises DefectlocError where there are no
    images, for labels without an image, and for a line that is neither.
    """
    images = find_images(folder / IMAGES)
    if not images:
        raise DefectlocError(f"data.annotations={folder} has no images in {IMAGES}/, by which the sizes are known.")
    left = set((folder / LABELS).rglob("*.txt"))
    for image in images:
        labels = folder / LABELS / image.relative_to(folder / IMAGES).with_suffix(".txt")
        if labels not in left:
            continue
        left.remove(labels)
        height, width = image_size(image)
        shapes = [_shape(line, labels, np.array([width, height])) for line in _lines(labels)]
        name = ImageName(image.relative_to(folder / IMAGES).as_posix(), file=image)
        yield name, (height, width), shapes
    if left:
        raise DefectlocError(f"data.annotations={folder}: {min(left)} belongs to no image in {IMAGES}/.")


def _lines(path: Path) -> list[str]:
    try:
        return [line for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
    except (OSError, ValueError) as error:
        raise DefectlocError(f"data.annotations: {path} cannot be read as labels ({error}).") from error


def _shape(line: str, path: Path, size: NDArray[np.int_]) -> tuple[NDArray[np.float64], bool]:
    """Read one line: a class, then middle and sides of a box or the corners of an outline, in shares of the image."""
    try:
        numbers = np.array([float(word) for word in line.split()[1:]])
        if len(numbers) in (4, 5):
            middle, sides = numbers[:2], numbers[2:4]
            return np.stack([middle - sides / 2, middle + sides / 2]) * size, True
        if len(numbers) < 6:
            raise ValueError(f"{len(numbers)} numbers after the class")
        return numbers.reshape(-1, 2) * size, False
    except ValueError as error:
        raise DefectlocError(f"data.annotations: {path} has a line that is no box ({error}).") from error

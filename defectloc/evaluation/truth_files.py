"""The ground truth of maps made elsewhere: a folder of masks, or a COCO file of boxes."""

import json
import math
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from defectloc.data.images import find_images, image_size
from defectloc.data.masks import read_defect_mask, read_mask
from defectloc.data.sources import GOOD_NAMES
from defectloc.errors import DefectlocError
from defectloc.notes import say_once

MASK_SUFFIX = "_mask"
# Folders that name what lies in them, and no kind of defect.
NEUTRAL = (
    "annotations",
    "anomaly_maps",
    "gt",
    "ground_truth",
    "heat_maps",
    "images",
    "labels",
    "maps",
    "masks",
    "test",
)


@dataclass(frozen=True)
class Truth:
    """What is known of one image: a mask, or boxes `(N, 4)`, and its (height, width); without either it is good."""

    mask: Path | None = None
    boxes: NDArray[np.float64] | None = None
    size: tuple[int, int] | None = None

    def read(self, size: tuple[int, int]) -> NDArray[np.bool_] | None:
        """Read the mask `(H, W)`, all zeros for a good image; None where only boxes are known.

        A file named `<stem>_mask`, which MVTec has for defects only, must show one, unless it lies in a folder of good
        parts; other masks may be empty, which is said once. Raises DefectlocError for that and for damaged files.
        """
        if self.boxes is not None:
            return None
        if self.mask is None:
            return np.zeros(size, bool)
        if self.mask.stem.endswith(MASK_SUFFIX) and not _is_good(self.mask):
            return read_defect_mask(self.mask, size)
        mask = read_mask(self.mask, size)
        if not mask.any() and not _is_good(self.mask):
            say_once("empty mask", f"{self.mask} shows no defect; images of such masks count as good.")
        return mask


def find_truth(names: Collection[str], masks: Path) -> dict[str, Truth]:
    """Find the truth of each map by its path below the folder, or by its stem where stems are unique.

    A map below a folder named `good` (or as `GOOD_NAMES`) needs none, and takes none from a folder of defects. Nor is a
    map of one kind of defect, as its folder says, that of another kind; that a mask was taken from a folder of another
    name is said once. Raises DefectlocError for maps without a mask, masks without a map, and a file that is not of
    COCO.
    """
    known = _coco(masks) if masks.is_file() else _mask_files(masks)
    by_stem: dict[str, list[str]] = {}
    for name in known:
        by_stem.setdefault(Path(name).name, []).append(name)
    kinds = {_kind(Path(name)) for name in known}
    found, used = {}, set()
    stems = [Path(name).name for name in names]
    for name in names:
        stem, match = Path(name).name, None
        alike = by_stem.get(stem, [])
        if name in known:
            match = name
        elif len(alike) == 1 and stems.count(stem) == 1 and _may_belong(Path(alike[0]), Path(name), kinds):
            match = alike[0]
            _note_other_kind(match, name, masks)
        if match is not None:
            found[name] = known[match]
            used.add(match)
        elif _is_good(Path(name)):
            found[name] = Truth()
        else:
            other = f" in a folder of its kind, only {alike[0]}" if len(alike) == 1 and Path(name).name != name else ""
            raise DefectlocError(
                f"the map {name} has no mask in {masks}{other}; maps of good parts belong below a folder named 'good'."
            )
    left = sorted(set(known) - used)
    if left:
        raise DefectlocError(f"the mask or image {left[0]} of {masks} has no map; {len(left)} have none.")
    return found


def _may_belong(mask: Path, part: Path, kinds: Collection[str | None]) -> bool:
    """Tell whether a mask may be that of a map elsewhere, where the masks are of such kinds of defects.

    Of a good part it is never one below a folder of defects; of a kind that has masks never one of another kind.
    """
    if _is_good(part):
        return _is_good(mask) or mask.parent == Path()
    kind = _kind(part)
    return kind is None or _kind(mask) in (None, kind) or kind not in kinds


def _kind(name: Path) -> str | None:
    """Give the innermost folder of a name that may be a kind of defect."""
    return next((part for part in reversed(name.parts[:-1]) if part.lower().replace("-", "_") not in NEUTRAL), None)


def _note_other_kind(mask: str, name: str, masks: Path) -> None:
    one, other = _kind(Path(name)), _kind(Path(mask))
    if None not in (one, other) and one != other and not _is_good(Path(name)):
        say_once(
            f"masks of another folder {masks}",
            f"{masks}: the map {name} takes the mask of {mask}, whose folder has another name, since no other has this "
            "stem.",
        )


def _is_good(path: Path) -> bool:
    return path.parent.name.lower() in GOOD_NAMES


def _mask_files(folder: Path) -> dict[str, Truth]:
    if not folder.is_dir():
        raise DefectlocError(f"masks={folder} is neither a folder of masks nor a COCO file.")
    files = find_images(folder)
    if not files:
        raise DefectlocError(f"masks={folder} holds no masks (PNG, BMP or TIFF).")
    truths: dict[str, Truth] = {}
    for path in files:
        name = path.relative_to(folder).with_name(path.stem.removesuffix(MASK_SUFFIX)).as_posix()
        if name in truths:
            raise DefectlocError(f"masks={folder} holds two masks of {name}; keep one.")
        truths[name] = Truth(mask=path, size=image_size(path))
    return truths


def _coco(path: Path) -> dict[str, Truth]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        images = {image["id"]: (str(image["file_name"]), _sides(image)) for image in content["images"]}
        if len(images) != len(content["images"]):
            raise ValueError("two images have one id")
        boxes: dict[Any, list[list[float]]] = {number: [] for number in images}
        for annotation in content["annotations"]:
            number = annotation["image_id"]
            if number not in images:
                raise ValueError(f"an annotation belongs to image {number}, which is not listed")
            boxes[number].append(_corners(annotation["bbox"], *images[number]))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError, OverflowError) as error:
        what = f"{error.args[0]!r} is missing" if isinstance(error, KeyError) else " ".join(str(error).split())
        raise DefectlocError(f"masks={path} cannot be read as COCO boxes ({what}).") from error
    truths: dict[str, Truth] = {}
    for number, (file_name, size) in images.items():
        name = Path(file_name).with_suffix("").as_posix()
        if name in truths:
            raise DefectlocError(f"masks={path} lists {name} twice; keep one.")
        truths[name] = Truth(boxes=np.array(boxes[number], dtype=np.float64).reshape(-1, 4), size=size)
    return truths


def _sides(image: dict[str, Any]) -> tuple[int, int]:
    sides = image["height"], image["width"]
    if not all(isinstance(side, int) and 0 < side < 2**20 for side in sides):
        raise ValueError(f"{image['file_name']} is {sides[1]} x {sides[0]} pixels")
    return sides


def _corners(bbox: Any, name: str, size: tuple[int, int]) -> list[float]:
    """Return x0, y0, x1, y1 of a COCO box; ValueError where it has no area or leaves its image by more than a pixel."""
    x, y, width, height = (float(number) for number in bbox)
    ends = x + width, y + height
    inside = x >= -1 and y >= -1 and ends[0] <= size[1] + 1 and ends[1] <= size[0] + 1
    if not all(map(math.isfinite, (x, y, *ends))) or width <= 0 or height <= 0 or not inside:
        raise ValueError(f"the box {list(bbox)} does not lie in {name} of {size[1]} x {size[0]} pixels")
    return [max(x, 0.0), max(y, 0.0), min(ends[0], float(size[1])), min(ends[1], float(size[0]))]

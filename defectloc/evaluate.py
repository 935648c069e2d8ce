"""`python -m defectloc.evaluate`: the same scores for anybody's heat maps; no network, no torch."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image

from defectloc import cli
from defectloc.config import EvaluateSettings
from defectloc.data.images import find_images, read_mask
from defectloc.data.sources import GOOD_NAMES
from defectloc.errors import DefectlocError
from defectloc.evaluation.box import BoxScores, MaxBoxAccV2, pointing_game
from defectloc.evaluation.image import image_scores
from defectloc.evaluation.pixel import PixelScores
from defectloc.localization.boxes import boxes_of_mask, boxes_on
from defectloc.localization.normalization import normalize
from defectloc.notes import say_once
from defectloc.progress import images_bar
from defectloc.reporting.tables import print_scores
from defectloc.runs import write_json
from defectloc.score import MAX_BOX_SIZE

ARRAYS = (".npy", ".npz")
PICTURES = (".png", ".tif", ".tiff")


@dataclass(frozen=True)
class Truth:
    """What is known of one image: a mask, or boxes `(N, 4)` and the image's (height, width), or that it is good."""

    mask: Path | None = None
    boxes: np.ndarray | None = None
    size: tuple[int, int] | None = None


def run(settings: EvaluateSettings) -> dict[str, Any]:
    """Score heat maps against masks or COCO boxes; returns the scores, null where the truth does not tell."""
    maps = _maps(Path(settings.maps).expanduser())
    truths = _matched(maps, Path(settings.masks).expanduser())
    sizes = {read_mask(truth.mask).shape for truth in truths.values() if truth.mask is not None}
    # Good parts have no mask; where all masks have one size, their maps are brought to it as well.
    common = next(iter(sizes)) if len(sizes) == 1 else None
    ignore = None if settings.ignore_mask is None else Path(settings.ignore_mask).expanduser()
    where = settings.localization
    pixels, boxes, best_boxes, hits = PixelScores(), BoxScores(), MaxBoxAccV2(), []
    labels, hottest, predicted = [], [], []
    with images_bar("scoring maps", len(maps)) as advance:
        for name, load in maps.items():
            truth, raw = truths[name], load()
            mask = None if truth.mask is None else read_mask(truth.mask)
            size = truth.size or (common if mask is None else mask.shape) or raw.shape
            heat = _brought_to(raw, size, name)
            ignored = None if ignore is None else read_mask(ignore, heat.shape)
            if ignored is not None:
                heat = np.where(ignored, heat.min(), heat)
                mask = None if mask is None else mask & ~ignored
            found = boxes_on(normalize(heat, where.normalization), where, where.threshold)
            true = truth.boxes if truth.boxes is not None else boxes_of_mask(np.zeros(size) if mask is None else mask)
            if truth.boxes is None:
                pixels.add(heat, mask, ignored)
            boxes.add(name, found, true, heat.shape)
            if len(true):
                small = cv2.resize(heat, (MAX_BOX_SIZE, MAX_BOX_SIZE), interpolation=cv2.INTER_LINEAR)
                best_boxes.add(small, true * np.array([MAX_BOX_SIZE / size[1], MAX_BOX_SIZE / size[0]] * 2))
            if mask is not None and mask.any():
                hits.append(pointing_game(heat, mask))
            labels.append(int(len(true) > 0))
            hottest.append(float(heat.max()))
            predicted.append(int(len(found) > 0))
            advance(1)
    scores = {
        "n_images": len(maps),
        **image_scores(labels, hottest, predicted),
        **pixels.compute(),
        "pointing_game": float(np.mean(hits)) if hits else None,
        **best_boxes.compute(),
        **boxes.compute(),
    }
    print_scores(f"{settings.maps}: {len(maps)} maps, an image counts as defective where it has a box", scores)
    if settings.output is not None:
        write_json(Path(settings.output).expanduser(), scores)
    return scores


def _maps(folder: Path) -> dict[str, Any]:
    """Name each map by its path below the folder without suffix; the values load it as float (H, W)."""
    if not folder.is_dir():
        raise DefectlocError(f"maps={folder} is not a folder.")
    files = [p for p in sorted(folder.rglob("*")) if p.suffix.lower() in (*ARRAYS, *PICTURES) and p.is_file()]
    maps: dict[str, Any] = {}
    for path in files:
        for name, load in _contents(path, path.relative_to(folder).with_suffix("").as_posix()):
            if name in maps:
                raise DefectlocError(f"maps={folder} holds two maps named {name}; keep one.")
            maps[name] = load
    if not maps:
        raise DefectlocError(f"maps={folder} holds no maps (.npy, .npz, .tiff or .png).")
    return maps


def _contents(path: Path, name: str) -> Iterator[tuple[str, Any]]:
    if path.suffix.lower() != ".npz":
        yield name, lambda: _read(path)
        return
    try:
        with np.load(path, allow_pickle=False) as content:
            keys = content.files
    except (ValueError, OSError) as error:
        raise DefectlocError(f"{path} cannot be read as arrays.") from error
    for key in keys:
        # One array stands for the file, several for an image each.
        yield (name if len(keys) == 1 else Path(key).with_suffix("").as_posix()), lambda key=key: _read(path, key)


def _read(path: Path, key: str | None = None) -> np.ndarray:
    try:
        if path.suffix.lower() in ARRAYS:
            loaded = np.load(path, allow_pickle=False)
            values = loaded if key is None else loaded[key]
        else:
            with Image.open(path) as image:
                values = np.asarray(image)
    except (ValueError, OSError, SyntaxError) as error:
        raise DefectlocError(f"{path} cannot be read as a map.") from error
    values = np.squeeze(values)
    if values.ndim != 2 or not np.issubdtype(values.dtype, np.number) or not np.isfinite(values).all():
        raise DefectlocError(f"{path} is no map: it must be one finite number per pixel, not {values.shape}.")
    return values.astype(np.float32)


def _matched(maps: dict[str, Any], masks: Path) -> dict[str, Truth]:
    """Find the truth of each map by its path below the folder, or by its stem where stems are unique."""
    known = _coco(masks) if masks.is_file() else _mask_files(masks)
    by_stem: dict[str, list[str]] = {}
    for name in known:
        by_stem.setdefault(Path(name).name, []).append(name)
    found, used = {}, set()
    stems = [Path(name).name for name in maps]
    for name in maps:
        stem, match = Path(name).name, None
        if name in known:
            match = name
        elif len(by_stem.get(stem, [])) == 1 and stems.count(stem) == 1:
            match = by_stem[stem][0]
        if match is not None:
            found[name] = known[match]
            used.add(match)
        elif Path(name).parent.name.lower() in GOOD_NAMES:
            found[name] = Truth()
        else:
            raise DefectlocError(
                f"the map {name} has no mask in {masks}; maps of good parts belong below a folder named 'good'."
            )
    left = sorted(set(known) - used)
    if left:
        raise DefectlocError(f"the mask or image {left[0]} of {masks} has no map; {len(left)} have none.")
    return found


def _mask_files(folder: Path) -> dict[str, Truth]:
    if not folder.is_dir():
        raise DefectlocError(f"masks={folder} is neither a folder of masks nor a COCO file.")
    files = find_images(folder)
    if not files:
        raise DefectlocError(f"masks={folder} holds no masks (PNG, BMP or TIFF).")
    return {p.relative_to(folder).with_name(p.stem.removesuffix("_mask")).as_posix(): Truth(mask=p) for p in files}


def _coco(path: Path) -> dict[str, Truth]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        boxes: dict[int, list[list[float]]] = {image["id"]: [] for image in content["images"]}
        for annotation in content["annotations"]:
            x, y, width, height = annotation["bbox"]
            boxes[annotation["image_id"]].append([x, y, x + width, y + height])
        return {
            Path(image["file_name"]).with_suffix("").as_posix(): Truth(
                boxes=np.array(boxes[image["id"]], dtype=float).reshape(-1, 4),
                size=(int(image["height"]), int(image["width"])),
            )
            for image in content["images"]
        }
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DefectlocError(f"masks={path} cannot be read as COCO boxes ({error!r}).") from error


def _brought_to(heat: np.ndarray, size: tuple[int, ...], name: str) -> np.ndarray:
    if heat.shape == tuple(size):
        return heat
    text = f"the map {name} is {heat.shape[0]} x {heat.shape[1]}, its image {size[0]} x {size[1]}"
    say_once("map size", f"{text}; such maps are resized bilinearly.")
    return cv2.resize(heat, (size[1], size[0]), interpolation=cv2.INTER_LINEAR)


def main() -> None:
    """Command line."""
    cli.run_command("evaluate", run)


if __name__ == "__main__":
    main()

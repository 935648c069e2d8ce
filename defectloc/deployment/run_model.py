"""Run the exported model beside this file on photographs: `python run_model.py photo.png ... > results.jsonl`.

Needs NumPy, Pillow and ONNX Runtime, nothing else. Writes a line of JSON for each photograph: probability of a defect,
verdict, and boxes in its pixels; with `--maps FOLDER` the heat maps as well, as NumPy files.
"""

import argparse
import hashlib
import json
import runpy
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps, ImageSequence

FORMAT = 2
Values = dict[str, Any]


def load(folder: Path, threads: int | None = None) -> tuple[Values, Callable[[np.ndarray], Values]]:
    """Give what model.json says and the outputs of photographs `(N, H, W, 3)` uint8; ValueError: files do not fit."""
    about = json.loads((folder / "model.json").read_text(encoding="utf-8"))
    plain = {key: value for key, value in about.items() if key != "checksum"}
    if hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest() != about.get("checksum"):
        raise ValueError(f"{folder / 'model.json'} was changed since it was exported; export the run again.")
    if about["format"] != FORMAT:
        raise ValueError(f"{folder / 'model.json'} has format {about['format']}, this script reads {FORMAT}.")
    contents = {name: (folder / name).read_bytes() for name in about["files"]}
    for name, content in contents.items():
        if hashlib.sha256(content).hexdigest() != about["files"][name]:
            raise ValueError(f"{folder / name} is not the file that model.json was written for; export the run again.")
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or 0
    names = ["pred_score", "pred_label", *about["inner_outputs"]["names"]]
    if about["tiling"]:
        in_tiles = runpy.run_path(str(Path(__file__).with_name("run_tiles.py")))["in_tiles"]
        return about, in_tiles(about, contents, options, names)
    # These bytes declare values inside the graph as further outputs.
    model = contents["model.onnx"] + bytes.fromhex(about["inner_outputs"]["declaration"])
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return about, lambda images: dict(zip(names, session.run(names, {"image": images}), strict=True))


def read_image(path: Path) -> np.ndarray:
    """Read a photograph as `(H, W, 3)` uint8 RGB, upright; 16 bits become 8, transparent pixels are laid on white."""
    with path.open("rb") as opened, Image.open(opened) as file:  # By its path Pillow would scramble a turned TIFF.
        file.load()
        image = ImageOps.exif_transpose(file)
        # Negatives (0 is white), which Pillow turns round for 8 bits only.
        is_negative = file.format == "TIFF" and file.mode == "I;16" and getattr(file, "tag_v2", {}).get(262) == 0
        sizes = [page.size for page in (ImageSequence.Iterator(file) if file.format in ("PNG", "TIFF") else [file])]
        if sizes.count(sizes[0]) > 1:
            raise ValueError(f"{path} holds several pictures; save the one that is meant as a file.")
    if image.mode.startswith("I"):
        deep = np.asarray(image).astype(np.int64)
        if deep.min() < 0 or deep.max() > 65535:
            raise ValueError(f"{path} holds values outside 0..65535; convert it to 8 or 16 bits.")
        grey = (((65535 - deep if is_negative else deep) + 128) // 257).astype(np.uint8)
        return np.repeat(grey[:, :, None], 3, axis=2)
    if image.mode == "F":
        raise ValueError(f"{path} holds floating-point numbers; convert it to 8 or 16 bits.")
    if image.has_transparency_data:
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image.convert("RGBA"))
    return np.array(image.convert("RGB"))


def native_map(about: dict[str, Any], cells: np.ndarray, size: tuple[int, int], ignored: Path | None) -> np.ndarray:
    """Interpolate a map `(h, w)` to the photograph's pixels `(H, W)`; ignored ones get its minimum."""
    values = cells.astype(np.float64)
    low, high = values.min(), values.max()
    # A map in tiles has no fixed shape, and covers what the network sees.
    seen = about["image_size"] if about["cells"] else [n * about["grid"]["stride"] for n in cells.shape]
    sides = zip(cells.shape, size, seen, strict=True)
    rows, columns = (_weights(n_cells, n_pixels, side, about["grid"]) for n_cells, n_pixels, side in sides)
    whole = np.minimum(rows @ (values - low) @ columns.T + low, high).astype(np.float32)
    if ignored is None:
        return whole
    with Image.open(ignored) as file:
        mask = np.asarray(file.convert("L").resize((size[1], size[0]), Image.Resampling.NEAREST)) > 0
    return np.where(mask, whole.min(), whole)


def _weights(n_cells: int, n_pixels: int, side: int, grid: dict[str, float]) -> np.ndarray:
    places = ((np.arange(n_pixels) + 0.5) * side / n_pixels - 0.5 - grid["offset"]) / grid["stride"]
    return np.maximum(1 - np.abs(np.clip(places, 0, n_cells - 1)[:, None] - np.arange(n_cells)), 0)


def normalized(values: np.ndarray, method: str, scale: dict[str, float] | None) -> np.ndarray:
    """Put a map on the scale of the threshold."""
    array = values.astype(np.float64)
    if method == "none":
        return values
    if method in ("good", "classes") and scale is not None:
        return ((array - scale["zero"]) / scale["unit"]).astype(np.float32)
    floor = array.min() if method == "minmax" else 0.0
    if method == "ivr":
        rank = int(array.size * 0.4)
        floor = np.partition(array, rank, axis=None)[rank]
    above = np.maximum(array - floor, 0)
    return (above / (above.max() or 1.0)).astype(np.float32)


def find_boxes(values: np.ndarray, rules: dict[str, Any]) -> list[dict[str, float]]:
    """Give the boxes of the regions of a map `(H, W)` above the threshold, the highest first."""
    above = values > np.float32(rules["threshold"])
    if not above.any():
        return []
    runs, group = _regions(above)
    # Values above the threshold lie in the order of the runs.
    inside = values[above].astype(np.float64)
    starts = np.concatenate([[0], np.cumsum(runs[:, 2] - runs[:, 1])[:-1]])
    peaks, sums = np.maximum.reduceat(inside, starts), np.add.reduceat(inside, starts)
    areas = runs[:, 2] - runs[:, 1]
    extents = np.stack([runs[:, 1], runs[:, 0], runs[:, 2], runs[:, 0] + 1], 1)
    kept = np.bincount(group, areas) >= rules["min_area"]
    highest = _most(peaks, group)
    if rules["min_peak"] is not None and kept.any():
        kept &= highest >= min(float(np.float32(rules["min_peak"])), highest[kept].max())
    if not kept.any():
        return []
    chosen, number = kept[group], np.cumsum(kept) - 1
    group = number[group[chosen]]
    areas, peaks, sums, extents = (each[chosen] for each in (areas, peaks, sums, extents))
    if rules["mode"] == "single":
        group = np.zeros_like(group)
    elif rules["merge_distance"] > 0:
        group = _merged(_around(extents, group), rules["merge_distance"])[group]
    boxes, score = _around(extents, group), _most(peaks, group)
    mean = np.minimum(np.bincount(group, sums) / np.bincount(group, areas), score)
    order = np.lexsort((boxes[:, 2], boxes[:, 3], boxes[:, 0], boxes[:, 1], -mean, -score))[: rules["max_boxes"]]
    corners = ("x0", "y0", "x1", "y1")
    return [
        dict(zip(corners, boxes[n].tolist(), strict=True)) | {"score": float(score[n]), "score_mean": float(mean[n])}
        for n in order
    ]


def _regions(above: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Give the runs `(R, 3)` of set pixels in rows (row, first, end), and the 8-connected region of each `(R,)`."""
    width = above.shape[1] + 2
    edges = np.diff(np.pad(above, ((0, 0), (1, 1))).astype(np.int8), axis=1)
    (rows, first), end = np.nonzero(edges == 1), np.nonzero(edges == -1)[1]
    # Runs of the next row that touch, also at a corner, are neighbours in the list.
    low = np.searchsorted(rows * width + end, (rows + 1) * width + first, "left")
    high = np.searchsorted(rows * width + first, (rows + 1) * width + end, "right")
    n_touched = np.maximum(high - low, 0)
    one = np.repeat(np.arange(len(rows)), n_touched)
    other = np.arange(n_touched.sum()) + np.repeat(low + n_touched - np.cumsum(n_touched), n_touched)
    region, before = np.arange(len(rows)), np.zeros(0, np.int64)
    while not np.array_equal(region, before):
        lowest, before = np.minimum(region[one], region[other]), region.copy()
        np.minimum.at(region, region[one], lowest)
        np.minimum.at(region, region[other], lowest)
        region = region[region]
    return np.stack([rows, first, end], 1), np.unique(region, return_inverse=True)[1]


def _merged(boxes: np.ndarray, distance: float) -> np.ndarray:
    """Give the group of each box `(N,)` once none of two groups lie nearer than the distance."""
    group = np.arange(len(boxes))
    while True:
        group = np.unique(group, return_inverse=True)[1]
        around = _around(boxes, group)
        gaps = [np.maximum(around[:, :2] - box[2:], box[:2] - around[:, 2:]).clip(0).max(1) for box in around]
        near = np.array([int((gap < distance).argmax()) for gap in gaps])
        if (near == np.arange(len(around))).all():
            return group
        group = near[group]


def _around(extents: np.ndarray, group: np.ndarray) -> np.ndarray:
    lows = [-_most(-extents[:, column], group) for column in (0, 1)]
    return np.stack([*lows, *(_most(extents[:, column], group) for column in (2, 3))], 1)


def _most(values: np.ndarray, group: np.ndarray) -> np.ndarray:
    found = np.full(group.max() + 1, values.min())
    np.maximum.at(found, group, values)
    return found


def predict(about: Values, found: Values, number: int, size: tuple[int, int], ignored: Path | None) -> Values:
    """Give what is said of the photograph `number` of a batch, with its map at `map`."""
    limits, score = about["decision"], float(found["score"][number])
    if not np.isfinite(score):
        raise ValueError("A score is NaN or infinite: check the photograph and the model.")
    predicted = bool(found["pred_label"][number])
    novelty = float(found["novelty"][number]) if "novelty" in found else None
    is_unlike = novelty is not None and novelty > 1
    is_between = limits["defective_above"] != limits["threshold"] and score <= limits["defective_above"]["score"]
    verdict = "good" if not predicted else "review" if is_between else "defective"
    heat, rules = native_map(about, found["cells"][number], size, ignored), about["localizer"]
    boxes = []
    if predicted and not is_unlike:
        boxes = find_boxes(normalized(heat, rules["normalization"], rules["scale"]), rules)
    return {
        "log_odds": float(found["log_odds"][number]) if "log_odds" in found else None,
        "score": score,
        "probability": None if is_unlike else float(found["pred_score"][number]),
        "predicted": int(predicted),
        "verdict": "unlike training" if is_unlike else verdict,
        "n_boxes": len(boxes),
        "novelty": novelty,
        "unlike_training": None if novelty is None else int(is_unlike),
        "height": size[0],
        "width": size[1],
        "boxes": boxes,
        "map": heat,
    }


def main() -> int:
    """Command line; gives the exit code, 2 where a photograph could not be read."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("images", nargs="+", type=Path)
    parser.add_argument("--model", type=Path, default=Path(__file__).resolve().parent, help="the exported folder")
    parser.add_argument("--maps", type=Path, help="folder for the heat maps (H, W), float32, numbered in order")
    parser.add_argument("--threads", type=int)
    given = parser.parse_args()
    try:
        about, infer = load(given.model, given.threads)
    except (OSError, ValueError, KeyError, ImportError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    ignored = given.model / "ignore_mask.png" if "ignore_mask.png" in about["files"] else None
    code = 0
    for number, path in enumerate(given.images):
        try:
            image = read_image(path)
            line: Values = {"path": str(path)} | predict(about, infer(image[None]), 0, image.shape[:2], ignored)
        except (OSError, ValueError, SyntaxError, EOFError, LookupError, Image.DecompressionBombError) as error:
            print(f"skipped: {path}: {error}", file=sys.stderr)
            code = 2
            continue
        heat, line["map"] = line["map"], None
        if given.maps is not None:
            given.maps.mkdir(parents=True, exist_ok=True)
            line["map"] = f"{number:06d}.npy"
            np.save(given.maps / line["map"], heat)
        print(json.dumps(line), flush=True)
    return code


if __name__ == "__main__":
    sys.exit(main())

"""New images by a finished run: tables, boxes and overlays."""

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from defectloc.config import PredictSettings
from defectloc.data.images import find_images, is_image_name, read_image
from defectloc.errors import DefectlocError
from defectloc.figures.overlay import paint_boxes, paint_map
from defectloc.files import atomic, make_directory
from defectloc.localization.boxes import COLUMNS, CORNERS, to_coco
from defectloc.model import device as devices
from defectloc.progress import images_bar
from defectloc.runs.directory import Run
from defectloc.runs.predictor import Prediction, Predictor
from defectloc.runs.tables import write_csv, write_json

OVERLAYS = "overlays"


def run(settings: PredictSettings) -> pd.DataFrame:
    """Predict all images of a file or folder; unreadable ones are named, skipped, and raise at the end."""
    finished = Run.open(settings.run)
    output = Path(settings.output).expanduser()
    base, paths = _images(settings.images, output)
    make_directory(output)
    device = devices.choose(settings.device)
    devices.prepare(device, settings.threads)
    predictor = Predictor(finished, device)
    rows, tables, sizes = [], [], {}
    unreadable: list[str] = []
    with images_bar("predicting", len(paths)) as advance:
        for names, images in _batches(base, paths, settings.batch_size, unreadable):
            for name, image, found in zip(names, images, predictor.predict_arrays(images), strict=True):
                rows.append({"path": name, **_row(found)})
                tables.append(found.boxes.assign(path=name))
                sizes[name] = (image.shape[0], image.shape[1])
                if settings.overlays:
                    # The whole name stays, so that a.png and a.jpg do not meet.
                    _write_overlay(output / OVERLAYS / f"{name}.png", predictor, image, found)
            advance(len(names))
    columns = ["path", *COLUMNS]
    boxes = [table for table in tables if len(table)]
    found_boxes = pd.concat(boxes)[columns] if boxes else pd.DataFrame(columns=columns)
    predictions = pd.DataFrame(rows)
    write_csv(output / "predictions.csv", predictions)
    write_csv(output / "boxes.csv", found_boxes)
    write_json(output / "boxes.coco.json", to_coco(sizes, found_boxes, description="defectloc"))
    n_bad = int(predictions["predicted"].sum()) if len(predictions) else 0
    limit = predictor.decision.threshold.probability
    print(
        f"{len(predictions)} images: {n_bad} predicted defective (probability above {limit:.3f}), "
        f"{len(predictions) - n_bad} good; {output / 'predictions.csv'}"
    )
    if unreadable:
        raise DefectlocError(
            f"{len(unreadable)} of {len(paths)} images could not be read and were skipped, the first: {unreadable[0]}"
        )
    return predictions


def _row(found: Prediction) -> dict[str, float | int | str]:
    return {
        "log_odds": found.log_odds,
        "score": found.score,
        "probability": found.probability,
        "predicted": found.predicted,
        "verdict": found.verdict,
        "n_boxes": len(found.boxes),
    }


def _write_overlay(path: Path, predictor: Predictor, image: np.ndarray, found: Prediction) -> None:
    painted = paint_map(image, predictor.native(found.map, image), predictor.scale)
    with atomic(path) as temporary:
        Image.fromarray(paint_boxes(painted, found.boxes[CORNERS].to_numpy(), 2)).save(temporary)


def _images(images: str, output: Path) -> tuple[Path, list[Path]]:
    """Find the images; the overlays of an earlier prediction are none, where the output lies among the images."""
    path = Path(images).expanduser()
    if path.is_dir():
        overlays = (output / OVERLAYS).resolve()
        found = [each for each in find_images(path) if not each.resolve().is_relative_to(overlays)]
        if not found:
            raise DefectlocError(f"images={images} holds no images (PNG, JPEG, BMP or TIFF).")
        return path, found
    if not path.is_file():
        raise DefectlocError(f"images={images} does not exist.")
    if not is_image_name(path):
        raise DefectlocError(f"images={images} is not named as an image (PNG, JPEG, BMP or TIFF).")
    return path.parent, [path]


def _batches(
    base: Path, paths: list[Path], size: int, unreadable: list[str]
) -> Iterator[tuple[list[str], list[np.ndarray]]]:
    """Read images in batches; what cannot be read is named and added to `unreadable`."""
    for start in range(0, len(paths), size):
        names, images = [], []
        for path in paths[start : start + size]:
            try:
                images.append(read_image(path))
                names.append(path.relative_to(base).as_posix())
            except DefectlocError as error:
                print(f"skipped: {error}", file=sys.stderr)
                unreadable.append(str(error))
        if images:
            yield names, images

"""`python -m defectloc.predict`: new images by a finished run."""

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from omegaconf import OmegaConf
from PIL import Image

from defectloc import cli, runs
from defectloc.config import LocalizationConfig, PredictSettings
from defectloc.data.images import find_images, is_image_name, read_image
from defectloc.errors import DefectlocError
from defectloc.figures.overlay import paint_boxes, paint_heat
from defectloc.files import atomic, make_directory
from defectloc.localization.boxes import boxes_on, to_coco
from defectloc.localization.calibration import probability
from defectloc.localization.maps import Grid, upsample
from defectloc.localization.normalization import GoodStatistics, normalize
from defectloc.localization.scores import Weights, hottest
from defectloc.localize import BOX_COLUMNS
from defectloc.progress import images_bar
from defectloc.remember import recall, recall_fusion


class Inspector:
    """A finished run as it was last post-processed: its network, thresholds and scales."""

    def __init__(self, run: runs.Run, device: str) -> None:
        """Raises DefectlocError where the run was never localised."""
        from defectloc.model import weights
        from defectloc.model.predict import trunk_of

        record = run.folder / "metrics.json"
        if not record.is_file():
            raise DefectlocError(f"run={run.folder} was not localised yet; start its fit again.")
        name = json.loads(record.read_text(encoding="utf-8"))["localization"]
        folder = run.folder / "localization" / name
        given: Any = OmegaConf.load(folder / "config.yaml")
        merged: Any = OmegaConf.merge(OmegaConf.structured(LocalizationConfig), given.localization)
        typed: Any = OmegaConf.to_object(merged)
        self.localization: LocalizationConfig = typed
        self.score = str(given.decision.score)
        self.calibration = json.loads((folder / "calibration.json").read_text(encoding="utf-8"))
        self.image_size = int(run.record["settings"]["data"]["image_size"])
        self.classifier = weights.restore(run.folder / runs.CHECKPOINT).to(device)
        maps = run.maps(self.localization.map)
        self.grid = Grid(*maps.grid)
        self._trunk = trunk_of(self.classifier, device, run.record["precision"])
        self._has_classes = run.has_classes
        self._memory = self._fusion = None
        self._levels: list[str] = []
        asked = {self.localization.map, self.score}
        if asked & {"memory", "fusion"}:
            self._memory, self._levels = recall(run, device)
            if "fusion" in asked:
                self._fusion = recall_fusion(run, self._memory)
        hot = np.concatenate([cells.ravel() for cells in maps.cells.values()])
        self.scale = (0.0, max(float(np.quantile(hot, 0.995)), 1e-6))

    def maps(self, images: list[np.ndarray]) -> list[tuple[np.ndarray, float, float]]:
        """Give the map `(h, w)` at grid resolution, the class log-odds and the score of each image `(H, W, 3)`."""
        import torch

        from defectloc.data.resize import resize
        from defectloc.model.predict import maps_of

        level = self.classifier.level
        found = self._trunk([resize(image, self.image_size) for image in images], [level, *self._levels])
        maps = {"cam": maps_of(self.classifier, torch.from_numpy(found[level]))}
        log_odds = maps["cam"].astype(np.float64).mean((1, 2))
        if not self._has_classes:
            log_odds = np.full(len(images), np.nan)
        levels = [found[name] for name in self._levels]
        kept = log_odds
        if self._fusion is not None:
            seen = self._fusion.look(self.classifier, levels, found[level])
            maps |= {"memory": seen.distances, "fusion": seen.fused}
            kept = seen.kept_log_odds
        elif self._memory is not None:
            maps["memory"] = self._memory.distances(levels)
        # Runs from before there were other scores than the class.
        weights = Weights(self.calibration.get("score_weights", [1.0]), self.calibration.get("score_bias", 0.0), "")
        if self.score == "class":
            scores = weights(log_odds)
        elif self.score == "memory":
            scores = weights(hottest(maps["memory"]))
        else:
            scores = weights(log_odds, kept, hottest(maps["fusion"]))
        return list(zip(maps[self.localization.map], log_odds.tolist(), scores.tolist(), strict=True))

    def inspect(
        self, image: np.ndarray, cells: np.ndarray, log_odds: float, score: float
    ) -> tuple[dict[str, Any], pd.DataFrame, np.ndarray]:
        """Give (log-odds, score, probability and verdict), boxes, and the heat map in the image's own pixels."""
        chance = float(probability(score, self.calibration["temperature"]))
        predicted = int(chance > self.calibration["decision_threshold"])
        heat = upsample(cells, image.shape[:2], self.image_size, self.grid)
        boxes = pd.DataFrame(columns=BOX_COLUMNS)
        if predicted:
            boxes = boxes_on(self._normalized(heat), self.localization, self.calibration["map_threshold"])
        row: dict[str, Any] = {"log_odds": log_odds, "score": score, "probability": chance, "predicted": predicted}
        if "review_above" in self.calibration:
            sure = chance > self.calibration["defective_above"]
            row["verdict"] = "defective" if sure else "review" if predicted else "good"
        return row, boxes, heat

    def _normalized(self, heat: np.ndarray) -> np.ndarray:
        method, notes = self.localization.normalization, self.calibration
        good = GoodStatistics(notes["good_mean"], notes["good_sd"]) if method == "good" else None
        return normalize(heat, method, good=good)


def run(settings: PredictSettings) -> pd.DataFrame:
    """Predict all images of a file or folder; unreadable ones are named, skipped, and raise at the end."""
    finished = runs.Run.open(settings.run)
    base, paths = _images(settings.images)
    output = Path(settings.output).expanduser()
    make_directory(output)
    import torch

    from defectloc.model import device as devices

    torch.set_num_threads(settings.threads or len(os.sched_getaffinity(0)))
    inspector = Inspector(finished, devices.choose(settings.device))
    rows, tables, sizes = [], [], {}
    unreadable: list[str] = []
    with images_bar("predicting", len(paths)) as advance:
        for names, images in _batches(base, paths, settings.batch_size, unreadable):
            for name, image, found in zip(names, images, inspector.maps(images), strict=True):
                row, boxes, heat = inspector.inspect(image, *found)
                rows.append({"path": name, **row, "n_boxes": len(boxes)})
                tables.append(boxes.assign(path=name))
                sizes[name] = image.shape[:2]
                if settings.overlays:
                    drawn = paint_boxes(paint_heat(image, heat, inspector.scale), boxes[BOX_COLUMNS[1:5]].to_numpy(), 2)
                    # The whole name stays, so that a.png and a.jpg do not meet.
                    with atomic(output / "overlays" / f"{name}.png") as temporary:
                        Image.fromarray(drawn).save(temporary)
            advance(len(names))
    predictions = pd.DataFrame(rows)
    found = pd.concat(tables)[BOX_COLUMNS] if tables else pd.DataFrame(columns=BOX_COLUMNS)
    runs.write_csv(output / "predictions.csv", predictions)
    runs.write_csv(output / "boxes.csv", found)
    runs.write_json(output / "boxes.coco.json", to_coco(sizes, found, description="defectloc"))
    n_bad = int(predictions["predicted"].sum()) if len(predictions) else 0
    print(
        f"{len(predictions)} images: {n_bad} defective, {len(predictions) - n_bad} good; {output / 'predictions.csv'}"
    )
    if unreadable:
        raise DefectlocError(
            f"{len(unreadable)} of {len(paths)} images could not be read and were skipped, the first: {unreadable[0]}"
        )
    return predictions


def _images(images: str) -> tuple[Path, list[Path]]:
    path = Path(images).expanduser()
    if path.is_dir():
        found = find_images(path)
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


def main() -> None:
    """Command line."""
    cli.run_command("predict", run)


if __name__ == "__main__":
    main()

"""An exported model beside its run, on the same photographs: how far apart, and how fast."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from defectloc.inference.photograph_model import PhotographModel
from defectloc.inference.prediction import Prediction
from defectloc.localization.boxes import CORNERS
from defectloc.progress import images_bar

# Of one and the same probability and map; the map's is a share of its range.
PROBABILITY, MAP = 1e-4, 1e-3
# Photographs at once whose time is measured.
BATCHES = (1, 16)


@dataclass
class Comparison:
    """The largest differences over photographs, how many have another verdict or other boxes, and seconds by model.

    `map` is the largest difference of a map, as a share of the range of that map. Seconds are those of each call, from
    the files to the boxes, by (model, photographs at once).
    """

    n_images: int = 0
    probability: float = 0.0
    score: float = 0.0
    map: float = 0.0
    n_verdicts: int = 0
    n_boxes: int = 0
    seconds: dict[tuple[str, int], list[float]] = field(default_factory=dict)

    @property
    def is_equal(self) -> bool:
        """Tell whether both models say the same."""
        return self.probability <= PROBABILITY and self.map <= MAP and not self.n_verdicts and not self.n_boxes

    def add(self, one: Prediction, other: Prediction) -> None:
        """Count one photograph, predicted by both models."""
        self.n_images += 1
        self.n_verdicts += one.verdict != other.verdict
        self.n_boxes += not np.array_equal(one.boxes[CORNERS].to_numpy(), other.boxes[CORNERS].to_numpy())
        if not one.unlike_training and not other.unlike_training:
            self.probability = max(self.probability, abs(one.probability - other.probability))
        self.score = max(self.score, abs(one.score - other.score))
        low, high = float(one.anomaly_map.min()), float(one.anomaly_map.max())
        difference = float(np.abs(one.anomaly_map - other.anomaly_map).max())
        self.map = max(self.map, difference / ((high - low) or 1.0))

    def sentence(self) -> str:
        """Say how far both are apart."""
        return (
            f"compared with the run on {self.n_images} images: probabilities at most {self.probability:.1e} apart, "
            f"maps {self.map:.1e} of their range; {self.n_verdicts} verdicts and the boxes of {self.n_boxes} differ"
        )

    def times(self) -> dict[str, Any]:
        """Give median and 95th percentile in milliseconds an image, by model and photographs at once."""
        return {
            f"{name}, {size} at once": {
                "median": round(float(np.median(spent)) / size * 1000, 1),
                "p95": round(float(np.quantile(spent, 0.95)) / size * 1000, 1),
                "calls": len(spent),
            }
            for (name, size), spent in self.seconds.items()
        }


def compare(
    run: PhotographModel, exported: PhotographModel, paths: Sequence[Path], batches: Sequence[int] = (1,)
) -> Comparison:
    """Predict photographs by both models in turn, so that what else the machine does slows both.

    The first of `batches` is compared. Calls of fewer photographs than asked for are not timed, nor is each model's
    first call.
    """
    found = Comparison()
    models = {"run": run, "exported": exported}
    for size in batches:
        with images_bar(f"comparing, {size} at once", len(paths)) as advance:
            for start in range(0, len(paths), size):
                some = list(paths[start : start + size])
                given = {}
                for name, model in models.items():
                    started = time.perf_counter()
                    given[name] = model.predict(some, size)
                    if start and len(some) == size:
                        found.seconds.setdefault((name, size), []).append(time.perf_counter() - started)
                if size == batches[0]:
                    for one, other in zip(given["run"], given["exported"], strict=True):
                        found.add(one, other)
                advance(len(some))
    return found

"""`python -m defectloc.evaluate`: the same scores for heat maps made elsewhere; no network, no torch."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from defectloc import cli
from defectloc.config import EvaluateSettings
from defectloc.evaluation.image import image_scores, intervals
from defectloc.evaluation.map_files import find_maps
from defectloc.evaluation.map_samples import samples_of_maps
from defectloc.evaluation.scoring import LocatedScores, MapSample, MapScores, score
from defectloc.evaluation.truth_files import find_truth
from defectloc.files import write_text
from defectloc.localization.normalization import PER_IMAGE
from defectloc.progress import images_bar
from defectloc.reporting.tables import print_scores


def run(settings: EvaluateSettings) -> dict[str, Any]:
    """Score heat maps against masks or COCO boxes; returns the scores, null where the truth does not tell.

    An image is ranked by the maximum of its raw map and predicted defective where it has a box. Under a normalisation
    per image (`minmax`, `max`, `ivr`) every map that is not flat has one, so decisions and boxes on good images are
    null, and box scores are over defective images only.
    """
    maps = find_maps(Path(settings.maps).expanduser())
    truths = find_truth(maps, Path(settings.masks).expanduser())
    ignore = None if settings.ignore_mask is None else Path(settings.ignore_mask).expanduser()
    decides = settings.localization.normalization not in PER_IMAGE
    labels: list[int] = []
    peaks: list[float] = []
    predicted: list[int] = []

    def noted() -> Iterator[MapSample]:
        with images_bar("scoring maps", len(maps)) as advance:
            for sample in samples_of_maps(maps, truths, settings.localization, ignore):
                if not sample.is_hidden and sample.map is not None and sample.known_boxes is not None:
                    labels.append(int(len(sample.known_boxes) > 0))
                    peaks.append(float(sample.map.max()))
                    predicted.append(int(sample.boxes is not None and len(sample.boxes) > 0))
                yield sample
                advance(1)

    found = score(noted(), MapScores(), LocatedScores())
    image = (labels, peaks, predicted if decides else None)
    scores = {"n_images": len(maps), **image_scores(*image), **found, "intervals_95": intervals(*image)}
    how = "an image is predicted defective where it has a box"
    if not decides:
        how = f"normalised per image ({settings.localization.normalization}), so no image is decided"
    print_scores(f"{settings.maps}: {len(maps)} maps, {how}", scores)
    if settings.output is not None:
        write_text(Path(settings.output).expanduser(), json.dumps(scores, indent=2, allow_nan=False) + "\n")
    return scores


def main() -> None:
    """Command line."""
    cli.run_command("evaluate", run)


if __name__ == "__main__":
    main()

"""What a fold that did not see an image says of it: boxes for a person to correct."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from defectloc.config import BoxesBy
from defectloc.errors import DefectlocError
from defectloc.localization.boxes import COLUMNS
from defectloc.progress import images_bar
from defectloc.runs.annotating.folds import LocalizedFold
from defectloc.runs.tables import read_localizer

Box = tuple[int, int, int, int]


@dataclass(frozen=True, eq=False)
class Suggestion:
    """An image of the data set, by its path below the root, as a fold that tested it judges it.

    `boxes` has the columns `x0, y0, x1, y1, score, score_mean`: half-open, in pixels of the image of `size` (height,
    width); the scores are in the unit of the map.
    """

    path: str
    size: tuple[int, int]
    fold: int
    label: int
    defect_type: str
    score: float
    probability: float
    verdict: str
    boxes: pd.DataFrame

    @property
    def scored_boxes(self) -> list[tuple[Box, float]]:
        """List the corners (x0, y0, x1, y1) of each box with its score."""
        return [
            ((int(row.x0), int(row.y0), int(row.x1), int(row.y1)), float(row.score)) for row in self.boxes.itertuples()
        ]


def suggestions_of(folds: Iterable[LocalizedFold], root: Path, boxes_by: BoxesBy) -> tuple[list[Suggestion], list[str]]:
    """Give what the folds say of their test images, and the paths of the images that none tested; both by path.

    `boxes_by` label: boxes for images that are labelled defective, whatever the verdict; verdict: for those predicted
    defective. Raises DefectlocError for an image that is gone or was changed since it was scored.
    """
    found: dict[str, Suggestion] = {}
    named: set[str] = set()
    nothing = pd.DataFrame(columns=COLUMNS, dtype=float)
    for fold in folds:
        named |= set(fold.run.catalog()["path"])
        maps, localizer, images = fold.maps(root), read_localizer(fold.folder), fold.test_images()
        if changed := maps.changed(list(images["path"])):
            raise DefectlocError(
                f"{root / changed[0]} was changed since it was scored, so that its boxes could be wrong: put it back, "
                "or fit the run again."
            )
        with images_bar(f"boxes of fold {fold.run.record['fold']}", len(images)) as advance:
            for row in images.itertuples():
                has_boxes = row.label if boxes_by == BoxesBy.label else row.predicted
                found[row.path] = Suggestion(
                    path=row.path,
                    size=(int(row.height), int(row.width)),
                    fold=int(fold.run.record["fold"]),
                    label=int(row.label),
                    defect_type=str(row.defect_type),
                    score=float(row.score),
                    probability=float(row.probability),
                    verdict=str(row.verdict),
                    boxes=localizer.boxes(maps.map(row)) if has_boxes else nothing,
                )
                advance(1)
    return [found[path] for path in sorted(found)], sorted(named - found.keys())


def table_of(suggestions: Iterable[Suggestion], untested: Iterable[str]) -> pd.DataFrame:
    """Make a table of a row per image; those that no fold tested have their path alone."""
    rows = [
        {
            "path": each.path,
            "fold": each.fold,
            "label": each.label,
            "defect_type": each.defect_type,
            "score": each.score,
            "probability": each.probability,
            "verdict": each.verdict,
            "n_boxes": len(each.boxes),
        }
        for each in suggestions
    ]
    table = pd.DataFrame([*rows, *({"path": path} for path in untested)])
    return table.astype(dict.fromkeys(("fold", "label", "n_boxes"), "Int64"))

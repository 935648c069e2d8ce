"""Which patches of a fold's defective training images are known to be defects, by masks and by annotations."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from defectloc.data import splits
from defectloc.data.annotations import Annotated, cell_shares, marked_cells, read_annotations
from defectloc.data.images import image_size
from defectloc.data.masks import read_defect_mask
from defectloc.errors import DefectlocError
from defectloc.files import digest, digest_of
from defectloc.model.kept_patches import UNKNOWN

if TYPE_CHECKING:
    # Lightning comes with it, which prediction does not need.
    from defectloc.runs.fold import Fold


@dataclass(frozen=True)
class Supervision:
    """Masks and annotations of defective training images, by path."""

    masks: dict[str, Path]
    annotated: dict[str, Annotated]

    @property
    def made_from(self) -> dict[str, Any]:
        """Identify what teaches, by its bytes; empty where nothing does."""
        drawn = {path: digest(mask) for path, mask in self.masks.items()}
        regions = {
            path: [[region.is_box, region.corners.tolist()] for region in each.regions]
            for path, each in self.annotated.items()
        }
        return {"supervision": digest_of([drawn, regions])} if drawn or regions else {}

    def known(self, paths: list[str], shape: tuple[int, int]) -> NDArray[np.int8] | None:
        """Mark the patches `(N, h, w)` of images on a grid `shape`: 1 a defect, 0 none, -1 beside one, -2 unknown.

        None where nothing is known of any.
        """
        if not self.masks and not self.annotated:
            return None
        marked = np.full((len(paths), *shape), UNKNOWN, np.int8)
        for number, path in enumerate(paths):
            if path in self.annotated:
                marked[number] = self.annotated[path].cells(shape)
            elif path in self.masks:
                marked[number] = marked_cells(cell_shares(read_defect_mask(self.masks[path]), shape))
        return marked


def supervision_of(fold: "Fold") -> Supervision:
    """Find what `supervision.masks` and `data.annotations` give for the fold's defective training images.

    The masks are those of K images drawn by `seed`. Raises DefectlocError where fewer have one, and for annotations
    that do not fit the images.
    """
    settings, train = fold.settings, fold.rows(splits.TRAIN)
    defective = train[train["label"] == 1]
    annotated: dict[str, Annotated] = {}
    if settings.data.annotations is not None:
        annotated = _annotated(fold, Path(settings.data.annotations).expanduser(), set(defective["path"]))
    with_mask = [
        (str(row.path), fold.root / row.mask_path)
        for row in defective.itertuples()
        if row.mask_path and row.path not in annotated and (fold.root / row.mask_path).is_file()
    ]
    wanted = len(with_mask) if settings.supervision.masks == "all" else int(settings.supervision.masks)
    if wanted > len(with_mask):
        raise DefectlocError(
            f"supervision.masks={wanted}, but only {len(with_mask)} defective training images of this fold have a mask."
        )
    drawn = np.sort(np.random.default_rng(settings.seed).permutation(len(with_mask))[:wanted])
    masks = dict(with_mask[number] for number in drawn)
    return Supervision(masks, annotated)


def _annotated(fold: "Fold", path: Path, defective: set[str]) -> dict[str, Annotated]:
    """Read the annotations of defective training images; those of other images are checked and passed over."""
    catalog = fold.catalog.set_index("path")
    found = read_annotations(path, list(catalog.index), fold.root)
    for name, each in found.items():
        if not catalog.at[name, "label"]:
            raise DefectlocError(f"data.annotations={path} marks a defect in {name}, which is a good image.")
        if each.size != image_size(fold.root / name):
            height, width = image_size(fold.root / name)
            raise DefectlocError(
                f"data.annotations={path} has {name} at {each.size[1]} x {each.size[0]} px; it is {width} x {height}."
            )
    return {name: each for name, each in found.items() if name in defective}

"""Which patches of a fold's defective training images are known to be defects, by masks and by annotations."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from defectloc.data import splits
from defectloc.data.annotations import Annotated, cell_shares, marked_cells, read_annotations
from defectloc.data.images import image_size
from defectloc.data.masks import read_defect_mask
from defectloc.errors import DefectlocError
from defectloc.files import digest_of
from defectloc.localization.maps import Stack, stack
from defectloc.model.kept_patches import UNKNOWN
from defectloc.runs.fold import Fold


@dataclass(frozen=True)
class Supervision:
    """Masks and annotations of defective training images, by path; `sizes` (height, width) of the photographs.

    `made_from` identifies what the whole data set gives, so that it is the same for all folds; empty where nothing
    was asked for.
    """

    masks: dict[str, Path]
    annotated: dict[str, Annotated]
    sizes: dict[str, tuple[int, int]]
    made_from: dict[str, Any]

    def known(self, paths: list[str], shapes: list[tuple[int, int]]) -> Stack | None:
        """Mark the patches `(N, h, w)` of images on grids of their shapes: 1 a defect, 0 none, -1 beside, -2 unknown.

        As int8, a list where there are several shapes. None where nothing is known of any. Raises DefectlocError for a
        mask that does not fit its photograph: one that was added after the fit was not checked before it.
        """
        if not self.masks and not self.annotated:
            return None
        return stack(self._of(path, shape) for path, shape in zip(paths, shapes, strict=True))

    def _of(self, path: str, shape: tuple[int, int]) -> NDArray[np.int8]:
        marked = np.full(shape, UNKNOWN, np.int8)
        if path in self.annotated:
            marked[:] = self.annotated[path].cells(shape)
        elif path in self.masks:
            marked[:] = marked_cells(cell_shares(read_defect_mask(self.masks[path], self.sizes[path]), shape))
        return marked


def supervision_of(fold: Fold) -> Supervision:
    """Find what `supervision.masks` and `data.annotations` give for the fold's defective training images.

    The masks are those of K images drawn by `seed`. Raises DefectlocError where fewer have one, and for annotations
    that do not fit the images.
    """
    settings, train = fold.settings, fold.rows(splits.TRAIN)
    defective = train[train["label"] == 1]
    everywhere = _annotations(fold)
    annotated = {path: each for path, each in everywhere.items() if path in set(defective["path"])}
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
    return Supervision(masks, annotated, fold.sizes, _made_from(fold, everywhere))


def _made_from(fold: Fold, annotated: dict[str, Annotated]) -> dict[str, Any]:
    """Identify masks and annotations of the data set by their bytes; empty where neither labels patches."""
    given, masks = fold.settings.supervision.masks, []
    number = given if given == "all" else int(given)
    if number:
        rows = fold.catalog[fold.catalog["label"] == 1]
        named = [(str(row.path), fold.root / row.mask_path) for row in rows.itertuples() if row.mask_path]
        named = [(path, mask) for path, mask in named if mask.is_file()]
        contents = fold.digests.of([mask for _, mask in named])
        masks = [[path, content] for (path, _), content in zip(named, contents, strict=True)]
    regions = {
        path: [[region.is_box, region.corners.tolist()] for region in each.regions] for path, each in annotated.items()
    }
    if not masks and not regions:
        return {}
    return {
        "supervision": {
            "masks": number if masks else 0,
            "annotations": digest_of(regions)[:8] if regions else None,
            "truth": digest_of(masks)[:8] if masks else None,
        }
    }


def _annotations(fold: Fold) -> dict[str, Annotated]:
    """Read the annotations of the catalog's images and check that they fit these, whatever their split."""
    if fold.settings.data.annotations is None:
        return {}
    path = Path(fold.settings.data.annotations).expanduser()
    catalog = fold.catalog.set_index("path")
    # By the names of all images: those of one that is left out may end as the path of another.
    found = read_annotations(path, fold.all_paths, fold.root)
    found = {name: each for name, each in found.items() if name in catalog.index}
    for name, each in found.items():
        if not catalog.at[name, "label"]:
            raise DefectlocError(f"data.annotations={path} marks a defect in {name}, which is a good image.")
        if each.size != image_size(fold.root / name):
            height, width = image_size(fold.root / name)
            raise DefectlocError(
                f"data.annotations={path} has {name} at {each.size[1]} x {each.size[0]} px; it is {width} x {height}."
            )
    return found

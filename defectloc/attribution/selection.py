"""Which images are explained."""

from pathlib import Path

import numpy as np
import pandas as pd

from defectloc.data.images import find_images, is_image_name
from defectloc.data.sources import DEFECTIVE_NAMES, GOOD_NAMES
from defectloc.errors import DefectlocError

UNKNOWN = -1
# Without `n`: as many as a sheet of three by three shows.
USUAL = 9


def images_of(given: str) -> tuple[Path, pd.DataFrame]:
    """Give the folder and the images of a file or folder: `path`, `label`, `defect_type`.

    Labels are told by the folders' names (`good`, `Positive`, ...), and -1 elsewhere. Raises DefectlocError where there
    is no image.
    """
    path = Path(given).expanduser()
    if path.is_dir():
        found = find_images(path)
        if not found:
            raise DefectlocError(f"images={given} holds no images (PNG, JPEG, BMP or TIFF).")
        base = path
    elif not path.is_file():
        raise DefectlocError(f"images={given} does not exist.")
    elif not is_image_name(path):
        raise DefectlocError(f"images={given} is not named as an image (PNG, JPEG, BMP or TIFF).")
    else:
        base, found = path.parent, [path]
    rows = []
    for each in found:
        name = each.absolute().parent.name
        known = name.lower().replace("_", "-")
        label = 0 if known in GOOD_NAMES else 1 if known in DEFECTIVE_NAMES else UNKNOWN
        rows.append({"path": each.relative_to(base).as_posix(), "label": label, "defect_type": name})
    return base, pd.DataFrame(rows)


def select(images: pd.DataFrame, wanted: str, n: int | None, seed: int) -> pd.DataFrame:
    """Choose `n` images at random, none twice, from all, the good, the defective, or one type; sorted by path.

    Raises DefectlocError for a class that is not there, and where there are fewer than `n`.
    """
    types = sorted(images["defect_type"].unique())
    chosen = images
    if wanted in ("good", "defective") and (images["label"] != UNKNOWN).any():
        chosen = images[images["label"] == (wanted == "defective")]
    elif wanted != "all":
        chosen = images[images["defect_type"] == wanted]
    if chosen.empty:
        raise DefectlocError(
            f"select={wanted} names none of the images; there are all, good, defective, {', '.join(types)}."
        )
    if n is not None and n > len(chosen):
        raise DefectlocError(f"n={n} is more than there are: with select={wanted} there are {len(chosen)} images.")
    places = np.random.default_rng(seed).permutation(len(chosen))[: USUAL if n is None else n]
    return chosen.iloc[np.sort(places)].reset_index(drop=True)

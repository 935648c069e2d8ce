"""The catalog: one row per image, sorted by path, and what identifies it."""

import hashlib
import json
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.model_selection import train_test_split

from defectloc import files
from defectloc.errors import DefectlocError

COLUMNS = ["path", "label", "defect_type", "mask_path", "official_split", "group", "digest"]
GOOD = "good"


def build(rows: Iterable[dict], root: Path, what: str) -> pd.DataFrame:
    """Make a catalog of rows with at least `path` (relative to `root`) and `label` (0 good, 1 defective).

    Adds the SHA-256 of each file's bytes as `digest`. Raises DefectlocError where there are no images, a file is
    missing, a path stands twice or leaves `root`, a label is neither 0 nor 1, or a class has no image.
    """
    catalog = pd.DataFrame(list(rows))
    if catalog.empty:
        raise DefectlocError(f"{what} holds no images (PNG, JPEG, BMP or TIFF) below {root}.")
    for column in ("defect_type", "mask_path", "official_split", "group"):
        if column not in catalog:
            catalog[column] = None
    for column in ("mask_path", "official_split", "group"):
        catalog[column] = catalog[column].astype(object).where(catalog[column].notna(), None)
    if not catalog["label"].isin([0, 1]).all():
        wrong = catalog.loc[~catalog["label"].isin([0, 1])].iloc[0]
        raise DefectlocError(f"{what}: the label of {wrong['path']} is {wrong['label']!r}; it must be 0 or 1.")
    catalog["label"] = catalog["label"].astype(int)
    default = np.where(catalog["label"] == 1, "defective", GOOD)
    catalog["defect_type"] = catalog["defect_type"].where(catalog["defect_type"].notna(), default).astype(object)
    # Bytes, not the locale, so that every machine sorts alike.
    catalog = catalog.sort_values("path", key=lambda paths: paths.map(str.encode)).reset_index(drop=True)
    twice = catalog.loc[catalog["path"].duplicated(), "path"]
    if len(twice):
        raise DefectlocError(f"{what} lists {twice.iloc[0]} twice.")
    without = catalog["group"].isna()
    if without.any() and not without.all():
        raise DefectlocError(f"{what} gives a group to some images but none to {catalog['path'][without.idxmax()]}.")
    for label, name in ((0, "good"), (1, "defective")):
        if not (catalog["label"] == label).any():
            raise DefectlocError(f"{what} has no {name} image; both classes are needed to learn from.")
    catalog["digest"] = digests([root / path for path in catalog["path"]])
    return catalog[COLUMNS]


def digests(paths: list[Path]) -> list[str]:
    """Compute the SHA-256 of each file's bytes, in parallel; raises DefectlocError for a missing file."""
    with ThreadPoolExecutor(4) as pool:
        return list(pool.map(files.digest, paths))


def draw(catalog: pd.DataFrame, limit: int, seed: int) -> pd.DataFrame:
    """Draw `limit` rows, each defect type (and official split) in its share; the order stays."""
    if limit >= len(catalog):
        return catalog
    strata = catalog["defect_type"] + "/" + catalog["official_split"].fillna("").astype(str)
    counts = strata.value_counts()
    # A stratum of one image, or more strata than places, cannot be drawn in its share.
    strata = strata.where(strata.map(counts) > 1, "rare " + catalog["label"].astype(str))
    if strata.nunique() > min(limit, len(catalog) - limit) or strata.value_counts().min() < 2:
        strata = catalog["label"].astype(str)
    if not 2 <= limit <= len(catalog) - 2 or strata.value_counts().min() < 2:
        raise DefectlocError(
            f"data.limit={limit} cannot be drawn with both classes in their shares from {len(catalog)} images."
        )
    kept, _ = train_test_split(np.arange(len(catalog)), train_size=limit, stratify=strata, random_state=seed)
    return catalog.iloc[np.sort(kept)].reset_index(drop=True)


def digest(catalog: pd.DataFrame) -> str:
    """Identify a catalog by its relative paths, contents, labels, types, groups and official splits."""
    columns = ["path", "digest", "label", "defect_type", "group", "official_split"]
    rows = catalog[columns].astype(object).where(catalog[columns].notna(), None)
    return hashlib.sha256(json.dumps(rows.to_numpy().tolist(), default=int).encode()).hexdigest()

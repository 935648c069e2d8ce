"""The catalog: one row per image, sorted by path, and what identifies it."""

import hashlib
import json
import re
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from sklearn.model_selection import train_test_split

from defectloc.data.digests import Digests
from defectloc.errors import DefectlocError
from defectloc.notes import say_once

COLUMNS = ["path", "label", "defect_type", "mask_path", "official_split", "group", "digest"]
GOOD = "good"


def build(rows: Iterable[dict], root: Path, what: str, digests: Digests, own: str | None = None) -> pd.DataFrame:
    """Make a catalog of rows with at least `path` (relative to `root`) and `label` (0 good, 1 defective).

    A column `own` of the rows is kept as well, for `with_groups`. Adds the SHA-256 of each file's bytes as `digest`.
    Raises DefectlocError where there are no images, an image or mask is missing or stands twice, a label is neither 0
    nor 1 or contradicts type or mask, or a class has no image.
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
    _refuse_contradictions_and_names(catalog, what)
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
    for path, mask in zip(catalog["path"], catalog["mask_path"], strict=True):
        if mask is not None and not (root / mask).is_file():
            raise DefectlocError(f"{what}: the mask {mask} of {path} is not in {root}.")
    shared = catalog[catalog["mask_path"].notna() & catalog["mask_path"].duplicated(keep=False)]
    if len(shared):
        mask = shared["mask_path"].iloc[0]
        one, other = shared.loc[shared["mask_path"] == mask, "path"].iloc[:2]
        raise DefectlocError(f"{what}: {mask} is the mask of both {one} and {other}; give each image its own mask.")
    catalog["digest"] = digests.of([root / path for path in catalog["path"]])
    return catalog[[*COLUMNS, own] if own in catalog and own not in COLUMNS else COLUMNS]


def _refuse_contradictions_and_names(catalog: pd.DataFrame, what: str) -> None:
    good = catalog["label"] == 0
    contradicts = ~good & (catalog["defect_type"] == GOOD)
    if contradicts.any():
        wrong = catalog["path"][contradicts.idxmax()]
        raise DefectlocError(f"{what}: the label of {wrong} is 1 (defective), but its type of defect is '{GOOD}'.")
    contradicts = good & catalog["mask_path"].notna()
    if contradicts.any():
        path, mask = catalog.loc[contradicts.idxmax(), ["path", "mask_path"]]
        raise DefectlocError(
            f"{what}: the label of {path} is 0 (good), but it has the mask {mask}; correct one of them."
        )
    contradicts = good & catalog["defect_type"].isin(catalog.loc[~good, "defect_type"])
    if contradicts.any():
        path, kind = catalog.loc[contradicts.idxmax(), ["path", "defect_type"]]
        say_once(
            f"good of a type in {what}",
            f"{what}: {int(contradicts.sum())} good images have a type of defect that defective ones have, such as "
            f"{path} ({kind}); their labels may be wrong.",
        )
    for path in catalog["path"]:
        # No table of results could be written with such a name.
        if not path.isascii() and path != path.encode(errors="ignore").decode():
            raise DefectlocError(f"{what}: the name {path!a} is not valid UTF-8; rename the file.")


def with_groups(catalog: pd.DataFrame, group: str) -> pd.DataFrame:
    """Fill the column `group` from another column, or from what a regular expression finds in the path.

    Gives the columns of every catalog.
    """
    if group in catalog.columns:
        values = catalog[group]
        if values.isna().any():
            raise DefectlocError(
                f"data.group={group}: the column has no value for {catalog['path'][values.isna().idxmax()]}."
            )
        return catalog.assign(group=values.astype(str))[COLUMNS]
    try:
        pattern = re.compile(group)
    except re.error as error:
        raise DefectlocError(f"data.group={group} is neither a column nor a regular expression ({error}).") from error
    number = min(pattern.groups, 1)
    # A group of the expression that may be left out gives None as well.
    found = catalog["path"].map(lambda path: match[number] if (match := pattern.search(path)) else None)
    if found.isna().any():
        path = catalog["path"][found.isna().idxmax()]
        raise DefectlocError(f"data.group={group} is no column, and as a regular expression finds nothing in {path}.")
    return catalog.assign(group=found)


def join_copies(catalog: pd.DataFrame, what: str) -> pd.DataFrame:
    """Put images of equal bytes into one group, together with the groups they belong to, and say how many there are.

    Without copies the catalog is returned as it is. Otherwise each image has a group afterwards, most of them a group
    of their own.
    """
    copies = catalog["digest"].duplicated()
    if not copies.any():
        return catalog
    say_once(
        f"copies in {what} {len(catalog)}",
        f"{what}: {int(copies.sum())} of {len(catalog)} images are copies of others, byte by byte, such as "
        f"{' and '.join(_first_copies(catalog))}; copies belong to one group, which a split into folds keeps together.",
    )
    n_labels = catalog.groupby("digest")["label"].nunique()
    conflicts = catalog[catalog["digest"].map(n_labels) > 1]
    if len(conflicts):
        say_once(
            f"conflicts in {what} {len(catalog)}",
            f"{what}: identical files with different labels: {conflicts['digest'].nunique()} times, such as "
            f"{' and '.join(_first_copies(conflicts))}; one of the labels is wrong.",
        )
    if catalog["group"].isna().all():
        return catalog.assign(group=catalog.groupby("digest")["path"].transform("first"))
    return catalog.assign(group=_joined(catalog["group"], catalog["digest"]))


def _first_copies(catalog: pd.DataFrame) -> list[str]:
    digest = catalog.loc[catalog["digest"].duplicated(), "digest"].iloc[0]
    return catalog.loc[catalog["digest"] == digest, "path"].tolist()[:2]


def _joined(groups: pd.Series, digests: pd.Series) -> pd.Series:
    """Merge groups that share a digest, each named by the first of them."""
    names, contents = pd.factorize(groups)[0], pd.factorize(digests)[0]
    n_names, n = names.max() + 1, len(groups)
    # Groups and contents are nodes, images the edges between them.
    edges = (np.ones(n), (names, n_names + contents))
    n_nodes = n_names + contents.max() + 1
    parts = connected_components(coo_matrix(edges, (n_nodes, n_nodes)), directed=False)[1][names]
    return groups.groupby(parts).transform("first")


def sample(catalog: pd.DataFrame, limit: int, seed: int) -> pd.DataFrame:
    """Choose `limit` rows at random, each defect type (and official split) in its share, in the catalog's order."""
    if limit >= len(catalog):
        return catalog
    strata = catalog["defect_type"] + "/" + catalog["official_split"].fillna("").astype(str)
    counts = strata.value_counts()
    # A stratum of one image, or more strata than places, cannot be sampled in its share.
    strata = strata.where(strata.map(counts) > 1, "rare " + catalog["label"].astype(str))
    if strata.nunique() > min(limit, len(catalog) - limit) or strata.value_counts().min() < 2:
        strata = catalog["label"].astype(str)
    if not 2 <= limit <= len(catalog) - 2 or strata.value_counts().min() < 2:
        raise DefectlocError(
            f"data.limit={limit} cannot be sampled with both classes in their shares from {len(catalog)} images."
        )
    kept, _ = train_test_split(np.arange(len(catalog)), train_size=limit, stratify=strata, random_state=seed)
    return catalog.iloc[np.sort(kept)].reset_index(drop=True)


def digest(catalog: pd.DataFrame) -> str:
    """Identify a catalog by its relative paths, contents, labels, types, groups and official splits."""
    columns = ["path", "digest", "label", "defect_type", "group", "official_split"]
    rows = catalog[columns].astype(object).where(catalog[columns].notna(), None)
    return hashlib.sha256(json.dumps(rows.to_numpy().tolist(), default=int).encode()).hexdigest()

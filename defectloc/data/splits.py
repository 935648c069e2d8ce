"""Which image is for training, validation and test."""

import sys
from collections.abc import Hashable

import numpy as np
import pandas as pd
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

from defectloc.config import DataConfig
from defectloc.data.validation_split import validation_rows
from defectloc.errors import DefectlocError
from defectloc.notes import say_once

# Unused are training defects of which `data.n_defective` keeps no more.
TRAIN, VALIDATION, TEST, UNUSED = "train", "validation", "test", "unused"


def split(catalog: pd.DataFrame, data: DataConfig, n_folds: int, fold: int) -> pd.Series:
    """Name each row's split in a fold: 'train', 'validation' or 'test'; the same on every machine for equal keys.

    With `data.n_defective` the defects of a fold's training images beyond it are 'unused'. Raises DefectlocError where
    a class has too few images or the source has no split of its own.
    """
    pooled = data.split == "kfold"
    is_test = _kfold(catalog, n_folds, fold, data.split_seed) if pooled else _own_split(catalog, data)
    part = pd.Series(np.where(is_test, TEST, TRAIN), index=catalog.index)
    if pooled and data.n_defective is not None and not data.within_fold:
        part.iloc[_surplus(catalog, ~is_test, data)] = UNUSED
    _check_classes(part, catalog, data)
    if data.validation > 0:
        rows = np.flatnonzero(part == TRAIN)
        part.iloc[validation_rows(catalog.iloc[rows], rows, data)] = VALIDATION
        _check_classes(part, catalog, data)
    for label, name in ((0, "good"), (1, "defective")):
        # Groups are not divided, so that a fold may get none of a class.
        if not (is_test & (catalog["label"] == label).to_numpy()).any():
            print(f"note: the test split has no {name} image, so that some scores cannot be measured", file=sys.stderr)
    return part


def _check_classes(part: pd.Series, catalog: pd.DataFrame, data: DataConfig) -> None:
    """Raise DefectlocError where the training images lack a class."""
    # Without a labelled defect the memory bank works alone.
    needed = ((0, "good"),) if data.n_defective == 0 else ((0, "good"), (1, "defective"))
    for label, name in needed:
        if not ((part == TRAIN) & (catalog["label"] == label)).any():
            hint = " (data.n_defective=N moves N defects of the test split there)" if data.split == "official" else ""
            raise DefectlocError(f"data.split={data.split} leaves no {name} image to train on{hint}.")


def within(catalog: pd.DataFrame, data: DataConfig) -> pd.DataFrame:
    """Leave out the test images of the fold `data.within_fold`, so that what the others choose has not seen them.

    With `data.n_defective` its unused defects are left out, too. Raises DefectlocError where it is no fold.
    """
    if not data.within_fold:
        return catalog
    if data.split != "kfold":
        raise DefectlocError(f"data.within_fold needs data.split=kfold, not {data.split}.")
    if len(data.within_fold) != 2 or data.within_fold[1] < 2 or not 0 <= data.within_fold[0] < data.within_fold[1]:
        raise DefectlocError(f"data.within_fold={data.within_fold} must be [fold, n_folds], for example [0,5].")
    fold, n_folds = data.within_fold
    is_kept = ~_kfold(catalog, n_folds, fold, data.split_seed)
    if data.n_defective is not None:
        is_kept[_surplus(catalog, is_kept, data)] = False
    return catalog[is_kept].reset_index(drop=True)


def _kfold(catalog: pd.DataFrame, n_folds: int, fold: int, seed: int) -> np.ndarray:
    groups = catalog["group"]
    for label, name in ((0, "good"), (1, "defective")):
        of_class = catalog["label"] == label
        n = groups[of_class].nunique() if groups.notna().all() else int(of_class.sum())
        if n < n_folds:
            unit = "groups of " if groups.notna().all() else ""
            raise DefectlocError(
                f"n_folds={n_folds} needs as many {unit}{name} images; there are {n}. Add some, or lower n_folds."
            )
    strata = _strata(catalog, n_folds, "n_folds")
    if groups.notna().all():
        folds = StratifiedGroupKFold(n_folds, shuffle=True, random_state=seed).split(catalog, strata, groups)
    else:
        folds = StratifiedKFold(n_folds, shuffle=True, random_state=seed).split(catalog, strata)
    is_test = np.zeros(len(catalog), bool)
    is_test[list(folds)[fold][1]] = True
    return is_test


def _strata(catalog: pd.DataFrame, least: int, why: str) -> pd.Series:
    """Merge the defect types with fewer than `least` images, and say so."""
    strata = catalog["defect_type"].astype(str)
    for label in (0, 1):
        of_class = catalog["label"] == label
        counts = strata[of_class].value_counts().sort_index(kind="stable").sort_values(kind="stable")
        rare = list(counts.index[counts < least])
        if not rare:
            continue
        rest = counts.index.difference(rare, sort=False)
        # Where all rare types together are still too few, the smallest common type takes them in.
        if counts[rare].sum() < least and len(rest):
            rare.append(rest[0])
        if len(rare) > 1:
            print(
                f"note: defect types with fewer images than {why}={least} are merged for the split: {', '.join(rare)}",
                file=sys.stderr,
            )
            strata = strata.where(~(of_class & strata.isin(rare)), "+".join(rare))
    return strata


def _own_split(catalog: pd.DataFrame, data: DataConfig) -> np.ndarray:
    official = catalog["official_split"]
    if official.isna().all():
        raise DefectlocError(
            f"data.split={data.split} needs a source that names train and test; data={data.name} does not, "
            "so use data.split=kfold."
        )
    other = ~official.isin([TRAIN, TEST])
    if other.any():
        path, value = catalog.loc[other.idxmax(), ["path", "official_split"]]
        shown = repr(value) if isinstance(value, str) else "empty"
        raise DefectlocError(
            f"data.split={data.split}: official_split of {path} is {shown}, but must be '{TRAIN}' or '{TEST}' "
            f"(data.validation draws the validation split from '{TRAIN}')."
        )
    is_test = (official == TEST).to_numpy(copy=True)
    grouped = catalog["group"].notna().all()
    if data.n_defective:
        is_test[_moved(catalog["group"] if grouped else pd.Series(catalog.index), catalog["label"], is_test, data)] = (
            False
        )
    if grouped:
        _note_straddling(catalog, is_test, data)
    return is_test


def _note_straddling(catalog: pd.DataFrame, is_test: np.ndarray, data: DataConfig) -> None:
    """Say how many groups the source's own split has torn apart."""
    sides = catalog.assign(is_test=is_test).groupby("group", sort=False)["is_test"].nunique()
    torn = sides.index[sides > 1]
    if len(torn):
        of_first = catalog["group"] == torn[0]
        one, other = (catalog["path"][of_first & side].iloc[0] for side in (~is_test, is_test))
        say_once(
            f"straddle {data.name} {data.split}",
            f"data.split={data.split}: {len(torn)} of {len(sides)} groups have images for training and for test, such "
            f"as {one} and {other}, so that test scores may be too good; data.split=kfold keeps groups together.",
        )


def _moved(groups: pd.Series, labels: pd.Series, is_test: np.ndarray, data: DataConfig) -> np.ndarray:
    """Choose the rows that move from test to training: `data.n_defective` defects at random, and all of their groups.

    A group with more defects than are still wanted is passed over; where no other is left, fewer move, which is said.
    """
    wanted = data.n_defective or 0
    candidates = np.flatnonzero(is_test & (labels == 1).to_numpy())
    if wanted >= len(candidates):
        raise DefectlocError(
            f"data.n_defective={wanted} would leave no defect to test on; there are {len(candidates)}."
        )
    of_candidates = groups.iloc[candidates]
    sizes = of_candidates.value_counts()
    chosen: list[Hashable] = []
    n = 0
    for group in of_candidates.iloc[np.random.default_rng(data.split_seed).permutation(len(candidates))].unique():
        if n + sizes[group] <= wanted:
            chosen.append(group)
            n += int(sizes[group])
    if n == 0:
        raise DefectlocError(
            f"data.n_defective={wanted} moves no defect, because whole groups move and the smallest has {sizes.min()}."
        )
    if n < wanted:
        say_once(
            f"n_defective {data.name} {wanted}",
            f"data.n_defective={wanted}: {n} defects move, because whole groups do.",
        )
    return np.flatnonzero(is_test & groups.isin(chosen).to_numpy())


def _surplus(catalog: pd.DataFrame, is_training: np.ndarray, data: DataConfig) -> np.ndarray:
    """Choose the defects among the training rows that are not used, so that `data.n_defective` of them stay."""
    defects, kept = np.flatnonzero(is_training & (catalog["label"] == 1).to_numpy()), data.n_defective or 0
    if kept > len(defects):
        raise DefectlocError(f"data.n_defective={kept}, but the training images of this fold have {len(defects)}.")
    return np.random.default_rng(data.split_seed).permutation(defects)[kept:]

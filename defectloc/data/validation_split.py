"""Which training images are set aside for validation."""

import sys
from fractions import Fraction

import numpy as np
import pandas as pd
from sklearn.model_selection import StratifiedGroupKFold, train_test_split

from defectloc.config import DataConfig
from defectloc.errors import DefectlocError


def validation_rows(rest: pd.DataFrame, rows: np.ndarray, data: DataConfig) -> np.ndarray:
    """Choose `data.validation` of the training rows, stratified; rows of one group stay together."""
    if rest["group"].notna().all():
        return rows[_validation_of_groups(rest, data)]
    # The only image of a class is for learning from.
    several = (rest["label"].map(rest["label"].value_counts()) > 1).to_numpy()
    rest, rows = rest[several], rows[several]
    strata = rest["defect_type"].astype(str)
    # A type with one image left cannot stand on both sides; there its class is enough.
    alone = strata.map(strata.value_counts()) < 2
    strata = strata.where(~alone, "class " + rest["label"].astype(str))
    n = max(1, round(data.validation * len(rest)))
    if strata.nunique() > min(n, len(rest) - n) or strata.value_counts().min() < 2:
        strata = rest["label"].astype(str)
    if not 2 <= n <= len(rest) - 2:
        raise DefectlocError(
            f"data.validation={data.validation} cannot be set aside from {len(rest)} training images; "
            "add images or use data.validation=0."
        )
    positions = np.arange(len(rest))
    chosen = train_test_split(positions, test_size=n, stratify=strata, random_state=data.split_seed)[1]
    # Maps are rescaled by good validation images, so of very few one is set aside all the same.
    good = positions[(rest["label"] == 0).to_numpy()]
    if len(good) and not np.isin(good, chosen).any():
        chosen = np.append(chosen, np.random.default_rng(data.split_seed).choice(good))
    return rows[chosen]


def joins_folds(catalog: pd.DataFrame, data: DataConfig) -> bool:
    """Tell whether groups are set aside for validation as several folds joined, and not as one."""
    return data.validation > 0 and bool(catalog["group"].notna().all()) and _as_folds(data.validation).numerator > 1


def _as_folds(share: float, most: int = sys.maxsize) -> Fraction:
    """Give a share as that of a number of folds, of `most` at most, which are tenths where it needs no finer ones."""
    return Fraction(share).limit_denominator(min(max(10, round(1 / share), round(1 / (1 - share))), most))


def _validation_of_groups(rest: pd.DataFrame, data: DataConfig) -> np.ndarray:
    """Choose whole groups of the training rows: as many folds as come nearest to `data.validation`."""
    share, labels, n_groups = data.validation, rest["label"].to_numpy(), rest["group"].nunique()
    most = min(n_groups, int(np.bincount(labels).max()))
    if most < 2 or share >= 1:
        raise DefectlocError(
            f"data.validation={share} cannot be set aside from {len(rest)} training images in {n_groups} groups; "
            "add images or use data.validation=0."
        )
    n_folds = _as_folds(share, most).denominator
    if n_folds == 1:
        # The share is nearer to none, or to all, than to folds so coarse.
        n_folds = most
    n = min(max(1, round(share * n_folds)), n_folds - 1)
    folds = StratifiedGroupKFold(n_folds, shuffle=True, random_state=data.split_seed)
    parts = [part for _, part in folds.split(rest, labels, rest["group"])]

    def leaves_all(rows: np.ndarray) -> bool:
        return set(np.delete(labels, rows)) == set(labels)

    # What is left must still show each class: of the few groups of one, the first part may have all.
    while n > 1 and not leaves_all(np.concatenate(parts[:n])):
        n -= 1
    return np.concatenate(parts[:n]) if n > 1 else next(filter(leaves_all, parts), parts[0])

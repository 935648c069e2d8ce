"""Numbers that a key may have."""

import math
import sys
from collections.abc import Iterator
from dataclasses import is_dataclass
from typing import Any

from defectloc.errors import DefectlocError

# More than any machine has cores; a system refuses some number above it without a word that helps.
MOST_THREADS = 1024


def positive(key: str, value: float) -> None:
    """Raise DefectlocError unless a key's value is greater than 0 and finite."""
    if not 0 < value < math.inf:
        raise DefectlocError(f"{key}={value} must be greater than 0 and finite.")


def is_positive(text: str) -> bool:
    """Tell whether a text is a number greater than 0 and finite."""
    try:
        return 0 < float(text) < math.inf
    except ValueError:
        return False


def check_numbers(settings: Any) -> None:
    """Raise DefectlocError for integers that no machine can follow, and for counts and seeds out of range."""
    for key, value in _integers(settings):
        if abs(value) > sys.maxsize:
            raise DefectlocError(f"the value of {key} is too large for a number.")
    for key in ("threads", "batch_size", "n", "columns"):
        if getattr(settings, key, None) is not None:
            positive(key, getattr(settings, key))
    if (getattr(settings, "threads", None) or 0) > MOST_THREADS:
        raise DefectlocError(f"threads={settings.threads} must be at most {MOST_THREADS}.")
    if getattr(settings, "seed", 0) < 0:
        raise DefectlocError(f"seed={settings.seed} must not be negative.")


def _integers(settings: Any, prefix: str = "") -> Iterator[tuple[str, int]]:
    for key, value in vars(settings).items():
        if is_dataclass(value):
            yield from _integers(value, f"{prefix}{key}.")
        elif isinstance(value, int):
            yield prefix + key, value

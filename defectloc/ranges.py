"""Numbers that a key may have."""

import math

from defectloc.errors import DefectlocError


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

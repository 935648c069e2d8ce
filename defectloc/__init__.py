"""Find defects on photographs of parts when all you have is "good" or "defective" per image."""

import importlib
import os
from typing import TYPE_CHECKING, Any

from defectloc.errors import DefectlocError

if TYPE_CHECKING:
    from defectloc.runs.prediction import Prediction
    from defectloc.runs.predictor import Predictor

__version__ = "0.1.0"
__all__ = ["DefectlocError", "Prediction", "Predictor", "__version__", "load"]

# Imported when first asked for: with them comes torch, which takes seconds and which not every command needs.
_LATE = {"Prediction": "defectloc.runs.prediction", "Predictor": "defectloc.runs.predictor"}


def load(path: str | os.PathLike[str], device: str = "auto", threads: int | None = None) -> "Predictor":
    """Load what `train` has left in the run directory `path`, ready to predict photographs.

    `device` is 'auto', 'cpu', 'cuda' or 'mps'; `threads` the number of processor threads of the whole process (None: as
    it is). Raises DefectlocError where there is no finished run, or no such device.
    """
    return importlib.import_module("defectloc.runs.predictor").load(path, device, threads)


def __getattr__(name: str) -> Any:
    """Give the classes that annotations may name."""
    if name in _LATE:
        return getattr(importlib.import_module(_LATE[name]), name)
    raise AttributeError(f"module 'defectloc' has no attribute '{name}'")

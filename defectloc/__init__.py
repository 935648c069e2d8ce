"""Find defects on photographs of parts when all you have is "good" or "defective" per image."""

import importlib
import os
from typing import TYPE_CHECKING, Any

from defectloc.errors import DefectlocError

if TYPE_CHECKING:
    from defectloc.deployment.exported_model import ExportedModel
    from defectloc.inference.prediction import Prediction
    from defectloc.runs.predictor import Predictor

__version__ = "0.1.0"
__all__ = ["DefectlocError", "ExportedModel", "Prediction", "Predictor", "__version__", "load"]

# Imported when first asked for: with them comes torch, which takes seconds and which not every command needs.
_LATE = {
    "ExportedModel": "defectloc.deployment.exported_model",
    "Prediction": "defectloc.inference.prediction",
    "Predictor": "defectloc.runs.predictor",
}


def load(path: str | os.PathLike[str], device: str = "auto", threads: int | None = None) -> "Predictor | ExportedModel":
    """Load the run directory `path`, or the folder of an exported model, ready to predict photographs.

    `device` is 'auto', 'cpu', 'cuda' or 'mps'; `threads` the number of processor threads of the whole process (None: as
    it is). An exported model computes on the CPU, with `threads` of its own. Raises DefectlocError where there is
    neither a finished run nor an exported model, or no such device.
    """
    return importlib.import_module("defectloc.runs.predictor").load(path, device, threads)


def __getattr__(name: str) -> Any:
    """Give the classes that annotations may name."""
    if name in _LATE:
        return getattr(importlib.import_module(_LATE[name]), name)
    raise AttributeError(f"module 'defectloc' has no attribute '{name}'")

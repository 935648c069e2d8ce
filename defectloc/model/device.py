"""Which device a command runs on."""

import torch

from defectloc.errors import DefectlocError


def choose(device: str) -> str:
    """Give 'cuda', 'mps' or 'cpu' for a name or 'auto'; raises DefectlocError for one that is not there."""
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if device == "auto":
        return next(name for name, found in there.items() if found)
    if not there[device]:
        raise DefectlocError(
            f"device={device} is not there; this machine has {', '.join(n for n in there if there[n])}."
        )
    return device

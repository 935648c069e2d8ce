"""The optional package timm, and weights by its own means."""

from typing import Any

from torch import nn

from defectloc.errors import DefectlocError


def timm() -> Any:
    """Import the package; raises DefectlocError where it is not installed."""
    try:
        import timm as package
    except ImportError as error:
        raise DefectlocError("the package 'timm' is not installed: pip install 'defectloc[timm]'.") from error
    return package


def pretrained(name: str, others: str, **options: Any) -> nn.Module:
    """Build a network of timm with the weights that timm finds in its cache or downloads.

    Raises DefectlocError that names the `others` that can be done where they are not reachable.
    """
    package = timm()
    try:
        return package.create_model(name, pretrained=True, **options)
    # The clients of the model hub raise errors of many kinds, of which none is of timm's own.
    except Exception as error:
        what = str(error).strip().partition("\n")[0] or type(error).__name__
        raise DefectlocError(
            f"timm's weights of {name} are not reachable ({what}); {others}, or give a state dict with "
            "model.weights=FILE, or train from nothing with model.weights=none."
        ) from error

"""VGG16 with an eighth of its channels: the same layers, and a fit in a third of the time.

As a script it is `defectloc COMMAND ...` with that network: `python tests/narrow.py COMMAND ...`.
"""

import sys
from pathlib import Path

import pytest

from defectloc import cli

# -P, since the modules beside this one are none to be imported by their bare names.
COMMAND = [sys.executable, "-P", str(Path(__file__).resolve())]


def make_narrow(patch: pytest.MonkeyPatch) -> None:
    """Make VGG16 narrow as long as the patch lasts."""
    # Here, since the number of threads is set before torch is imported.
    from torchvision import models

    widths = models.vgg.cfgs["D"]
    if max(width for width in widths if isinstance(width, int)) == 512:
        patch.setitem(models.vgg.cfgs, "D", [width // 8 if isinstance(width, int) else width for width in widths])


if __name__ == "__main__":
    with pytest.MonkeyPatch.context() as patch_of_this_process:
        make_narrow(patch_of_this_process)
        cli.main()

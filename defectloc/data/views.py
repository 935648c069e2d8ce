"""Flips as a finite set of views, so that what the frozen layers make of each can be stored."""

from collections.abc import Sequence

import numpy as np

from defectloc.errors import DefectlocError

# The axes of an (H, W, 3) image that a view turns round.
AXES: dict[str, tuple[int, ...]] = {"plain": (), "horizontal": (1,), "vertical": (0,), "both": (0, 1)}


def flip(image: np.ndarray, view: str) -> np.ndarray:
    """Give one view of an image `(H, W, 3)` or a map `(h, w)`: the same pixels in another order."""
    return np.ascontiguousarray(np.flip(image, AXES[view]))


class Views:
    """A set of views, of which an epoch draws one for each image as a function of `(seed, epoch, image)`."""

    def __init__(self, names: Sequence[str], seed: int) -> None:
        """Raises DefectlocError for a view that is not known."""
        for name in names:
            if name not in AXES:
                raise DefectlocError(f"augmentation.views: '{name}' is no view; choose from {', '.join(AXES)}.")
        self.names, self._seed = list(names), seed

    def draw(self, epoch: int, index: int) -> int:
        """Choose the position of a view among the names, each as likely as the others."""
        return int(np.random.default_rng([self._seed, epoch, index]).integers(len(self.names)))

    def __call__(self, image: np.ndarray, epoch: int, index: int) -> np.ndarray:
        """Change an `(H, W, 3)` uint8 image, as a random pipeline would."""
        return flip(image, self.names[self.draw(epoch, index)])

"""Random changes to training images, by albumentations."""

import os
from typing import Any

import numpy as np

from defectloc.config import AugmentationConfig
from defectloc.errors import DefectlocError


class Augmentation:
    """A pipeline whose outcome is a function of `(seed, epoch, image)`, whichever worker computes it."""

    def __init__(self, config: AugmentationConfig, seed: int) -> None:
        """Raises DefectlocError for a transform that albumentations does not have or that refuses its arguments."""
        # albumentations asks its author's server for a newer version when it is imported.
        os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"
        import albumentations as A

        self._seed = seed
        transforms = []
        for entry in config.transforms:
            arguments: dict[str, Any] = dict(entry)
            name = str(arguments.pop("transform", "?"))
            kind = getattr(A, name, None)
            if not (isinstance(kind, type) and issubclass(kind, A.BasicTransform)):
                raise DefectlocError(f"augmentation={config.name}: albumentations has no transform '{name}'.")
            try:
                transforms.append(kind(**arguments))
            except (TypeError, ValueError) as error:
                first = str(error).splitlines()[0]
                raise DefectlocError(f"augmentation={config.name}: {name} refuses its arguments ({first}).") from error
        self._pipeline = A.Compose(transforms)

    def __call__(self, image: np.ndarray, epoch: int, index: int) -> np.ndarray:
        """Change an `(H, W, 3)` uint8 image."""
        self._pipeline.set_random_seed(int(np.random.SeedSequence([self._seed, epoch, index]).generate_state(1)[0]))
        return self._pipeline(image=image)["image"]

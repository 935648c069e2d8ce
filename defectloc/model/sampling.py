"""Samples of bounded size from images that come one after the other."""

import torch


class PatchSampler:
    """Chooses the same number of patches of each image at random, at least one, and at most `places` in all.

    Where there are more images than places, each image has the same probability to give its one patch.
    """

    def __init__(self, n_images: int, places: int, generator: torch.Generator) -> None:
        self._quota, self._generator, self._n_passed = max(1, places // max(n_images, 1)), generator, 0
        self._chosen = torch.ones(n_images, dtype=torch.bool)
        if n_images > places:
            self._chosen[:] = False
            self._chosen[torch.randperm(n_images, generator=generator)[:places]] = True

    def indices(self, n_patches: int) -> torch.Tensor:
        """Give the indices of the next image's patches, none of an image that was not chosen."""
        # On the CPU, since random numbers differ between devices.
        order = torch.randperm(n_patches, generator=self._generator)
        quota = self._quota if self._chosen[self._n_passed] else 0
        self._n_passed += 1
        return order[:quota]

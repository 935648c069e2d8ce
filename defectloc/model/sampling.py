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


class Reservoir:
    """A sample of at most `places` rows of all that are added, each subset equally probable; the first ones in order.

    Each row gets a random key, and the smallest keys are kept (Efraimidis and Spirakis 2006, with equal weights).
    """

    def __init__(self, places: int, generator: torch.Generator) -> None:
        self.places, self.n_added, self._generator = places, 0, generator
        self._keys = torch.zeros(0, dtype=torch.float64)
        self._rows = torch.zeros(0, 0)

    def add(self, rows: torch.Tensor) -> None:
        """Add rows `(n, C)`."""
        if self.n_added == 0:
            # Memory that is not written to takes no room.
            self._rows = torch.empty(self.places, rows.shape[1], dtype=rows.dtype)
        self.n_added += len(rows)
        n_kept = len(self._keys)
        keys = torch.cat([self._keys, torch.rand(len(rows), generator=self._generator, dtype=torch.float64)])
        kept = torch.zeros(len(keys), dtype=torch.bool)
        kept[keys.argsort()[: self.places]] = True
        new = kept[n_kept:]
        vacant = torch.cat([(~kept[:n_kept]).nonzero()[:, 0], torch.arange(n_kept, self.places)])[: int(new.sum())]
        self._rows[vacant] = rows[new]
        grown = torch.cat([self._keys, torch.zeros(int(kept.sum()) - n_kept, dtype=torch.float64)])
        grown[vacant] = keys[n_kept:][new]
        self._keys = grown

    @property
    def rows(self) -> torch.Tensor:
        """Give the sample `(n, C)`."""
        return self._rows[: len(self._keys)]

"""The patches of training photographs, each a bag: all are kept, or a share of each where memory does not hold them."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from defectloc.model.kept_patches import CLAMP, KeptPatches, drawn_images
from defectloc.progress import images_bar

# Patches that are kept of a photograph, at most, and at least before photographs are left out.
MOST_PATCHES = 2048
LEAST_PATCHES = 512
# Of them, those that stand out: the rest are drawn at random, so that the background is known as well.
STANDING_OUT = 0.5
# Share of a photograph's patches up to which each round of the fit keeps others; of a larger one they hardly differ.
REDRAWN = 0.9
# Bytes of a photograph's patches up to which they are held between being scored and being copied: to compute those of a
# large photograph takes as long as to score them.
MOST_HELD = 2**30

# Gives the standardised patches `(p, C)` of one photograph in pieces, in the order of its map, as often as asked.
Pieces = Callable[[], Iterable[torch.Tensor]]
Score = Callable[[torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class Bags:
    """Training photographs by number: `open_` one for its patches, of which it has `n_patches` `(N,)`."""

    open_: Callable[[int], Pieces]
    n_patches: NDArray[np.integer]

    def n_kept(self, channels: int, budget: int) -> int:
        """Count the patches kept of each photograph; where it has fewer, they are repeated.

        As many as a `budget` in bytes holds of all photographs, between `LEAST_PATCHES` and `MOST_PATCHES`.
        """
        room = budget // (2 * channels * len(self.n_patches))
        return int(min(self.n_patches.max(), MOST_PATCHES, max(LEAST_PATCHES, room)))

    def is_redrawn(self, n_kept: int) -> bool:
        """Tell whether so few patches of a photograph are kept that each round of the fit keeps others."""
        return n_kept < REDRAWN * self.n_patches.max()

    def read(
        self,
        truth: NDArray[np.bool_],
        members: NDArray[np.bool_],
        seed: int,
        device: str,
        budget: int,
        distances: Sequence[NDArray] | NDArray | None,
        known: Sequence[NDArray] | NDArray | None,
        score: Score | Sequence[NDArray] | NDArray | None,
        round_: int = 0,
    ) -> tuple[KeptPatches, KeptPatches | None]:
        """Keep patches of good and of defective photographs (None without one), within a `budget` in bytes.

        Where it does not hold `LEAST_PATCHES` of each, photographs are drawn by `seed` (see `drawn_images`). Of N
        photographs `truth` `(N,)` tells which are defective, `members` `(M, N)` which of M members may learn from each.
        `distances` are in standard deviations, `known` labels by a person: 1 a defect, 0 none, -1 neither, `UNKNOWN`
        otherwise, both `(h, w)` of each photograph. Those patches stand out that a person has marked as defects, and
        those of the largest `score`: `(h, w)` of each photograph, or a function of patches `(p, C)` to `(p,)`; without
        either all are drawn. Deterministic in `seed` and `round_`.
        """
        channels = next(iter(self.open_(0)())).shape[1]
        n_kept, kept = self.n_kept(channels, budget), []
        drawn = drawn_images(truth, seed, budget // (2 * n_kept * channels))
        with images_bar("patch head, patches", sum(map(len, drawn))) as advance:
            for numbers in drawn:
                store = torch.empty((len(numbers), n_kept, channels), dtype=torch.float16, device=device)
                places = np.empty((len(numbers), n_kept), np.intp)
                for row, number in enumerate(numbers.tolist()):
                    scores, pieces = _scored(self.open_(number), score, number)
                    marked = None if known is None else known[number].ravel() == 1
                    rng = np.random.default_rng([seed, number, round_])
                    places[row] = _places(int(self.n_patches[number]), n_kept, scores, marked, rng)
                    _gather(pieces, places[row], store[row])
                    advance(1)
                kept_distances, given = (_of_places(maps, numbers, places, device) for maps in (distances, known))
                allowed = torch.from_numpy(members[:, numbers]).to(device)
                far = None if kept_distances is None else kept_distances.float()
                kept.append(KeptPatches(store, allowed, far, given))
        return kept[0], kept[1] if len(kept[1].patches) else None


def _places(
    n_patches: int, n_kept: int, scores: NDArray | None, marked: NDArray | None, rng: np.random.Generator
) -> NDArray[np.intp]:
    """Choose which of a photograph's patches are kept, in the order of its map."""
    if n_patches <= n_kept:
        return np.sort(np.resize(np.arange(n_patches), n_kept))
    if scores is None and marked is not None:
        scores = np.zeros(n_patches)
    first = np.empty(0, np.intp)
    if scores is not None:
        raised = scores if marked is None else np.where(marked, np.inf, scores)
        # In random order where they are equal, as all marked ones are: else those of a map's upper rows come first.
        order = np.argsort(-raised, kind="stable") if marked is None else np.lexsort((rng.random(n_patches), -raised))
        first = order[: round(STANDING_OUT * n_kept)]
    others = np.setdiff1d(np.arange(n_patches), first)
    return np.sort(np.concatenate([first, rng.choice(others, n_kept - len(first), replace=False)]))


def _of_places(
    maps: Sequence[NDArray] | NDArray | None, numbers: NDArray[np.intp], places: NDArray[np.intp], device: str
) -> torch.Tensor | None:
    """Give the values `(n, P)` of photographs' maps at the places that were kept."""
    if maps is None:
        return None
    values = [maps[number].ravel()[at] for number, at in zip(numbers.tolist(), places, strict=True)]
    return torch.from_numpy(np.stack(values)).to(device)


def _scored(
    pieces: Pieces, score: Score | Sequence[NDArray] | NDArray | None, number: int
) -> tuple[NDArray | None, Pieces]:
    """Give the scores of a photograph's patches, and these again: as half floats, if computed here and few."""
    if score is None:
        return None, pieces
    if not callable(score):
        return score[number].ravel(), pieces
    scores: list[torch.Tensor] = []
    held: list[torch.Tensor] = []
    n_bytes = 0
    for piece in pieces():
        clamped = piece.clamp(-CLAMP, CLAMP)
        scores.append(score(clamped))
        n_bytes += 2 * clamped.numel()
        if n_bytes <= MOST_HELD:
            held.append(clamped.half())
        else:
            held.clear()
    return torch.cat(scores).cpu().numpy(), (lambda: held) if n_bytes <= MOST_HELD else pieces


def _gather(pieces: Pieces, places: NDArray[np.intp], into: torch.Tensor) -> None:
    """Copy the patches at sorted places of a photograph."""
    at = 0
    for piece in pieces():
        low, high = np.searchsorted(places, [at, at + len(piece)])
        here = torch.from_numpy(places[low:high] - at).to(piece.device)
        into[low:high] = piece[here].clamp(-CLAMP, CLAMP).half()
        at += len(piece)

"""Exact distances to the nearest of many vectors, on a processor without a look at all of them where they cluster."""

from functools import cached_property

import torch

# Distances of this many queries to this many vectors at once, so that their table fits into a core's cache.
CHUNK, PIECE = 256, 1024
# So many vectors a cluster on average; with fewer than `FEWEST` vectors there are none.
SIZE, FEWEST = 512, 2048
# Steps of k-means. More make the clusters no smaller that matters.
STEPS = 5
# Where the bounds leave a larger share of all pairs, looking at all of them is faster. So many of the vectors
# themselves, as queries for others, tell whether to try at all.
MOST_LEFT, TRIED = 0.5, 256
# Centres closer than this share of the mean gap tell nothing about the side on which a vector lies: rounding would.
LEAST_GAP = 1e-2


class Nearest:
    """Gives queries' Euclidean distances to the nearest of vectors `(M, D)`; all that it knows is made from these."""

    def __init__(self, vectors: torch.Tensor) -> None:
        """Take the vectors, of any device."""
        self._vectors = vectors
        self._pieces = [(piece.square().sum(1), piece.T.contiguous()) for piece in vectors.split(PIECE)]

    def __call__(self, queries: torch.Tensor) -> torch.Tensor:
        """Give the distances `(N,)` of queries `(N, D)`, 0 or more."""
        found = self._clusters.distances(queries) if self._clusters is not None and len(queries) else None
        return self._of_all(queries) if found is None else found

    @cached_property
    def _clusters(self) -> "_Clusters | None":
        """Give the vectors in clusters where these save time; made when first needed, so that loading stays fast."""
        if self._vectors.device.type != "cpu" or len(self._vectors) < FEWEST:
            return None
        clusters = _Clusters(self._vectors)
        tried = self._vectors[:: -(-len(self._vectors) // TRIED)]
        # The nearest of each is itself.
        nearest = torch.cdist(tried, self._vectors).kthvalue(2, dim=1).values
        return None if clusters.share_left(tried, nearest) > MOST_LEFT else clusters

    def _of_all(self, queries: torch.Tensor) -> torch.Tensor:
        nearest = torch.full((len(queries),), torch.inf, device=queries.device)
        for squares, columns in self._pieces:
            for chunk, so_far in zip(queries.split(CHUNK), nearest.split(CHUNK), strict=True):
                # |a - b|^2 by one matrix product; the part that all of a row share is added at the end.
                torch.minimum(so_far, torch.addmm(squares, chunk, columns, alpha=-2).amin(1), out=so_far)
        return (nearest + queries.square().sum(1)).clamp_min(0).sqrt()


class _Clusters:
    """Vectors by the nearest of a few centres.

    A query is compared with those of its own centre, and then with those of another one only where two bounds allow a
    nearer one there: with a centre c and radius r, no vector v is nearer to a query q than |q - c| - r, nor, since v is
    nearer to c than to another centre c', than (|q - c|^2 - |q - c'|^2) / (2 |c - c'|) (Uhlmann, "Satisfying general
    proximity/similarity queries with metric trees", 1991: the metric ball and the hyperplane).
    """

    def __init__(self, vectors: torch.Tensor) -> None:
        n, generator = len(vectors) // SIZE, torch.Generator().manual_seed(0)
        centres = vectors[torch.randperm(len(vectors), generator=generator)[:n]]
        for _ in range(STEPS):
            own = _nearest_centre(vectors, centres)
            counts = torch.bincount(own, minlength=n)[:, None]
            sums = torch.zeros_like(centres).index_add_(0, own, vectors)
            centres = torch.where(counts > 0, sums / counts.clamp_min(1), centres)
        own = _nearest_centre(vectors, centres)
        counts = torch.bincount(own, minlength=n)
        # Relative to the centre, since small numbers lose fewer digits in the difference of squares.
        relative = (vectors - centres[own])[own.argsort(stable=True)].split(counts.tolist())
        # Of equal vectors several may be centres, and all but one of these have no cluster.
        used = counts > 0
        self._centres, self._sizes = centres[used], counts[used]
        self._squares = self._centres.square().sum(1)
        self._parts = [(each.square().sum(1), each.T.contiguous()) for each in relative if len(each)]
        self._radii = torch.stack([squares.max() for squares, _ in self._parts]).sqrt()
        gaps = torch.cdist(self._centres, self._centres, compute_mode="donot_use_mm_for_euclid_dist")
        self._twice_gaps = 2 * torch.where(gaps > LEAST_GAP * gaps.mean(), gaps, torch.inf)

    def distances(self, queries: torch.Tensor) -> torch.Tensor | None:
        """Give the distances `(N,)` of queries `(N, D)`, or None where the bounds leave too many pairs."""
        own, bounds = self._bounds(queries)
        nearest = torch.full((len(queries),), torch.inf)
        counts = torch.bincount(own, minlength=len(self._centres)).tolist()
        for number, some in enumerate(own.argsort().split(counts)):
            if len(some):
                nearest[some] = self._within(number, queries[some])
        left = bounds < nearest
        if self._share(left) > MOST_LEFT:
            return None
        for number, here in enumerate(left):
            some = here.nonzero()[:, 0]
            if len(some):
                nearest[some] = torch.minimum(nearest[some], self._within(number, queries[some]))
        return nearest

    def share_left(self, queries: torch.Tensor, nearest: torch.Tensor) -> float:
        """Give the share of all pairs that the bounds leave, beside each query's own cluster, by distances `(N,)`."""
        return self._share(self._bounds(queries)[1] < nearest)

    def _share(self, left: torch.Tensor) -> float:
        return float((left.sum(1) * self._sizes).sum()) / (left.shape[1] * int(self._sizes.sum()))

    def _bounds(self, queries: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Give the queries' own clusters `(N,)` and how near each other cluster may come `(K, N)`."""
        to_centres = torch.addmm(self._squares, queries, self._centres.T, alpha=-2)
        to_centres = (to_centres + queries.square().sum(1, keepdim=True)).clamp_min(0)
        to_own, own = to_centres.min(1)
        ball = to_centres.sqrt() - self._radii
        plane = (to_centres - to_own[:, None]) / self._twice_gaps[own]
        bounds = torch.maximum(ball, plane).scatter_(1, own[:, None], torch.inf)
        # Those of a cluster side by side in memory.
        return own, bounds.T.contiguous()

    def _within(self, number: int, queries: torch.Tensor) -> torch.Tensor:
        """Give distances `(n,)` to the nearest vector of one cluster."""
        squares, columns = self._parts[number]
        relative = queries - self._centres[number]
        nearest = torch.addmm(squares, relative, columns, alpha=-2).amin(1)
        return (nearest + relative.square().sum(1)).clamp_min(0).sqrt()


def _nearest_centre(vectors: torch.Tensor, centres: torch.Tensor) -> torch.Tensor:
    return torch.addmm(centres.square().sum(1), vectors, centres.T, alpha=-2).argmin(1)

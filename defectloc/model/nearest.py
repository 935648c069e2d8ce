"""Exact distances to the nearest of many vectors, on a processor without a look at all of them where they cluster."""

from collections.abc import Iterator, Sequence

import torch

# Distances of this many queries to this many vectors at once, so that their table fits into a core's cache.
CHUNK, PIECE = 256, 1024
# So many vectors a cluster on average, and no more clusters than that; with fewer than `FEWEST` vectors there are none.
SIZE, MOST_CLUSTERS, FEWEST = 512, 256, 2048
# Steps of k-means, on so many of the vectors. More make the clusters no smaller that matters.
STEPS, SAMPLE = 5, 2**14
# Queries at once.
PART = 2**14
# Where the bounds leave a larger share of all pairs, looking at all of them is faster. So many of the vectors
# themselves, as queries for others, tell whether to try at all.
MOST_LEFT, TRIED = 0.5, 256
# Centres closer than this share of the mean gap tell nothing about the side on which a vector lies: rounding would.
LEAST_GAP = 1e-2

# Vectors in pieces: their squared lengths `(m,)` and they themselves as columns `(D, m)`.
Pieces = Sequence[tuple[torch.Tensor, torch.Tensor]]


class Nearest:
    """Gives queries' Euclidean distances to the nearest of vectors `(M, D)`; all that it knows is made from these."""

    def __init__(self, vectors: torch.Tensor) -> None:
        """Take the vectors, of any device; some of them are looked for among the others, to choose a way."""
        self._pieces = _pieces(vectors)
        self._clusters: _Clusters | None = None
        if vectors.device.type == "cpu" and len(vectors) >= FEWEST:
            clusters = _Clusters(vectors)
            at = torch.arange(0, len(vectors), -(-len(vectors) // TRIED))
            if clusters.share_left(vectors[at], _to_others(vectors, at)) <= MOST_LEFT:
                self._clusters = clusters

    def __call__(self, queries: torch.Tensor) -> torch.Tensor:
        """Give the distances `(N,)` of queries `(N, D)`, 0 or more."""
        # In parts, since the bounds of a query are as many as there are clusters.
        return torch.cat([self._of_part(part) for part in queries.split(PART)])

    def _of_part(self, queries: torch.Tensor) -> torch.Tensor:
        found = self._clusters.distances(queries) if self._clusters is not None and len(queries) else None
        return _distances(queries, self._pieces) if found is None else found


def _pieces(vectors: torch.Tensor) -> Pieces:
    return [(piece.square().sum(1), piece.T.contiguous()) for piece in vectors.split(PIECE)]


def _distances(queries: torch.Tensor, pieces: Pieces) -> torch.Tensor:
    """Give the distances `(N,)` to the nearest vector of all pieces."""
    nearest = torch.full((len(queries),), torch.inf, device=queries.device)
    for squares, columns in pieces:
        for chunk, so_far in zip(queries.split(CHUNK), nearest.split(CHUNK), strict=True):
            # |a - b|^2 by one matrix product; the part that all of a row share is added at the end.
            torch.minimum(so_far, torch.addmm(squares, chunk, columns, alpha=-2).amin(1), out=so_far)
    return (nearest + queries.square().sum(1)).clamp_min(0).sqrt()


def _to_others(vectors: torch.Tensor, at: torch.Tensor) -> torch.Tensor:
    """Give the distances of some of the vectors, by their numbers, to the nearest of all others."""
    nearest = torch.full((len(at),), torch.inf)
    for start in range(0, len(vectors), PIECE):
        gaps = torch.cdist(vectors[at], vectors[start : start + PIECE])
        here = ((at >= start) & (at < start + PIECE)).nonzero()[:, 0]
        gaps[here, at[here] - start] = torch.inf
        nearest = torch.minimum(nearest, gaps.amin(1))
    return nearest


class _Clusters:
    """Vectors by the nearest of a few centres.

    A query is compared with those of its own centre, and then with those of another one only where two bounds allow a
    nearer one there: with a centre c and radius r, no vector v is nearer to a query q than |q - c| - r, nor, since v is
    nearer to c than to another centre c', than (|q - c|^2 - |q - c'|^2) / (2 |c - c'|) (Uhlmann, "Satisfying general
    proximity/similarity queries with metric trees", 1991: the metric ball and the hyperplane).
    """

    def __init__(self, vectors: torch.Tensor) -> None:
        n = min(MOST_CLUSTERS, len(vectors) // SIZE)
        sample = vectors[torch.randperm(len(vectors), generator=torch.Generator().manual_seed(0))[:SAMPLE]]
        centres = sample[:n]
        for _ in range(STEPS):
            own = _nearest_centre(sample, centres)
            counts = torch.bincount(own, minlength=n)[:, None]
            sums = torch.zeros_like(centres).index_add_(0, own, sample)
            centres = torch.where(counts > 0, sums / counts.clamp_min(1), centres)
        own = _nearest_centre(vectors, centres)
        counts = torch.bincount(own, minlength=n)
        parts = own.argsort(stable=True).split(counts.tolist())
        # Of equal vectors several may be centres, and all but one of these have no cluster.
        used = counts > 0
        self._centres, self._sizes = centres[used], counts[used]
        self._squares = self._centres.square().sum(1)
        # Relative to the centre, since small numbers lose fewer digits in the difference of squares.
        self._parts = [
            _pieces(vectors[part] - centre) for part, centre in zip(parts, centres, strict=True) if len(part)
        ]
        self._radii = torch.stack([torch.cat([squares for squares, _ in part]).max() for part in self._parts]).sqrt()
        gaps = torch.cdist(self._centres, self._centres, compute_mode="donot_use_mm_for_euclid_dist")
        self._twice_gaps = 2 * torch.where(gaps > LEAST_GAP * gaps.mean(), gaps, torch.inf)

    def distances(self, queries: torch.Tensor) -> torch.Tensor | None:
        """Give the distances `(N,)` of queries `(N, D)`, or None where the bounds leave too many pairs."""
        own, bounds = self._bounds(queries)
        nearest = torch.full((len(queries),), torch.inf)
        for number, some in _grouped(own, len(self._centres)):
            nearest[some] = self._within(number, queries[some])
        if self._share_left(own, bounds, nearest) > MOST_LEFT:
            return None
        for number, bound in enumerate(bounds):
            some = (bound < nearest).nonzero()[:, 0]
            if len(some):
                nearest[some] = torch.minimum(nearest[some], self._within(number, queries[some]))
        return nearest

    def share_left(self, queries: torch.Tensor, nearest: torch.Tensor) -> float:
        """Give the share of all pairs that is looked at, by the queries' distances `(N,)`."""
        return self._share_left(*self._bounds(queries), nearest)

    def _share_left(self, own: torch.Tensor, bounds: torch.Tensor, nearest: torch.Tensor) -> float:
        n_pairs = self._sizes[own].sum() + ((bounds < nearest).sum(1) * self._sizes).sum()
        return float(n_pairs) / (len(own) * int(self._sizes.sum()))

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
        return _distances(queries - self._centres[number], self._parts[number])


def _grouped(numbers: torch.Tensor, n: int) -> Iterator[tuple[int, torch.Tensor]]:
    """Give the places of each of the numbers 0 to n - 1 that occurs."""
    places = numbers.argsort(stable=True).split(torch.bincount(numbers, minlength=n).tolist())
    return ((number, some) for number, some in enumerate(places) if len(some))


def _nearest_centre(vectors: torch.Tensor, centres: torch.Tensor) -> torch.Tensor:
    squares, columns = centres.square().sum(1), centres.T.contiguous()
    chunks = [torch.addmm(squares, chunk, columns, alpha=-2).argmin(1) for chunk in vectors.split(PART)]
    return torch.cat(chunks)

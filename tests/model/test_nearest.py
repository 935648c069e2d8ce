"""Distances to the nearest vector: equal to those of a look at all of them in double precision."""

import pytest
import torch

from defectloc.model.nearest import FEWEST, MOST_LEFT, Nearest


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(3)


def clustered(n: int, dims: int = 16, spread: float = 0.1, n_clusters: int = 20) -> torch.Tensor:
    centres = 5 * torch.randn(n_clusters, dims, generator=torch.Generator().manual_seed(7))
    draw = generator()
    return centres[torch.randint(n_clusters, (n,), generator=draw)] + spread * torch.randn(n, dims, generator=draw)


def by_all(queries: torch.Tensor, vectors: torch.Tensor) -> torch.Tensor:
    return torch.cdist(queries.double(), vectors.double(), compute_mode="donot_use_mm_for_euclid_dist").amin(1)


def assert_exact(queries: torch.Tensor, vectors: torch.Tensor) -> Nearest:
    nearest = Nearest(vectors)
    # Squares, since single precision is lost in their differences, and a root would make that large beside 0.
    rounding = 1e-6 * float(vectors.square().sum(1).max())
    found = nearest(queries).double().square()
    torch.testing.assert_close(found, by_all(queries, vectors).square(), atol=rounding, rtol=1e-5)
    return nearest


@pytest.mark.parametrize("spread", [0.01, 0.1, 1.0])
def test_vectors_in_clusters_are_not_all_looked_at(spread):
    vectors = clustered(3 * FEWEST, spread=spread)
    queries = vectors[:700] + 0.2 * spread * torch.randn(700, 16, generator=generator())
    nearest = assert_exact(queries, vectors)
    clusters = nearest._clusters
    assert clusters is not None
    assert clusters.share_left(queries, nearest(queries)) < MOST_LEFT
    assert clusters.distances(queries) is not None


def test_queries_between_the_clusters():
    vectors = clustered(2 * FEWEST)
    weights = torch.rand(500, 1, generator=generator())
    assert_exact(weights * vectors[:500] + (1 - weights) * vectors[500:1000], vectors)


def test_queries_far_from_all():
    vectors = clustered(2 * FEWEST)
    queries = 100 + torch.randn(300, 16, generator=generator())
    nearest = assert_exact(queries, vectors)
    assert nearest._clusters is not None


def test_where_too_much_is_left_all_are_looked_at():
    vectors = clustered(2 * FEWEST, spread=0.1)
    queries = vectors.mean(0) + 0.01 * torch.randn(300, 16, generator=generator())
    nearest = assert_exact(queries, vectors)
    assert nearest._clusters is not None
    assert nearest._clusters.distances(queries) is None


def test_vectors_without_clusters():
    vectors = torch.randn(2 * FEWEST, 64, generator=generator())
    nearest = assert_exact(torch.randn(300, 64, generator=torch.Generator().manual_seed(4)), vectors)
    assert nearest._clusters is None


def test_vectors_that_are_equal():
    vectors = torch.full((FEWEST, 8), 3.0)
    assert_exact(torch.randn(50, 8, generator=generator()), vectors)
    vectors[::2] = -1
    vectors[0] = 2
    assert_exact(torch.randn(50, 8, generator=generator()), vectors)


@pytest.mark.parametrize("share", [0.6, 0.9])
def test_where_most_vectors_and_queries_are_equal(share):
    vectors = clustered(4 * FEWEST)
    vectors[: round(share * len(vectors))] = 0
    queries = torch.cat([vectors[:1500], clustered(500) + 0.3])
    assert_exact(queries, vectors)


def test_more_queries_than_are_looked_at_at_once(monkeypatch):
    monkeypatch.setattr("defectloc.model.nearest.PART", 70)
    vectors = clustered(2 * FEWEST)
    assert assert_exact(vectors[:500] + 0.1, vectors)._clusters is not None


def test_vectors_themselves_are_at_distance_0():
    vectors = clustered(FEWEST)
    assert_exact(vectors[:100], vectors)


def test_few_vectors_and_no_queries():
    vectors = clustered(FEWEST - 1)
    assert assert_exact(vectors[:40] + 0.1, vectors)._clusters is None
    assert len(Nearest(clustered(FEWEST))(torch.zeros(0, 16))) == 0


def test_what_is_no_number_stays_alone():
    vectors = clustered(FEWEST)
    queries = vectors[:40] + 0.1
    queries[3, 2] = torch.nan
    found = Nearest(vectors)(queries)
    assert found.isnan().nonzero().ravel().tolist() == [3]


def test_equal_runs_give_equal_bits():
    vectors = clustered(2 * FEWEST)
    assert torch.equal(Nearest(vectors)(vectors[:99] + 1), Nearest(vectors.clone())(vectors[:99] + 1))

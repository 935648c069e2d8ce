import numpy as np

from defectloc.localization.scores import top_k_mean


def test_top_k_mean_is_the_mean_of_the_largest_cells() -> None:
    maps = np.zeros((2, 4, 5))
    maps[1, 2] = [1, 2, 3, 4, 5]
    maps[1, 0, 0] = 10
    assert top_k_mean(maps).tolist() == [0, (10 + 5 + 4 + 3 + 2) / 5]
    assert top_k_mean(maps, k=1).tolist() == [0, 10]
    # A map of fewer cells gives the mean of them all.
    assert top_k_mean(np.array([[[1.0, 2]]])).tolist() == [1.5]


def test_maps_of_several_shapes_are_scored_one_by_one() -> None:
    rng = np.random.default_rng(0)
    maps = [rng.random((4, 5)), rng.random((9, 3)), rng.random((1, 2))]
    assert top_k_mean(maps).tolist() == [top_k_mean(each[None])[0] for each in maps]

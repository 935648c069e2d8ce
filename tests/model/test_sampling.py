"""Samples of bounded size: an equal share of each image."""

import numpy as np
import torch

from defectloc.model.sampling import PatchSampler


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_each_image_gives_its_share():
    sampler = PatchSampler(3, 10, generator())
    shares = [sampler.indices(8).tolist() for _ in range(3)]
    assert [len(set(share)) for share in shares] == [3, 3, 3]
    # By the numbers of one generator, an image after the other.
    again = generator()
    assert shares == [torch.randperm(8, generator=again)[:3].tolist() for _ in range(3)]


def test_of_more_images_than_places_each_can_be_chosen():
    counts = np.zeros(12)
    for seed in range(300):
        sampler = PatchSampler(12, 4, generator(seed))
        given = np.array([len(sampler.indices(5)) for _ in range(12)])
        assert given.sum() == 4
        assert given.max() == 1
        counts += given
    assert counts.min() > 60
    assert counts.max() < 140

"""Samples of bounded size: the first ones in order where there is room, else each equally probable."""

import numpy as np
import pytest
import torch

from defectloc.model.sampling import PatchSampler, Reservoir


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


def test_a_reservoir_with_room_keeps_all_in_order():
    reservoir, rows = Reservoir(10, generator()), torch.arange(18.0).reshape(9, 2)
    for part in rows.split(4):
        reservoir.add(part)
    assert torch.equal(reservoir.rows, rows)
    assert reservoir.n_added == 9


@pytest.mark.parametrize("size", [7, 40])
def test_a_full_reservoir_is_a_uniform_sample(size):
    counts = np.zeros(40)
    for seed in range(400):
        reservoir = Reservoir(10, generator(seed))
        for part in torch.arange(40.0)[:, None].split(size):
            reservoir.add(part)
        kept = reservoir.rows[:, 0].long().numpy()
        assert len(set(kept)) == 10
        counts[kept] += 1
    assert reservoir.n_added == 40
    # 100 expected, with a standard deviation of 8.7.
    assert counts.min() > 65
    assert counts.max() < 135


def test_a_reservoir_does_not_depend_on_the_batches():
    samples = []
    for size in (1, 3, 40):
        reservoir = Reservoir(10, generator())
        for part in torch.arange(40.0)[:, None].split(size):
            reservoir.add(part)
        samples.append(set(reservoir.rows[:, 0].tolist()))
    assert samples[0] == samples[1] == samples[2]


def test_an_empty_reservoir():
    reservoir = Reservoir(3, generator())
    reservoir.add(torch.zeros(0, 2))
    assert reservoir.n_added == len(reservoir.rows) == 0

"""What is kept of the training images' patches."""

import numpy as np
import torch

from defectloc.model.kept_patches import CLAMP, KeptPatches, drawn_images, read

CHANNELS, SIDE = 6, 4
LABELS = np.repeat([0, 1], [12, 8])


def test_images_are_read_a_few_at_a_time_and_no_more_than_the_budget_holds():
    asked = []

    def patches(numbers):
        asked.append(list(numbers))
        return torch.from_numpy(np.asarray(numbers, np.float32))[:, None, None, None].expand(-1, SIDE, SIDE, CHANNELS)

    members = np.stack([np.ones(20, bool), np.arange(20) % 2 == 0])
    distances = np.arange(20.0)[:, None, None] * np.ones((1, SIDE, SIDE))
    good, defective = read(patches, LABELS == 1, members, 0, "cpu", 2 * SIDE * SIDE * CHANNELS * 10, distances)
    first, *rest = asked
    assert len(first) == 1
    assert max(map(len, rest)) <= 8
    numbers = np.concatenate(rest).astype(int)
    assert len(numbers) == len(set(numbers)) == 10
    assert LABELS[numbers].sum() == 5
    # Images, distances and members belong together.
    for kept, some in ((good, numbers[:5]), (defective, numbers[5:])):
        assert kept.patches[:, 0, 0].tolist() == np.minimum(some, CLAMP).tolist()
        assert kept.distances[:, 0].tolist() == some.tolist()
        assert kept.allowed[1].tolist() == (some % 2 == 0).tolist()


def test_of_more_images_than_the_budget_holds_any_can_be_kept():
    found = [np.concatenate(drawn_images(LABELS == 1, seed, 6)) for seed in range(30)]
    assert all(len(set(each)) == 6 for each in found)
    assert {number for each in found for number in each} == set(range(20))


def test_a_member_draws_only_what_it_may_learn_from():
    kept = KeptPatches(torch.arange(4.0)[:, None, None].half(), torch.tensor([[True, False, True, False]]))
    values = torch.empty(1, 50, 1, 1)
    drawn = kept.draw(values, torch.Generator().manual_seed(0))
    assert set(drawn[0].tolist()) == {0, 2}
    assert values.flatten().tolist() == drawn[0].tolist()

"""What is kept of the training images' patches."""

import numpy as np
import torch

from defectloc.model.kept_patches import KeptPatches, drawn_images

LABELS = np.repeat([0, 1], [12, 8])


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

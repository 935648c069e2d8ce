"""Values of one grid at the cells of another: those of a ramp are the places themselves."""

import pytest
import torch

from defectloc.model.classifier import Classifier
from defectloc.model.grids import StrideOffset, interpolate

CUTS = {"vgg16": "conv5_1", "resnet50": "layer4", "densenet121": "denseblock4", "efficientnet_lite0": "blocks5"}


def ramp(grid: StrideOffset, n: int) -> torch.Tensor:
    """Give `(1, 2, n, n)` cells that hold the row and the column of their centres, in pixels."""
    centres = grid[1] + grid[0] * torch.arange(n, dtype=torch.float32)
    return torch.stack(torch.meshgrid(centres, centres, indexing="ij"))[None]


@pytest.mark.parametrize("backbone", CUTS)
def test_levels_of_a_backbone_are_interpolated_by_their_grids(backbone):
    classifier = Classifier(backbone, CUTS[backbone], "torchvision")
    fine, coarse = (classifier.grid_of(level) for level in classifier.bank_levels)
    n_fine, n_coarse = (round(64 / grid[0]) for grid in (fine, coarse))
    found = interpolate(ramp(coarse, n_coarse), coarse, fine, (n_fine, n_fine))
    last = coarse[1] + coarse[0] * (n_coarse - 1)
    # Beyond the outermost centres a ramp ends.
    torch.testing.assert_close(found, ramp(fine, n_fine).clamp(coarse[1], last), rtol=0, atol=0)


def test_grids_that_begin_at_one_corner_are_interpolated_as_torch_does():
    values = torch.rand(2, 3, 4, 5, generator=torch.Generator().manual_seed(0))
    found = interpolate(values, (16, 7.5), (8, 3.5), (8, 10))
    expected = torch.nn.functional.interpolate(values, (8, 10), mode="bilinear", align_corners=False)
    torch.testing.assert_close(found, expected)


def test_equal_grids_change_nothing():
    values = torch.rand(1, 1, 4, 4)
    assert interpolate(values, (8, 3.5), (8, 3.5), (4, 4)) is values


def test_one_cell_is_the_same_everywhere():
    found = interpolate(torch.full((1, 1, 1, 1), 3.0), (32, 0), (16, 0), (2, 2))
    assert (found == 3).all()

"""Operations are counted as by hand."""

import torch

from defectloc.benchmarks.machine import convolution_peak, operations

FIRST, SECOND = 2 * 5 * 4 * 8 * 3 * 9, 2 * 5 * 4 * 4 * 8
LAYERS = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3, padding=1), torch.nn.Conv2d(8, 4, 1))


def test_operations_of_a_forward_pass():
    images = torch.zeros(1, 3, 5, 4)
    assert operations(lambda: LAYERS(images)) == FIRST + SECOND
    with torch.inference_mode():
        assert operations(lambda: LAYERS(images)) == FIRST + SECOND


def test_a_backward_pass_leaves_out_the_gradient_of_the_input():
    images = torch.zeros(2, 3, 5, 4)
    counted = operations(lambda: LAYERS(images).sum().backward())
    assert counted == 2 * (2 * FIRST + 3 * SECOND)


def test_the_peak_is_a_rate():
    assert convolution_peak("cpu", 1, shapes=((1, 4, 8),)) > 0

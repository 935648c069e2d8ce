"""Class activation maps: sums, equalities, and agreement with the library grad-cam."""

import numpy as np
import pytest
import torch

from defectloc.attribution import class_activation
from defectloc.attribution.activations import activations_and_gradients
from defectloc.attribution.layers import find_layer
from defectloc.attribution.methods import attribute
from defectloc.attribution.network import ClassScore, undisturbed
from defectloc.localization.maps import upsample
from tests.attribution.networks import CUTS, FEW, SIZE, model_of, photographs, scores_of


@pytest.fixture(scope="module", params=CUTS)
def model(request):
    return model_of(request.param)


@pytest.mark.parametrize("target", [0, 1])
def test_cam_is_the_score_taken_apart(model, target):
    found = attribute("cam", model, photographs(2), [target] * 2, FEW, [0, 0])
    np.testing.assert_allclose(found.maps.mean((1, 2)), scores_of(model, photographs(2), target), rtol=1e-4, atol=1e-4)
    channels = model.network.channels(model.network.features(photographs(2))).detach().numpy()
    np.testing.assert_allclose(found.maps, channels[:, target] - channels[:, 1 - target], rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("target", [0, 1])
def test_relatives_of_cam_equal_it_up_to_scale_without_its_bias(model, target):
    """With global average pooling straight after the layer (here also at the pixels of the image)."""
    bias = model.network.head.bias.detach().numpy()
    cam = attribute("cam", model, photographs(2), [target] * 2, FEW, [0, 0])
    expected = np.maximum(cam.maps - (bias[target] - bias[1 - target]), 0) / cam.maps[0].size
    for name in ("gradcam", "hirescam", "xgradcam"):
        found = attribute(name, model, photographs(2), [target] * 2, FEW, [0, 0])
        assert found.grid == cam.grid
        scale = max(float(expected.max()), 1e-3)
        np.testing.assert_allclose(found.maps / scale, expected / scale, atol=1e-4)
        for map_, wanted in zip(found.maps, expected, strict=True):
            size = (50, 70)
            np.testing.assert_allclose(
                upsample(map_ / scale, size, SIZE, found.grid),
                upsample(wanted / scale, size, SIZE, cam.grid),
                atol=1e-4,
            )


def test_ablation_of_a_channel_before_the_average_is_weight_times_mean(model):
    layer = find_layer(model, None)[1]
    score = ClassScore(model, 1)
    with undisturbed(model.network):
        a, g = activations_and_gradients(score, layer, photographs())
        found = class_activation.ablationcam(score, layer, photographs(), FEW)
    falls = (g * a).sum((2, 3))
    expected = torch.relu((falls[:, :, None, None] * a).sum(1))
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3 * float(expected.max() + 1))


LIBRARY = {
    "gradcam": "GradCAM",
    "gradcam++": "GradCAMPlusPlus",
    "xgradcam": "XGradCAM",
    "hirescam": "HiResCAM",
    "layercam": "LayerCAM",
    "eigengradcam": "EigenGradCAM",
    "eigencam": "EigenCAM",
}


@pytest.mark.parametrize("name", LIBRARY)
@pytest.mark.parametrize("layer", ["conv4_3", "conv5_3"])
def test_agrees_with_the_library_grad_cam(name, layer):
    library = pytest.importorskip("pytorch_grad_cam")
    model = model_of("vgg16")
    module = find_layer(model, layer)[1]
    with undisturbed(model.network):
        values, gradients = activations_and_gradients(ClassScore(model, 1), module, photographs())
    # Its constants of 1e-6 are not small beside gradients of means; the map's shape does not depend on their scale.
    factor = 1 if name == "gradcam++" else 1e3
    method = getattr(library, LIBRARY[name])(model.network, [module])
    try:
        theirs = method.get_cam_image(None, module, None, values.numpy(), (gradients * factor).numpy(), False)
    finally:
        method.activations_and_grads.release()
    ours = class_activation.WEIGHTINGS[name](values, gradients).numpy()
    if name.startswith("eigen"):  # the sign of a component is free
        theirs *= np.sign((theirs * ours).sum())
    np.testing.assert_allclose(ours / np.abs(ours).max(), theirs / np.abs(theirs).max(), atol=2e-3)

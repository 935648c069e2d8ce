"""What the methods' own papers promise: sums, equalities, and agreement with other implementations."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from asked import FEW, SIZE, photographs, subject_of, tiny
from torch import nn

from defectloc.attribution import class_activation
from defectloc.attribution.fullgrad import shares
from defectloc.attribution.layer import activations_and_gradients, score_with
from defectloc.attribution.methods import attribute
from defectloc.attribution.subject import Question, Subject, find_layer, undisturbed
from defectloc.errors import DefectlocError
from defectloc.localization.maps import upsample


@pytest.fixture(scope="module", params=["vgg16", "resnet50", "densenet121"])
def asked(request):
    return subject_of(request.param)


def score(asked, images, target=1):
    with torch.no_grad():
        return Question(asked, target).score(images).numpy()


@pytest.mark.parametrize("target", [0, 1])
def test_cam_is_the_score_taken_apart(asked, target):
    found = attribute("cam", asked, photographs(2), [target] * 2, FEW, [0, 0])
    np.testing.assert_allclose(found.maps.mean((1, 2)), score(asked, photographs(2), target), rtol=1e-4, atol=1e-4)
    channels = asked.network.channels(asked.network.features(photographs(2))).detach().numpy()
    np.testing.assert_allclose(found.maps, channels[:, target] - channels[:, 1 - target], rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("target", [0, 1])
def test_relatives_of_cam_equal_it_up_to_scale_without_its_bias(asked, target):
    """With global average pooling straight after the layer (here also at the pixels of the image)."""
    bias = asked.network.head.bias.detach().numpy()
    cam = attribute("cam", asked, photographs(2), [target] * 2, FEW, [0, 0])
    expected = np.maximum(cam.maps - (bias[target] - bias[1 - target]), 0) / cam.maps[0].size
    for name in ("gradcam", "hirescam", "xgradcam"):
        found = attribute(name, asked, photographs(2), [target] * 2, FEW, [0, 0])
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


def test_ablation_of_a_channel_before_the_average_is_weight_times_mean(asked):
    layer = find_layer(asked, None)[1]
    question = Question(asked, 1)
    with undisturbed(asked.network):
        a, g = activations_and_gradients(question, layer, photographs())
        found = class_activation.ablationcam(question, layer, photographs(), FEW)
    falls = (g * a).sum((2, 3))
    expected = torch.relu((falls[:, :, None, None] * a).sum(1))
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3 * float(expected.max() + 1))


def test_replacing_a_layer_by_its_own_output_changes_nothing(asked):
    names = {"vgg16": "conv3_1", "resnet50": "layer2", "densenet121": "denseblock3.denselayer4"}
    layer = find_layer(asked, names[asked.network.backbone])[1]
    question = Question(asked, 1)
    with undisturbed(asked.network), torch.no_grad():
        values, _ = activations_and_gradients(question, layer, photographs())
        found = score_with(question, layer, photographs(), values.repeat(3, 1, 1, 1))
    np.testing.assert_allclose(found, np.repeat(score(asked, photographs()), 3), rtol=1e-4, atol=1e-4)


def test_channels_add_up_to_the_score(asked):
    everything = replace(FEW, shown_channels=10_000)
    found = attribute("channels", asked, photographs(), [1], everything, [0])
    (parts,) = found.parts
    assert len(set(parts["index"])) == asked.network.head.in_channels
    total = parts["contribution"].sum() + parts["bias"]
    np.testing.assert_allclose(total, score(asked, photographs())[0], rtol=1e-3, atol=1e-3)
    summed = (parts["weight"][:, None, None] * parts["map"]).sum(0) + parts["bias"]
    np.testing.assert_allclose(summed, found.maps[0], rtol=1e-3, atol=1e-3)
    few = attribute("channels", asked, photographs(), [1], FEW, [0]).parts[0]["contribution"]
    assert list(few[:2]) == sorted(parts["contribution"])[::-1][:2]
    assert list(few[2:]) == sorted(parts["contribution"])[:2]


@pytest.mark.parametrize("backbone", ["tiny", "vgg16", "densenet121"])
def test_fullgrad_shares_add_up_to_the_score(backbone):
    asked = tiny() if backbone == "tiny" else subject_of(backbone)
    images = photographs(1, asked.image_size)
    question = Question(asked, 1)
    with undisturbed(asked.network):
        total = sum(float(share.sum()) for share in shares(question, images))
    expected = float(score(asked, images)[0])
    if backbone == "tiny":  # its dense layer's bias has no place on a map
        expected -= asked.network.fc.bias[1].item()
    assert total == pytest.approx(expected, rel=1e-3, abs=1e-3)


def test_integrated_gradients_add_up_to_the_difference_of_scores():
    pytest.importorskip("captum")
    asked = tiny()
    images = photographs(2, 16)
    found = attribute("integrated-gradients", asked, images, [2, 2], replace(FEW, steps=300), [0, 0])
    blank = asked.blank.expand(1, 3, 16, 16)
    difference = score(asked, images, 2) - score(asked, blank, 2)
    np.testing.assert_allclose(found.maps.sum((1, 2)), difference, atol=1e-3)


@pytest.mark.parametrize("layer", [None, "features.0", "features.2"])
def test_expected_gradients_add_up_to_the_difference_of_scores(layer):
    asked = tiny()
    images = photographs(2, 16) * torch.tensor([1.0, 0.3])[:, None, None, None]
    many = replace(FEW, expected_samples=400, noise=0.0)
    found = attribute("expected-gradients", asked, images, [2, 2], many, [0, 1], layer=layer)
    difference = score(asked, images, 2) - score(asked, asked.background(), 2).mean()
    assert np.abs(difference).max() > 0.05
    np.testing.assert_allclose(found.maps.sum((1, 2)), difference, atol=2e-3)


def test_expected_gradients_without_background():
    asked = tiny()
    asked.background = None
    with pytest.raises(DefectlocError, match="good training images"):
        attribute("expected-gradients", asked, photographs(1, 16), [0], FEW, [0])


@pytest.mark.parametrize("masker", ["blur", "inpaint"])
def test_shap_values_add_up_to_the_difference_of_scores(masker):
    pytest.importorskip("shap")
    asked = subject_of("densenet121")
    image = photographs().round()
    few = replace(FEW, shap_masker=masker, chunk=4)
    found = attribute("shap-partition", asked, image, [1], few, [0])
    total = float(found.maps.sum()) + float(found.parts[0]["base"][0])
    assert total == pytest.approx(float(score(asked, image)[0]), rel=1e-4, abs=1e-4)
    assert abs(found.maps.sum()) > 1e-3
    assert found.evaluations <= few.shap_evaluations + few.chunk


class Corner(nn.Module):
    """Two classes; the log-odds is the mean square of the upper left quarter, which any blur makes smaller."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        side = images.shape[-1] // 2
        value = (images[:, :, :side, :side] / 255).square().mean((1, 2, 3)) * self.scale
        return torch.stack([-value, value], 1)


def corner_subject(size=32):
    return Subject(
        Corner(), ["good", "anomaly"], size, torch.zeros(3, 1, 1), background=lambda: torch.zeros(2, 3, size, size)
    )


@pytest.mark.parametrize(
    "name",
    [
        "saliency",
        "smoothgrad",
        "integrated-gradients",
        "expected-gradients",
        "occlusion",
        "lime",
        "shap-partition",
        "rise",
    ],
)
def test_the_place_that_matters_is_hot(name):
    """The mean inside the quarter that the score depends on is far above that outside."""
    for package in ("captum", "shap", "skimage"):
        pytest.importorskip(package)
    config = replace(
        FEW, lime_samples=150, rise_masks=2000, shap_evaluations=60, n_superpixels=16, window=0.25, stride=0.25
    )
    image = photographs(1, 32)
    heat = attribute(name, corner_subject(), image, [1], config, [0]).maps[0]
    inside, outside = heat[:16, :16].mean(), np.delete(heat.ravel(), np.arange(1024).reshape(32, 32)[:16, :16]).mean()
    if name == "lime":  # superpixels do not end where the quarter does
        assert inside > 3 * abs(outside)
    elif name == "rise":  # every mask shows half of the rest
        assert inside > outside + 0.004
    else:
        assert inside > 20 * abs(outside)


def test_guided_backprop_passes_only_what_is_positive(asked):
    """Against a network whose ReLUs are replaced by functions with that backward pass, used once or several times."""
    pytest.importorskip("captum")

    class Guided(torch.autograd.Function):
        @staticmethod
        def forward(context, values):
            context.save_for_backward(values)
            return values.clamp_min(0)

        @staticmethod
        def backward(context, gradient):
            (values,) = context.saved_tensors
            return gradient.clamp_min(0) * (values > 0)

    class Module(nn.Module):
        def forward(self, values):
            return Guided.apply(values)

    other = subject_of(asked.network.backbone)
    for parent in list(other.network.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.ReLU):
                setattr(parent, name, Module())
    images = photographs().requires_grad_()
    (expected,) = torch.autograd.grad(Question(other, 1).score(images).sum(), images)
    expected = expected.abs().amax(1).numpy()
    found = attribute("guided-backprop", asked, photographs(), [1], FEW, [0]).maps
    np.testing.assert_allclose(found / expected.max(), expected / expected.max(), atol=1e-4)


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
    asked = subject_of("vgg16")
    module = find_layer(asked, layer)[1]
    with undisturbed(asked.network):
        values, gradients = activations_and_gradients(Question(asked, 1), module, photographs())
    # Its constants of 1e-6 are not small beside gradients of means; the map's shape does not depend on their scale.
    factor = 1 if name == "gradcam++" else 1e3
    method = getattr(library, LIBRARY[name])(asked.network, [module])
    try:
        theirs = method.get_cam_image(None, module, None, values.numpy(), (gradients * factor).numpy(), False)
    finally:
        method.activations_and_grads.release()
    ours = class_activation.WEIGHTINGS[name](values, gradients).numpy()
    if name.startswith("eigen"):  # the sign of a component is free
        theirs *= np.sign((theirs * ours).sum())
    np.testing.assert_allclose(ours / np.abs(ours).max(), theirs / np.abs(theirs).max(), atol=2e-3)


class Darkness(nn.Module):
    """Two classes; the log-odds is how much of the image is dark."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        value = torch.relu(100 - images.mean(1)).mean((1, 2)) * self.scale
        return torch.stack([-value, value], 1)


def cracked(width: int) -> tuple[torch.Tensor, Subject]:
    """Give a dark band across the middle of a bright image of 64 px."""
    image = torch.full((1, 3, 64, 64), 200.0)
    image[:, :, 31 - width // 2 : 31 + width // 2] = 20
    return image, Subject(Darkness(), ["good", "anomaly"], 64, torch.zeros(3, 1, 1))


def test_quickshift_cuts_where_the_colour_changes():
    pytest.importorskip("captum")
    pytest.importorskip("skimage")
    image, asked = cracked(20)
    # Without any grain, many paths are equally steep.
    image += 2 * torch.randn(image.shape, generator=torch.Generator().manual_seed(0))
    config = replace(FEW, lime_samples=100, superpixels="quickshift")
    found = attribute("lime", asked, image, [1], config, [0])
    segments = found.parts[0]["segments"]
    assert not np.intersect1d(segments[25:39], segments[:18]).size
    assert found.maps[0][25:39].min() > 10 * np.abs(found.maps[0][:18]).max()


def test_lime_hides_a_dark_crack_only_by_a_blur():
    """A superpixel that follows a crack has the crack's own colour for its mean."""
    pytest.importorskip("captum")
    pytest.importorskip("skimage")
    image, asked = cracked(6)
    many = replace(FEW, lime_samples=200, n_superpixels=30)
    heat = attribute("lime", asked, image, [1], many, [0]).maps[0]
    elsewhere = np.delete(heat, np.s_[24:38], axis=0)
    assert heat[28:34].min() > 0
    assert heat[28:34].mean() > 10 * np.abs(elsewhere).mean()
    by_mean = attribute("lime", asked, image, [1], replace(many, lime_hide="mean"), [0]).maps[0]
    assert np.abs(by_mean[28:34]).mean() < 0.2 * heat[28:34].mean()

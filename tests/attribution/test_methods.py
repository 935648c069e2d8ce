"""Every method on every backbone: maps of the promised shape, and a network that is as it was."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from defectloc.attribution import methods
from defectloc.attribution.layers import find_layer
from defectloc.attribution.methods import METHODS, attribute
from defectloc.attribution.network import ExplainedModel, ExtraMap
from defectloc.errors import DefectlocError
from defectloc.localization.maps import Grid
from tests.attribution.networks import CUTS, FEW, SIZE, model_of, photographs

NAMES = [name for name, method in METHODS.items() if method.run is not None]
CELLS = {"vgg16": (4, Grid(16, 7.5)), "resnet50": (2, Grid(32, 0)), "densenet121": (2, Grid(32, 14))}


def installed(name):
    for package in METHODS[name].packages:
        pytest.importorskip(package)


@pytest.fixture(scope="module", params=CUTS)
def model(request):
    return model_of(request.param)


def state_of(network: nn.Module):
    """All that a method might leave behind in a network."""
    tables = [name for name in vars(nn.Module()) if name.endswith("hooks")]
    return {
        "weights": {name: value.clone() for name, value in network.state_dict().items()},
        "modes": [module.training for module in network.modules()],
        "gradients": [None if p.grad is None else p.grad.clone() for p in network.parameters()],
        "wanted": [p.requires_grad for p in network.parameters()],
        "hooks": [len(getattr(module, table)) for module in network.modules() for table in tables],
    }


def assert_untouched(network, before):
    after = state_of(network)
    for name, value in before.pop("weights").items():
        assert torch.equal(after["weights"][name], value), name
    after.pop("weights")
    for old, new in zip(before.pop("gradients"), after.pop("gradients"), strict=True):
        assert (old is None and new is None) or torch.equal(old, new)
    assert after == before
    assert sum(before["hooks"]) == 0


@pytest.mark.parametrize("name", NAMES)
def test_method_gives_maps_and_leaves_the_network_as_it_was(model, name):
    installed(name)
    network = model.network
    network.train()
    network.head.bias.grad = torch.ones(2)
    before = state_of(network)
    found = attribute(name, model, photographs(2), [1, 0], FEW, [0, 1])
    assert_untouched(network, before)
    cells, grid = CELLS[network.backbone]
    is_coarse = METHODS[name].layer == "always" and name != "guided-gradcam"
    assert found.maps.shape == ((2, cells, cells) if is_coarse else (2, SIZE, SIZE))
    assert found.grid == (grid if is_coarse else Grid(1, 0))
    assert found.maps.dtype == np.float32
    assert np.isfinite(found.maps).all()
    assert np.ptp(found.maps) > 0
    assert found.evaluations >= 1


@pytest.mark.parametrize("name", NAMES)
def test_an_exception_leaves_the_network_as_it_was(name, monkeypatch):
    installed(name)
    model = model_of("vgg16")
    before = state_of(model.network)

    def broken(*_):
        raise RuntimeError("no memory left")

    # Far behind, so that all hooks have been set.
    monkeypatch.setattr(model.network.head, "forward", broken)
    with pytest.raises(RuntimeError, match="no memory left"):
        attribute(name, model, photographs(), [1], FEW, [0], layer="conv4_3" if name == "layercam" else None)
    monkeypatch.undo()
    assert_untouched(model.network, before)


@pytest.mark.parametrize("name", ["scorecam", "rise", "smoothgrad", "lime", "expected-gradients", "shap-partition"])
def test_same_seed_same_map(name):
    installed(name)
    model = model_of("vgg16")
    numpy_state, torch_state = np.random.get_state(), torch.get_rng_state()
    maps = [attribute(name, model, photographs(), [1], FEW, [seed]).maps for seed in (3, 3, 4)]
    np.testing.assert_array_equal(maps[0], maps[1])
    if name not in ("scorecam", "shap-partition"):  # nothing is random, or only where values tie
        assert not np.array_equal(maps[0], maps[2])
    assert (np.random.get_state()[1] == numpy_state[1]).all()
    assert np.random.get_state()[2] == numpy_state[2]
    assert torch.equal(torch.get_rng_state(), torch_state)


def test_an_image_has_the_same_map_in_any_batch():
    model = model_of("densenet121")
    both = attribute("rise", model, photographs(2), [1, 0], FEW, [3, 4]).maps
    alone = attribute("rise", model, photographs(2)[1:], [0], FEW, [4]).maps
    np.testing.assert_array_equal(both[1:], alone)


@pytest.mark.parametrize(
    "name", ["scorecam", "ablationcam", "integrated-gradients", "smoothgrad", "expected-gradients", "rise", "lime"]
)
def test_batch_size_bounds_the_memory_and_changes_no_result(name):
    installed(name)
    model, maps = model_of("vgg16"), []
    for size in (64, 3):
        config = replace(FEW, batch_size=size)
        sizes = []
        handle = model.network.register_forward_pre_hook(lambda _, inputs, sizes=sizes: sizes.append(len(inputs[0])))
        maps.append(attribute(name, model, photographs(), [1], config, [0]).maps)
        handle.remove()
        assert max(sizes) <= size
    scale = np.abs(maps[0]).max()
    np.testing.assert_allclose(maps[0] / scale, maps[1] / scale, atol=1e-4)


def test_layers_by_name_index_and_part():
    model = model_of("vgg16")
    for layer, cells in (("conv4_3", 8), ("0", 64), ("-1", 4), ("conv3_1.conv", 16)):
        found = attribute("layercam", model, photographs(), [1], FEW, [0], layer=layer)
        assert found.maps.shape == (1, cells, cells)
    assert attribute("layercam", model, photographs(), [1], FEW, [0], "conv4_3").grid == Grid(8, 3.5)


@pytest.mark.parametrize("layer", ["conv9", "17", "-18", "fc"])
def test_unknown_layer_lists_those_there_are(layer):
    with pytest.raises(DefectlocError, match=r"0 conv1_1, 1 conv1_2, 2 pool1.*16 conv5_3"):
        attribute("gradcam", model_of("vgg16"), photographs(), [1], FEW, [0], layer=layer)


def test_layer_that_gives_no_map():
    model = model_of("densenet121")
    model.network.tail.relu5 = nn.Sequential(model.network.tail.relu5, nn.AdaptiveAvgPool2d(1))
    with pytest.raises(DefectlocError, match="not convolutional"):
        attribute("gradcam", model, photographs(), [1], FEW, [0], layer="relu5.1")


def test_layer_that_is_used_several_times():
    with pytest.raises(DefectlocError, match="several times"):
        attribute("gradcam", model_of("resnet50"), photographs(), [1], FEW, [0], layer="layer4.2.relu")


def test_unknown_method_lists_all():
    with pytest.raises(DefectlocError, match="cam, gradcam, gradcam"):
        attribute("grandcam", model_of("densenet121"), photographs(), [1], FEW, [0])


def test_method_whose_extra_is_not_installed(monkeypatch):
    monkeypatch.setattr(methods.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(DefectlocError, match=r"captum; type: pip install 'defectloc\[explain\]'"):
        methods.check("saliency")


def test_map_that_the_model_does_not_have():
    model = model_of("densenet121")
    with pytest.raises(DefectlocError, match=r"localization\.map=memory"):
        attribute("memory", model, photographs(), [1], FEW, [0])
    model.extra_maps["memory"] = ExtraMap("", lambda _, photograph: (photograph[:, :, 0], Grid(1, 0)))
    methods.check("memory", model)


def test_inner_layer_behind_a_bypass():
    """DenseNet joins a layer's output with earlier maps, which replacing it has to survive."""
    model = model_of("densenet121")
    layer = "denseblock4.denselayer3"
    found = attribute("ablationcam", model, photographs(), [1], FEW, [0], layer=layer)
    assert found.maps.shape == (1, 2, 2)
    inner = find_layer(model, layer)[1]
    assert not inner._forward_hooks


class Corner(nn.Module):
    """Two classes; the log-odds is the mean square of the upper left quarter, which any blur makes smaller."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        side = images.shape[-1] // 2
        value = (images[:, :, :side, :side] / 255).square().mean((1, 2, 3)) * self.scale
        return torch.stack([-value, value], 1)


def corner_model(size=32):
    return ExplainedModel(
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
def test_the_place_that_matters_has_the_highest_values(name):
    """The mean inside the quarter that the score depends on is far above that outside."""
    for package in ("captum", "shap", "skimage"):
        pytest.importorskip(package)
    config = replace(FEW, lime_samples=150, rise_masks=2000, shap_evaluations=60, n_superpixels=16, window=0.25)
    image = photographs(1, 32)
    values = attribute(name, corner_model(), image, [1], config, [0]).maps[0]
    inside, outside = (
        values[:16, :16].mean(),
        np.delete(values.ravel(), np.arange(1024).reshape(32, 32)[:16, :16]).mean(),
    )
    if name == "lime":  # superpixels do not end where the quarter does
        assert inside > 3 * abs(outside)
    elif name == "rise":  # every mask shows half of the rest
        assert inside > outside + 0.004
    else:
        assert inside > 20 * abs(outside)

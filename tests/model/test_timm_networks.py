"""Networks of timm: the same numbers as timm's, at the places where its cells lie, with anybody's weights."""

import sys

import pytest
import torch
from torch import nn

from defectloc.config import Library, ModelConfig
from defectloc.errors import DefectlocError
from defectloc.model import timm_networks, weights
from defectloc.model.classifier import Classifier
from defectloc.model.levels import Level

timm = pytest.importorskip("timm")

# Written down from the layers of their kinds: (stride, centre of cell 0) of the levels for the bank.
GRIDS = {
    "wide_resnet50_2": {"layer2": (8, 0), "layer3": (16, 0)},
    "densenet121": {"features_denseblock2": (8, 2), "features_denseblock3": (16, 6)},
    "test_convnext": {"stages_1": (8, 3.5), "stages_2": (16, 7.5)},
    "tf_efficientnet_lite0": {"blocks_2": (8, 3.5), "blocks_4": (16, 7.5)},
    "efficientnet_b0": {"blocks_2": (8, 0), "blocks_4": (16, 0)},
    "swin_tiny_patch4_window7_224": {"layers_1": (8, 3.5), "layers_2": (16, 7.5)},
    "vit_tiny_patch16_224": {"blocks_11": (16, 7.5)},
    "vit_small_patch14_dinov2": {"blocks_11": (14, 6.5)},
}


def config(name: str, file: object = "none", cut: str = "auto") -> ModelConfig:
    return ModelConfig(name, str(file), "auto", cut, Library.timm)


def photographs(size: int = 64) -> torch.Tensor:
    return torch.rand(1, 3, size, size, generator=torch.Generator().manual_seed(0)) * 255


def normalized(name: str, images: torch.Tensor) -> torch.Tensor:
    known = timm.get_pretrained_cfg(name)
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (known.mean, known.std))
    return (images / 255 - mean) / std


@pytest.mark.parametrize("name", GRIDS)
def test_levels_for_the_bank_and_where_their_cells_lie(name):
    chain = timm_networks.stages(f"timm:{name}")
    cells = timm_networks.cells_of(chain)
    assert {level: cells[level] for level in timm_networks.bank_levels(chain)} == GRIDS[name]


@pytest.mark.parametrize(("name", "has_class_map"), [("test_resnet", True), ("test_efficientnet", False)])
def test_levels_are_those_of_timm(tmp_path, name, has_class_map):
    """A state dict of a whole classifier of timm's goes in; its own features come out."""
    torch.manual_seed(0)
    theirs = timm.create_model(name, pretrained=False, features_only=True).eval()
    whole = timm.create_model(name, pretrained=False).eval()
    flat = whole.state_dict() | {key.replace(".", "_", 1): value for key, value in whole.state_dict().items()}
    theirs.load_state_dict({key: flat[key] for key in theirs.state_dict()})
    torch.save(whole.state_dict(), tmp_path / "whole.pth")
    classifier, _, origin = weights.build(config(name, tmp_path / "whole.pth"), seed=0)
    assert "timm preprocessing" in origin
    assert classifier.has_class_map == has_class_map
    names = [each.replace(".", "_") for each in theirs.feature_info.module_name()]
    trunk = [Level(each) for each in names if each != classifier.trainable_from]
    with torch.inference_mode():
        expected = dict(zip(names, theirs(normalized(name, photographs())), strict=True))
        found = classifier.levels(photographs(), trunk)
        last = classifier.last_map(classifier.features(photographs())) if has_class_map else found[trunk[-1]]
    for level, values in found.items():
        torch.testing.assert_close(values, expected[level.stage], rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(last, expected[names[-1]], rtol=1e-3, atol=1e-4)


def test_tokens_lie_on_their_grid(tmp_path):
    """The tokens of the last block behind the last norm, at another size than the network was trained on."""
    torch.manual_seed(0)
    whole = timm.create_model("test_vit", pretrained=False, dynamic_img_size=True).eval()
    safetensors = pytest.importorskip("safetensors.torch")
    safetensors.save_file(whole.state_dict(), tmp_path / "vit.safetensors")
    classifier, _, _ = weights.build(config("test_vit", tmp_path / "vit.safetensors"), seed=0)
    (level,) = classifier.bank_levels
    with torch.inference_mode():
        tokens = whole.forward_features(normalized("test_vit", photographs()))[0, whole.num_prefix_tokens :]
        found = classifier.levels(photographs(), [level])[level]
    assert found.shape == (1, 64, 4, 4)
    torch.testing.assert_close(found[0, :, 1, 2], tokens[4 + 2], rtol=1e-3, atol=1e-4)
    assert classifier.trainable_from == "head"
    assert not classifier.has_class_map
    with pytest.raises(DefectlocError, match=r"no stage of timm:test_vit; choose one of head\."):
        Classifier("timm:test_vit", "network", "timm")


def test_a_checkpoint_comes_back_as_it_was(tmp_path):
    classifier, _, _ = weights.build(config("test_convnext"), seed=3)
    weights.save(tmp_path / "model.ckpt", classifier, {"image_size": 64})
    restored = weights.restore(tmp_path / "model.ckpt")
    start, _, _ = weights.build(config("test_convnext", tmp_path / "model.ckpt"), seed=0)
    assert (restored.backbone, restored.trainable_from, restored.preprocessing) == (
        "timm:test_convnext",
        "stages_3",
        "timm",
    )
    for other in (restored, start):
        assert all(torch.equal(a, b) for a, b in zip(classifier.parameters(), other.parameters(), strict=True))


@pytest.mark.parametrize(("name", "side"), [("swin_tiny_patch4_window7_224", 384), ("mambaout_femto", 192)])
def test_rows_are_rows_where_there_are_as_many_as_channels(name, side):
    """Channels last, and a first level of as many rows as channels: 96 of 4 px, or 48 of 4 px."""
    torch.manual_seed(0)
    classifier = Classifier(f"timm:{name}", "head", "timm").eval()
    level = Level(next(iter(classifier.trunk.get_submodule("network").cells)))
    striped = torch.zeros(1, 3, side, side)
    striped[:, :, : side // 4] = 255
    with torch.inference_mode():
        values = classifier.levels(striped, [level])[level][0]
    assert values.shape[0] == values.shape[1]
    assert values.std(1).mean() > 100 * values[:, 8:-8, 8:-8].std(2).mean()


@pytest.mark.parametrize(
    ("name", "level", "message"),
    [
        ("ghostnet_100", "blocks_4", "does not tell where the cells of 'blocks_4' lie; memory.levels may be conv_stem"),
        ("repvgg_a0", "stages_3", "does not tell where the cells of 'stages_3' lie"),
        ("selecsls42", None, "gives no map as its level 'features_"),
    ],
)
def test_levels_of_unknown_places_are_refused(name, level, message):
    classifier = Classifier(f"timm:{name}", "head", "timm").eval()
    with pytest.raises(DefectlocError, match=message):
        classifier.check_size(128, [Level(level)] if level else classifier.bank_levels)


def test_the_input_of_the_tail_may_lie_anywhere():
    classifier = Classifier("timm:gernet_s", "final_conv", "timm").eval()
    classifier.check_size(64, [])
    with pytest.raises(DefectlocError, match="does not tell"):
        classifier.check_size(64, [classifier.level])


@pytest.mark.parametrize("name", ["inception_v3", "convnext_tiny", "vit_small_patch14_dinov2", "resnet18"])
@pytest.mark.parametrize("side", [112, 224])
def test_levels_for_the_bank_are_accepted(name, side):
    classifier = Classifier(f"timm:{name}", "head", "timm").eval()
    classifier.check_size(side, classifier.bank_levels)


def test_no_activation_in_place():
    chain = timm_networks.stages("timm:test_resnet")
    assert any(isinstance(module, nn.ReLU) for stage in chain.values() for module in stage.modules())
    classifier = Classifier("timm:test_resnet", "head", "timm")
    assert not [module for module in classifier.modules() if getattr(module, "inplace", False)]


def test_a_norm_before_the_classifier_goes_with_it(tmp_path):
    """LeViT's `head.bn` and `head_dist.bn`; what lies beside them is still refused."""
    whole = timm.create_model("levit_128s")
    torch.save(whole.state_dict(), tmp_path / "levit.pth")
    classifier, _, _ = weights.build(config("levit_128s", tmp_path / "levit.pth"), seed=0)
    own = next(value for key, value in classifier.state_dict().items() if key.endswith("stem.conv1.linear.weight"))
    torch.testing.assert_close(own, whole.stem.conv1.linear.weight)
    torch.save({**whole.state_dict(), "header.weight": torch.zeros(1)}, tmp_path / "more.pth")
    with pytest.raises(DefectlocError, match=r"has 'header\.weight'"):
        weights.build(config("levit_128s", tmp_path / "more.pth"), seed=0)


def test_what_does_not_fit_is_refused_by_name(tmp_path):
    state = timm.create_model("test_resnet", pretrained=False).state_dict()
    torch.save({key: value for key, value in state.items() if key != "layer1.0.conv1.weight"}, tmp_path / "less.pth")
    with pytest.raises(DefectlocError, match=r"model\.name=test_resnet: it lacks 'layer1\.0\.conv1\.weight'"):
        weights.build(config("test_resnet", tmp_path / "less.pth"), seed=0)
    torch.save(state | {"layer9.weight": torch.zeros(1)}, tmp_path / "more.pth")
    with pytest.raises(DefectlocError, match=r"has 'layer9\.weight', which that network does not"):
        weights.build(config("test_resnet", tmp_path / "more.pth"), seed=0)
    torch.save(state | {"layer1.0.conv1.weight": torch.zeros(1)}, tmp_path / "other.pth")
    with pytest.raises(DefectlocError, match=r"'layer1\.0\.conv1\.weight' has the shape \(1,\)"):
        weights.build(config("test_resnet", tmp_path / "other.pth"), seed=0)


def test_unknown_networks_are_refused(monkeypatch):
    with pytest.raises(DefectlocError, match=r"model\.name=resnet99 is no network of timm; model=timm takes"):
        timm_networks.stages("timm:resnet99")
    with pytest.raises(DefectlocError, match=r"is no network of timm \(.*wide_resnet50_2.* are\)"):
        timm_networks.stages("timm:wide_resnet50")
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(DefectlocError, match=r"pip install 'defectloc\[timm\]'"):
        timm_networks.stages("timm:resnet18")


def test_weights_out_of_reach_name_the_ways_out(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(DefectlocError, match=r"timm's weights of test_vit are not reachable .*model\.weights=FILE"):
        weights.build(config("test_vit", "imagenet"), seed=0)

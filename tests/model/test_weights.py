"""Weights: read safely, whoever wrote them, and refused by the first name that does not fit."""

from pathlib import Path

import pytest
import torch
from torchvision import models

from defectloc.config import ModelConfig
from defectloc.errors import DefectlocError
from defectloc.model import pretrained, weights

CUTS = {"vgg16": "conv5_1", "resnet50": "layer4", "densenet121": "denseblock4", "efficientnet_lite1": "blocks5"}


@pytest.fixture(scope="module")
def published() -> dict[str, torch.nn.Module]:
    """Torchvision's own models with random weights and two classes, all statistics moved."""
    torch.manual_seed(0)
    nets = {"resnet50": models.resnet50(num_classes=2), "densenet121": models.densenet121(num_classes=2)}
    for net in nets.values():
        for module in net.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.running_mean.normal_(0, 0.1)
                module.running_var.uniform_(0.5, 2)
        net.eval()
    return nets


def photographs() -> torch.Tensor:
    return torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 255


def normalized(images: torch.Tensor) -> torch.Tensor:
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    return (images / 255 - mean.view(3, 1, 1)) / std.view(3, 1, 1)


def built(name: str, path: Path | str, **other):
    return weights.build(ModelConfig(name, str(path), other.get("preprocessing", "auto"), CUTS[name]), seed=0)


@pytest.mark.parametrize(("name", "prefix"), [("resnet50", ""), ("densenet121", "module.")])
def test_state_dict_of_torchvision_computes_the_same(published, tmp_path, name, prefix):
    """The two-class dense layer becomes the head, so that the logits are torchvision's."""
    state = {prefix + key: value for key, value in published[name].state_dict().items()}
    torch.save(state, tmp_path / "net.pth")
    classifier, digest, origin = built(name, tmp_path / "net.pth")
    with torch.no_grad():
        torch.testing.assert_close(
            classifier(photographs()), published[name](normalized(photographs())), rtol=1e-3, atol=1e-4
        )
    assert "torchvision preprocessing" in origin
    assert digest == weights.weights_digest(weights.state_of(classifier))


def test_vgg_computes_as_torchvision_does(tmp_path):
    """Up to the last ReLU: the pool behind it is left out, and the dense layers of its classifier are dropped."""
    torch.manual_seed(0)
    # Of the names of `models.vgg16`, without the 500 MB of its dense layers.
    with torch.device("meta"):
        names = [name for name, _ in models.vgg16().classifier.named_parameters()]
    features = models.vgg.make_layers(models.vgg.cfgs["D"])
    small = {f"classifier.{name}": torch.zeros(4, 4) for name in names}
    state = {f"features.{name}": value for name, value in features.state_dict().items()}
    torch.save(state | small, tmp_path / "vgg.pth")
    classifier, _, _ = built("vgg16", tmp_path / "vgg.pth")
    with torch.no_grad():
        ours = classifier.tail(classifier.features(photographs()))
        torch.testing.assert_close(ours, features[:30](normalized(photographs())), rtol=1e-3, atol=1e-5)


def test_head_of_another_width_is_dropped_and_said(published, tmp_path, capsys):
    state = published["resnet50"].state_dict() | {"fc.weight": torch.zeros(1000, 2048), "fc.bias": torch.zeros(1000)}
    torch.save(state, tmp_path / "net.pth")
    first, _, _ = built("resnet50", tmp_path / "net.pth")
    assert capsys.readouterr().err.count("not of two classes") == 1
    second, _, _ = built("resnet50", tmp_path / "net.pth")
    assert torch.equal(first.head.weight, second.head.weight)
    assert first.head.weight.abs().sum() > 0


def test_own_checkpoint_comes_back_as_it_was(tmp_path):
    classifier, _, _ = weights.build(ModelConfig("densenet121", "none", "oxford", "denseblock4"), seed=3)
    weights.save(tmp_path / "model.ckpt", classifier, {"image_size": 64})
    restored = weights.restore(tmp_path / "model.ckpt")
    start, _, origin = built("densenet121", tmp_path / "model.ckpt")
    assert restored.trainable_from == "denseblock4"
    for other in (restored, start):
        assert other.preprocessing == "oxford"
        assert all(torch.equal(a, b) for a, b in zip(classifier.parameters(), other.parameters(), strict=True))
    assert "oxford preprocessing" in origin


def test_foreign_networks_are_refused_by_name(published, tmp_path):
    torch.save(published["resnet50"].state_dict(), tmp_path / "net.pth")
    with pytest.raises(DefectlocError, match=r"does not fit model=densenet121: it lacks 'features\.conv0\.weight'"):
        built("densenet121", tmp_path / "net.pth")
    more = published["resnet50"].state_dict() | {"layer5.weight": torch.zeros(1)}
    torch.save(more, tmp_path / "more.pth")
    with pytest.raises(DefectlocError, match=r"has 'layer5\.weight', which that network does not"):
        built("resnet50", tmp_path / "more.pth")
    torch.save(published["resnet50"].state_dict() | {"conv1.weight": torch.zeros(64, 3, 3, 3)}, tmp_path / "small.pth")
    with pytest.raises(DefectlocError, match=r"'conv1\.weight' has the shape \(64, 3, 3, 3\)"):
        built("resnet50", tmp_path / "small.pth")


def test_old_names_of_densenet_are_understood(published, tmp_path):
    """Those in which torchvision publishes the weights: norm.1 instead of norm1."""
    state = published["densenet121"].state_dict()
    old = {
        key.replace("norm1", "norm.1").replace("conv1", "conv.1").replace("norm2", "norm.2").replace("conv2", "conv.2")
        if "denselayer" in key
        else key: value
        for key, value in state.items()
        if not key.endswith("num_batches_tracked")
    }
    torch.save(old, tmp_path / "old.pth")
    torch.save(state, tmp_path / "new.pth")
    assert built("densenet121", tmp_path / "old.pth")[1] == built("densenet121", tmp_path / "new.pth")[1]


def test_head_is_random_by_the_seed_and_leaves_the_generator_alone(tmp_path):
    before = torch.random.get_rng_state()
    heads = [weights.build(ModelConfig("densenet121", "none", "auto", "head"), seed=seed)[0].head for seed in (0, 0, 1)]
    assert torch.equal(before, torch.random.get_rng_state())
    assert torch.equal(heads[0].weight, heads[1].weight)
    assert not torch.equal(heads[0].weight, heads[2].weight)


def test_digest_changes_with_one_bit():
    state = {"a": torch.zeros(3), "b": torch.ones(2)}
    changed = {"b": torch.ones(2), "a": torch.tensor([0.0, 1e-30, 0.0])}
    assert weights.weights_digest(state) == weights.weights_digest(dict(reversed(state.items())))
    assert weights.weights_digest(state) != weights.weights_digest(changed)
    assert weights.weights_digest(state) != weights.weights_digest({"a": torch.zeros(3), "c": torch.ones(2)})


def test_preprocessing_follows_the_weights(tmp_path):
    """Wherever the Oxford convolutions come from, they are known by their bytes; trained ones further up too."""
    found = pretrained._from_wheel()
    if found is None:
        pytest.skip("needs the extra 'offline'")
    oxford, _ = found
    tuned = oxford | {"features.28.bias": torch.zeros(512)}
    torch.save(tuned, tmp_path / "tuned.pth")
    assert built("vgg16", tmp_path / "tuned.pth")[0].preprocessing == "oxford"
    torch.save(oxford | {"features.0.bias": torch.zeros(64)}, tmp_path / "other.pth")
    assert built("vgg16", tmp_path / "other.pth")[0].preprocessing == "torchvision"
    assert built("vgg16", tmp_path / "tuned.pth", preprocessing="torchvision")[0].preprocessing == "torchvision"

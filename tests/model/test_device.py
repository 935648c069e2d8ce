"""The mode in which equal runs give equal numbers. What needs a GPU is skipped where there is none."""

import os
import warnings

import pytest
import torch

from defectloc.config import TrainingConfig
from defectloc.errors import DefectlocError
from defectloc.model import device
from defectloc.model.classifier import Classifier
from defectloc.model.fit import DefectClassifier

needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
CUTS = {"vgg16": "conv5_1", "resnet50": "layer4", "densenet121": "denseblock4"}


@pytest.fixture(autouse=True)
def _mode(monkeypatch):
    """Leave the process as it was."""
    # Set first, so that its absence is restored as well.
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", "")
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG")
    threads, precision = torch.get_num_threads(), torch.get_float32_matmul_precision()
    tf32, benchmark = torch.backends.cudnn.allow_tf32, torch.backends.cudnn.benchmark
    yield
    torch.set_num_threads(threads)
    torch.set_float32_matmul_precision(precision)
    torch.backends.cudnn.allow_tf32, torch.backends.cudnn.benchmark = tf32, benchmark
    torch.use_deterministic_algorithms(False)
    torch.utils.deterministic.fill_uninitialized_memory = True


def test_a_device_that_is_not_there_is_refused():
    assert device.choose("cpu") == "cpu"
    assert device.choose("auto") in ("cuda", "mps", "cpu")
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    for name in (name for name, found in there.items() if not found):
        with pytest.raises(DefectlocError, match=f"device={name} is not there; this machine has .*cpu"):
            device.choose(name)


def test_full_precision_is_without_tf32_and_cuda_is_deterministic():
    torch.set_float32_matmul_precision("high")
    torch.backends.cudnn.allow_tf32 = torch.backends.cudnn.benchmark = True
    device.prepare("cuda", 1)
    assert not torch.backends.cuda.matmul.allow_tf32
    assert not torch.backends.cudnn.allow_tf32
    assert not torch.backends.cudnn.benchmark
    assert torch.are_deterministic_algorithms_enabled()
    assert torch.is_deterministic_algorithms_warn_only_enabled()
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"


def test_a_workspace_that_was_chosen_is_kept(monkeypatch):
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":16:8")
    device.prepare("cuda", 1)
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":16:8"


def test_on_a_cpu_only_the_threads_change():
    device.prepare("cpu", 1)
    assert torch.get_num_threads() == 1
    assert not torch.are_deterministic_algorithms_enabled()
    device.prepare("cpu", None)
    assert torch.get_num_threads() == len(os.sched_getaffinity(0))


@needs_cuda
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("backbone", CUTS)
def test_steps_on_a_gpu_are_deterministic_and_do_not_wait(backbone, precision):
    """Twice to the same bits, without a warning of an operation that is not deterministic, and without a sync."""
    device.prepare("cuda", None)
    states = []
    for _ in range(2):
        torch.manual_seed(0)
        classifier = Classifier(backbone, CUTS[backbone], "torchvision")
        module = DefectClassifier(classifier, TrainingConfig(), [1.0, 3.0], 0, from_images=True).cuda().train()
        optimizer = module.configure_optimizers()
        images, labels = torch.rand(8, 3, 64, 64).cuda() * 255, torch.tensor([0, 1] * 4).cuda()
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            # torch says so of the mode itself, when it is first set.
            warnings.filterwarnings("ignore", "Synchronization debug mode is a prototype")
            for _ in range(3):
                torch.cuda.set_sync_debug_mode("error")
                try:
                    with torch.autocast("cuda", torch.bfloat16, enabled=precision == "bfloat16"):
                        loss = module.training_step((images, labels), 0)
                        module.validation_step((images, labels), 0)
                    loss.backward()
                finally:
                    torch.cuda.set_sync_debug_mode("default")
                optimizer.step()
                optimizer.zero_grad()
        states.append({name: value.cpu() for name, value in classifier.state_dict().items()})
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())


# Of so many threads: workers, at most four, and the threads of each.
SHARE = {1: (1, 1), 2: (2, 1), 3: (3, 1), 4: (4, 1), 5: (4, 1), 6: (3, 2), 7: (3, 2), 8: (4, 2), 11: (2, 5), 16: (4, 4)}


@pytest.mark.parametrize(
    ("n_threads", "most", "expected"), [*((n, 4, SHARE[n]) for n in SHARE), (8, 1, (1, 8)), (8, 2, (2, 4))]
)
def test_workers_leave_at_most_one_thread_idle(n_threads, most, expected):
    torch.set_num_threads(n_threads)
    with device.shared_by(most) as n_workers:
        assert (n_workers, torch.get_num_threads()) == expected
    assert torch.get_num_threads() == n_threads

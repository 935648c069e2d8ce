"""Whole commands with EfficientNet-Lite and with networks of timm, of random weights."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

import defectloc
from defectloc.runs.directory import Run
from tests.conftest import FIT, files_below

pytest.importorskip("timm")
PILL = ["data=synthetic", "subset=pill", *FIT, "training.epochs=1", "localization.threshold=0.05"]
TOKENS = [*PILL, "model=timm", "model.name=test_vit"]


def the_run() -> Run:
    (folder,) = Path("outputs").glob("pill/fold0-*")
    return Run.open(folder)


def test_a_lite_network_from_fit_to_export(command):
    """Class network, bank and patch head; Grad-CAM; and the exported model gives what the run gives."""
    pytest.importorskip("onnxruntime")
    assert command("train", *PILL, "model=efficientnet_lite0").code == 0
    run = the_run()
    assert {path.name.partition("-")[0] for path in (run.folder / "maps").iterdir()} == {"cam", "memory", "fusion"}
    assert command("explain", f"run={run.folder}", "method=gradcam", "n=1", "threads=1").code == 0
    exported = command("export", f"run={run.folder}", "compare=3", "threads=1")
    assert exported.code == 0, exported.err
    compared = json.loads((run.folder / "export" / "onnx" / "comparison.json").read_text())
    assert compared["verdicts_changed"] == compared["boxes_changed"] == 0
    assert compared["map"] < 1e-3


def test_tokens_have_bank_and_patch_head_and_no_class_network(command):
    outcome = command("train", *TOKENS)
    assert outcome.code == 0, outcome.err
    assert "test_vit does not end in global pooling over a chain of stages: no class network is fitted" in outcome.err
    assert "shortcut check and the methods of `explain` that need them are left out" in outcome.err
    run = the_run()
    assert {path.name.partition("-")[0] for path in (run.folder / "maps").iterdir()} == {"memory", "fusion"}
    assert run.images()["log_odds"].isna().all()
    image = np.zeros((40, 40, 3), np.uint8)
    found = defectloc.load(run.folder, "cpu", 1).predict(image)
    assert found.anomaly_map.shape == (40, 40)
    assert "cannot be exported" in command("export", f"run={run.folder}").sentence
    assert "no class network" in command("explain", f"run={run.folder}").sentence


def test_a_class_network_of_tokens_is_refused(command):
    sentence = command("train", *TOKENS, "localization=cam").sentence
    assert "are unavailable, since test_vit does not end in global pooling" in sentence
    assert not files_below(Path("outputs/pill"))


def test_a_size_that_tokens_do_not_part_is_refused(command):
    sentence = command("train", *PILL, "model=timm", "model.name=eva02_tiny_patch14_224", "data.image_size=32").sentence
    assert "data.image_size=32 does not suit" in sentence


def test_a_chain_of_timm_is_fine_tuned(command):
    assert command("train", *PILL, "model=timm", "model.name=test_resnet", "localization=cam").code == 0
    run = the_run()
    content = torch.load(run.folder / "model.ckpt", weights_only=True)
    assert content["trainable_from"] == "layer4"
    assert command("explain", f"run={run.folder}", "method=layercam", "n=1", "threads=1").code == 0


def test_an_unknown_name_without_timm_is_refused(command):
    assert "choose one of vgg16, resnet50" in command("train", *PILL, "model.name=vgg61").sentence

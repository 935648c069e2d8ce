"""The data module: shuffled by seed and epoch, from memory or through a loader."""

import re
from graphlib import TopologicalSorter
from pathlib import Path

import numpy as np
import torch

import defectloc.data
from defectloc.data.datasets import FeatureDataset
from defectloc.data.module import FoldData


def data(resident: bool) -> FoldData:
    features = [np.full((2, 1, 1), i, np.float32) for i in range(7)]
    dataset = FeatureDataset(features, [i % 2 for i in range(7)])
    return FoldData(dataset, dataset, 3, seed=4, workers=0, resident=resident)


def test_no_module_of_the_package_imports_itself_by_way_of_others():
    folder = Path(defectloc.data.__file__).parent
    imports = {
        file.stem: re.findall(r"^ *from defectloc\.data\.(\w+) import", file.read_text(), re.MULTILINE)
        for file in folder.glob("*.py")
    }
    assert "datasets" in imports["resident"]
    TopologicalSorter(imports).prepare()


def test_a_resident_loader_gives_the_same_batches():
    for epoch in range(3):
        batches = []
        for resident in (False, True):
            loader = data(resident).train_dataloader()
            loader.sampler.set_epoch(epoch)
            batches.append(list(loader))
        assert [len(labels) for _, labels in batches[0]] == [3, 3, 1]
        for (features, labels), (others, same) in zip(*batches, strict=True):
            torch.testing.assert_close(features, others)
            torch.testing.assert_close(labels, same)


def test_the_validation_split_keeps_its_order():
    values = torch.cat([features[:, 0, 0, 0] for features, _ in data(False).val_dataloader()])
    assert values.tolist() == list(range(7))

"""Who is asked to explain: the network of a run, or one of torchvision's."""

import functools
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from omegaconf import OmegaConf

from defectloc.config import ExplainSettings
from defectloc.data.images import read_image
from defectloc.data.resize import resize
from defectloc.errors import DefectlocError
from defectloc.files import digest
from defectloc.localization.maps import Grid
from defectloc.remember import recall, recall_fusion
from defectloc.runs import CATALOG, CHECKPOINT, FUSION, MEMORY, Run, maps_name

if TYPE_CHECKING:
    from defectloc.attribution.subject import RunMap, Subject

GOOD, ANOMALY = "good", "anomaly"


@dataclass(frozen=True)
class Decision:
    """How a run's probability becomes a verdict."""

    threshold: float = 0.5
    temperature: float = 1.0


def subject_of(settings: ExplainSettings, run: Run | None) -> "Subject":
    """Load the network that the settings name, with what its methods may start from.

    Raises DefectlocError where weights or background images cannot be read.
    """
    import torch

    from defectloc.attribution.subject import Subject
    from defectloc.model import device as devices
    from defectloc.model import weights
    from defectloc.model.published import published

    torch.set_num_threads(settings.threads or len(os.sched_getaffinity(0)))
    device = devices.choose(settings.device)
    if run is None:
        assert settings.model.name is not None
        network, classes, size = published(settings.model.name, settings.model.weights)
        normalize: Any = next(iter(network.children()))
        key = weights.digest(network.state_dict())
        subject = Subject(network, classes, size, normalize.mean, key)
    else:
        classifier = weights.restore(run.folder / CHECKPOINT)
        size = int(run.record["settings"]["data"]["image_size"])
        key = weights.digest(weights.state_of(classifier))
        subject = Subject(classifier, [GOOD, ANOMALY], size, classifier.normalize.get_buffer("mean"), key)
        subject.run_maps = _run_maps(run, device)
        subject.background = functools.cache(lambda: _background(settings, run, size))
    subject.network.to(device)
    subject.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    subject.blank = subject.blank.to(device)
    return subject


def _run_maps(run: Run, device: str) -> dict[str, "RunMap"]:
    """Give the maps of a run that are made of more than its network, under the names of their methods."""
    from defectloc.attribution.subject import RunMap

    def there(kind: str, name: str) -> bool:
        return (run.folder / maps_name(kind)).is_file() and (run.folder / name).is_file()

    if not there("memory", MEMORY):
        return {}
    # Only a method that asks for them needs the files.
    memory = functools.cache(lambda: recall(run, device))
    fusion = functools.cache(lambda: recall_fusion(run, memory()[0]))
    grid = Grid(*run.maps("memory").grid)

    def arrays(network: Any, images: Any, names: list[str]) -> list[np.ndarray]:
        found = network.levels(images, names)
        return [found[name].float().contiguous().cpu().numpy() for name in names]

    def distances(network: Any, images: Any) -> tuple[np.ndarray, Grid]:
        known, levels = memory()
        return known.distances(arrays(network, images, levels)), grid

    def fused(network: Any, images: Any) -> tuple[np.ndarray, Grid]:
        *own, inputs = arrays(network, images, [*memory()[1], network.level])
        return fusion().look(network, own, inputs).fused, grid

    found = {"memory": RunMap(digest(run.folder / MEMORY), distances)}
    if there("fusion", FUSION):
        found["fusion"] = RunMap(digest(run.folder / MEMORY) + digest(run.folder / FUSION), fused)
    return found


def root_of(settings: ExplainSettings, run: Run) -> Path:
    """Give the folder that a run's paths are relative to; raises DefectlocError where it is gone."""
    root = Path(run.record["root"] if settings.root is None else settings.root).expanduser()
    if not root.is_dir():
        raise DefectlocError(f"the data of run={run.folder} is not in {root} any more; say where with root=FOLDER.")
    return root


def _background(settings: ExplainSettings, run: Run, image_size: int) -> Any:
    """Draw good training images by the seed: `(B, 3, S, S)`."""
    import torch

    root = root_of(settings, run)
    catalog = pd.read_csv(run.folder / CATALOG)
    good = catalog[(catalog["split"] == "train") & (catalog["label"] == 0)]["path"].to_numpy()
    drawn = np.random.default_rng(settings.seed).permutation(len(good))[: settings.attribution.background]
    return torch.stack([resize(read_image(root / good[i]), image_size) for i in sorted(drawn)])


def decision_of(run: Run) -> Decision:
    """Read how the run was last told to decide; runs whose decision is not the class's are cut at 0.5."""
    try:
        name = json.loads((run.folder / "metrics.json").read_text(encoding="utf-8"))["localization"]
        folder = run.folder / "localization" / name
        notes = json.loads((folder / "calibration.json").read_text(encoding="utf-8"))
        given: Any = OmegaConf.load(folder / "config.yaml")
        if given.decision.score != "class":
            return Decision()
        return Decision(float(notes["decision_threshold"]), float(notes["temperature"]))
    except FileNotFoundError:
        return Decision()

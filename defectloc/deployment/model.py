"""A whole model as one ONNX graph: photographs in, probability, label, heat map and mask out."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from defectloc.deployment import image, patches, verdict
from defectloc.deployment.graph import Graph, Output
from defectloc.deployment.network import class_map, trunk_levels
from defectloc.errors import DefectlocError
from defectloc.localization.combination import Combination
from defectloc.localization.decision import Decision
from defectloc.localization.localizer import Localizer
from defectloc.localization.maps import Grid
from defectloc.model.backbones import is_of_timm
from defectloc.model.classifier import Classifier
from defectloc.model.levels import IMAGE, Level
from defectloc.model.memory_bank import MemoryBank
from defectloc.model.novelty import Novelty
from defectloc.model.patch_head import PatchHead

INPUT = "image"
# As anomalib's exports and Intel's model_api name and shape them.
OUTPUTS = (
    Output("pred_score", "FLOAT", ("batch",)),
    Output("pred_label", "BOOL", ("batch",)),
    Output("anomaly_map", "FLOAT", ("batch", 1, "height", "width")),
    Output("pred_mask", "BOOL", ("batch", 1, "height", "width")),
)
SCORE, CELLS, LOG_ODDS, NOVELTY = "score", "cells", "log_odds", "novelty"


@dataclass(frozen=True)
class Parts:
    """All that a model is made of; its `kind` is that of its map, its `image_size` height and width of its input.

    `scale` is the map's value of full colour; `ignored` `(H, W)` are pixels without a heat map, of any size.
    """

    classifier: Classifier
    image_size: tuple[int, int]
    kind: str
    decision: Decision
    localizer: Localizer
    grid: Grid
    scale: float
    has_class_network: bool
    bank: MemoryBank | None = None
    levels: tuple[Level, ...] = ()
    head: PatchHead | None = None
    combination: Combination | None = None
    novelty: Novelty | None = None
    ignored: NDArray[np.bool_] | None = None

    @property
    def uses_class_network(self) -> bool:
        """Tell whether map or decision take something from the class network."""
        return self.has_class_network and ("cam" in self.kinds or self.decision.weights.of_class != 0)

    @property
    def kinds(self) -> set[str]:
        """Name the maps that the model's map and score are made of; a score by class is made of `cam`."""
        return {self.kind, "cam" if self.decision.score == "class" else self.decision.score}

    @property
    def uses_bank(self) -> bool:
        """Tell whether map or decision are made of the memory bank."""
        return not self.kinds.isdisjoint(("memory", "fusion"))


@dataclass(frozen=True)
class Built:
    """An ONNX model, the values inside it that can be declared as outputs too, and (h, w) of its map."""

    model: Any
    inner: tuple[Output, ...]
    declaration: bytes
    cells: tuple[int, int]


def build(parts: Parts, metadata: dict[str, str]) -> Built:
    """Build the graph; raises DefectlocError where a part cannot be exported."""
    graph = Graph()
    if is_of_timm(parts.classifier.backbone):
        name = parts.classifier.backbone.partition(":")[2]
        raise DefectlocError(
            f"a run of model=timm (here {name}) cannot be exported: its layers are timm's own; the other backbones can."
        )
    resized = image.resized(graph, INPUT, parts.image_size)
    levels = list(parts.levels) if parts.uses_bank else []
    of_class = parts.classifier.level
    wanted = [each for each in ([of_class] if parts.uses_class_network else []) + levels if each != IMAGE]
    found = {IMAGE: resized} | trunk_levels(graph, parts.classifier, resized, list(dict.fromkeys(wanted)))
    maps: dict[str, tuple[str, tuple[int, int]]] = {}
    shapes = _shapes(parts)
    log_odds, inner = None, []
    if parts.uses_class_network:
        cam = class_map(graph, parts.classifier, found[of_class])
        log_odds = graph.reduce("Mean", cam, 1, 2, keep=False, name=LOG_ODDS)
        inner.append(Output(LOG_ODDS, "FLOAT", ("batch",)))
        maps["cam"] = cam, shapes[None]
    if parts.uses_bank:
        maps |= _bank_maps(graph, parts, [found[each] for each in levels], [shapes[each] for each in levels])
    is_known = None
    if parts.uses_bank and parts.novelty is not None:
        ratio = patches.novelty(graph, parts.novelty, [found[each] for each in levels])
        ratio = graph.add("Identity", ratio, name=NOVELTY)
        inner.append(Output(NOVELTY, "FLOAT", ("batch",)))
        is_known = graph.add("LessOrEqual", ratio, graph.constant(1.0))
    decided_by = maps.get(parts.decision.score)
    map_score = None if decided_by is None else verdict.top_k_mean(graph, decided_by[0], int(np.prod(decided_by[1])))
    score = verdict.score(graph, parts.decision, map_score, log_odds, SCORE)
    cells, shape = maps[parts.kind]
    cells = graph.add("Identity", cells, name=CELLS)
    _outputs(graph, parts, score, cells, shape, is_known)
    inner += [Output(SCORE, "FLOAT", ("batch",)), Output(CELLS, "FLOAT", ("batch", *shape))]
    model = graph.model(INPUT, OUTPUTS, metadata)
    return Built(model, tuple(inner), graph.declaration(inner), shape)


def _bank_maps(
    graph: Graph, parts: Parts, levels: list[str], shapes: list[tuple[int, int]]
) -> dict[str, tuple[str, tuple[int, int]]]:
    assert parts.bank is not None
    vectors, size = patches.standardized(graph, parts.bank, levels, shapes)
    maps = {"memory": (patches.distances(graph, parts.bank, vectors, size), size)}
    if "fusion" in parts.kinds:
        assert parts.head is not None
        assert parts.combination is not None
        log_odds = patches.log_odds(graph, parts.head, vectors, size)
        maps["fusion"] = patches.combined(graph, parts.combination, log_odds, maps["memory"][0]), size
    return maps


def _outputs(graph: Graph, parts: Parts, score: str, cells: str, shape: tuple[int, int], is_known: str | None) -> None:
    """Add the nodes of OUTPUTS; a photograph unlike the training photographs has no probability and no mask."""
    probability = verdict.probability(graph, parts.decision, score)
    label = graph.add("Greater", score, graph.constant(parts.decision.threshold.score), name="pred_label")
    judged = label
    if is_known is not None:
        probability = graph.add("Where", is_known, probability, graph.constant(np.nan))
        judged = graph.add("And", label, is_known)
    graph.add("Identity", probability, name="pred_score")
    values = image.native(graph, cells, INPUT, shape, parts.image_size, parts.grid)
    if parts.ignored is not None:
        values = image.without_ignored(graph, values, INPUT, parts.ignored)
    values = verdict.normalized(graph, parts.localizer, values)
    verdict.shown(graph, parts.localizer, values, parts.scale, "anomaly_map")
    verdict.mask(graph, parts.localizer, values, judged, "pred_mask")


def _shapes(parts: Parts) -> dict[Level | None, tuple[int, int]]:
    """Measure (h, w) of the levels, and under None that of the class activation map, by one pass of a black image."""
    classifier = parts.classifier
    levels = [*parts.levels, classifier.level]
    with torch.inference_mode():
        black = torch.zeros(1, 3, *parts.image_size)
        found: dict[Any, Any] = dict(classifier.levels(black, levels))
        if parts.uses_class_network:
            found[None] = classifier.channels(found[classifier.level])
    shapes: dict[Level | None, tuple[int, int]] = {}
    for level, values in found.items():
        height, width = values.shape[2:]
        shapes[level] = int(height), int(width)
    if 0 in [n for shape in shapes.values() for n in shape]:
        raise DefectlocError(f"{parts.image_size[0]} x {parts.image_size[1]} pixels are too few for this network.")
    return shapes

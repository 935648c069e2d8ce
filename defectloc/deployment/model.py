"""A whole model as ONNX graphs: photographs in, probability, label, heat map and mask out.

One graph, or for photographs in tiles two: from a tile to its levels, and from the joined levels to all that is asked.
What lies between, cutting and joining, is no part of either.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from defectloc.data.tiles import Tiling
from defectloc.deployment import guided, image, patches, verdict
from defectloc.deployment.graph import Graph, Value
from defectloc.deployment.network import class_map, trunk_levels
from defectloc.errors import DefectlocError
from defectloc.localization.combination import Combination
from defectloc.localization.decision import Decision
from defectloc.localization.guided import REFINED_GRID
from defectloc.localization.localizer import Localizer
from defectloc.localization.maps import Grid
from defectloc.model.backbones import is_of_timm
from defectloc.model.classifier import Classifier
from defectloc.model.levels import IMAGE, Level
from defectloc.model.memory_bank import MemoryBank
from defectloc.model.novelty import Novelty
from defectloc.model.patch_head import PatchHead

INPUT, TILE = "image", "tile"
PHOTOGRAPHS = Value(INPUT, "UINT8", ("batch", "height", "width", 3))
# As anomalib's exports and Intel's model_api name and shape them.
OUTPUTS = (
    Value("pred_score", "FLOAT", ("batch",)),
    Value("pred_label", "BOOL", ("batch",)),
    Value("anomaly_map", "FLOAT", ("batch", 1, "height", "width")),
    Value("pred_mask", "BOOL", ("batch", 1, "height", "width")),
)
SCORE, CELLS, LOG_ODDS, NOVELTY = "score", "cells", "log_odds", "novelty"
# Patches of the bank, or hidden units, at once for photographs in tiles: their tables are smaller than VGG16's levels.
PIECE_OF_LARGE = 128


@dataclass(frozen=True)
class Parts:
    """All that a model is made of; its `kind` is that of its map, its `image_size` height and width of its input.

    `scale` is the map's value of full colour; `ignored` `(H, W)` are pixels without a heat map, of any size. The bank
    sees photographs by `tiling`, or whole; with `guided` the photograph guides the map's way to pixels.
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
    tiling: Tiling | None = None
    guided: bool = False

    @property
    def cells_grid(self) -> Grid:
        """Give the grid of the map that the graph gives: one that the photograph guides has a cell for each pixel."""
        return REFINED_GRID if self.guided else self.grid

    @property
    def uses_class_network(self) -> bool:
        """Tell whether map or decision take something from the class network."""
        return self.has_class_network and ("cam" in self.kinds or self.decision.weights.of_class != 0)

    @property
    def kinds(self) -> set[str]:
        """Name the maps that the model's map and score are made of; a score by class is made of `cam`."""
        return {self.kind, "cam" if self.decision.score == "class" else self.decision.score}

    @property
    def map_tiling(self) -> Tiling | None:
        """Give the tiling of the map; None for a map of whole photographs."""
        return None if self.kind == "cam" else self.tiling

    @property
    def uses_bank(self) -> bool:
        """Tell whether map or decision are made of the memory bank."""
        return not self.kinds.isdisjoint(("memory", "fusion"))


@dataclass(frozen=True)
class Built:
    """An ONNX model, the values inside it that can be declared as outputs too, and (h, w) of its map where fixed.

    `joined` names its inputs beside photographs: levels of the bank, joined of tiles.
    """

    model: Any
    inner: tuple[Value, ...] = ()
    declaration: bytes = b""
    cells: tuple[int, int] | None = None
    joined: tuple[str, ...] = ()


def build(parts: Parts, metadata: dict[str, str]) -> list[Built]:
    """Build the graphs, that of photographs last; raises DefectlocError where a part cannot be exported."""
    if is_of_timm(parts.classifier.backbone):
        name = parts.classifier.backbone.partition(":")[2]
        raise DefectlocError(
            f"a run of model=timm (here {name}) cannot be exported: its layers are timm's own; the other backbones can."
        )
    if parts.tiling is None:
        return [_of_photographs(parts, [], metadata)]
    tile, joined = _of_tiles(parts, parts.tiling.side, metadata)
    return [tile, _of_photographs(parts, joined, metadata)]


def _of_tiles(parts: Parts, side: int, metadata: dict[str, str]) -> tuple[Built, list[Value]]:
    """Build the graph from tiles `(N, 3, S, S)` in 0..255 to the bank's levels; gives these as they are joined, too."""
    graph = Graph()
    tile = Value(TILE, "FLOAT", ("tiles", 3, side, side))
    found = _levels(graph, parts, TILE, parts.levels)
    n_channels = _measured(parts, list(parts.levels), (side, side))
    given, joined = [], []
    for number, level in enumerate(parts.levels):
        name, channels = f"level{number}", n_channels[level][0]
        graph.add("Identity", found[level], name=name)
        given.append(Value(name, "FLOAT", ("tiles", *n_channels[level])))
        joined.append(Value(name, "FLOAT", ("batch", channels, f"height {number}", f"width {number}")))
    return Built(graph.model([tile], given, metadata)), joined


def _of_photographs(parts: Parts, joined: Sequence[Value], metadata: dict[str, str]) -> Built:
    """Build the graph from photographs, and from the bank's levels where these were joined of tiles, to the outputs."""
    graph = Graph()
    of_class = parts.classifier.level
    levels = list(parts.levels) if parts.uses_bank else []
    wanted = ([of_class] if parts.uses_class_network else []) + ([] if joined else levels)
    found: dict[Level, str] = {}
    seen = image.resized(graph, INPUT, parts.image_size) if wanted or parts.guided else ""
    if wanted:
        found = _levels(graph, parts, seen, wanted)
    of_bank = [each.name for each in joined] or [found[each] for each in levels]
    maps: dict[str, str] = {}
    log_odds, inner = None, []
    if parts.uses_class_network:
        cam = class_map(graph, parts.classifier, found[of_class])
        log_odds = graph.reduce("Mean", cam, 1, 2, keep=False, name=LOG_ODDS)
        inner.append(Value(LOG_ODDS, "FLOAT", ("batch",)))
        maps["cam"] = cam
    if parts.uses_bank:
        maps |= _bank_maps(graph, parts, of_bank)
    is_known = None
    if parts.uses_bank and parts.novelty is not None:
        ratio = patches.novelty(graph, parts.novelty, of_bank)
        ratio = graph.add("Identity", ratio, name=NOVELTY)
        inner.append(Value(NOVELTY, "FLOAT", ("batch",)))
        is_known = graph.add("LessOrEqual", ratio, graph.constant(1.0))
    decided_by = maps.get(parts.decision.score)
    map_score = None if decided_by is None else verdict.top_k_mean(graph, decided_by)
    score = verdict.score(graph, parts.decision, map_score, log_odds, SCORE)
    values = maps[parts.kind]
    if parts.guided:
        values = guided.refined(graph, values, seen, parts.image_size, parts.grid)
    cells = graph.add("Identity", values, name=CELLS)
    _outputs(graph, parts, score, cells, is_known)
    shape = _shape(parts)
    inner += [
        Value(SCORE, "FLOAT", ("batch",)),
        Value(CELLS, "FLOAT", ("batch", *(shape or ("cells high", "cells wide")))),
    ]
    model = graph.model([PHOTOGRAPHS, *joined], OUTPUTS, metadata)
    return Built(model, tuple(inner), graph.declaration(inner), shape, tuple(each.name for each in joined))


def _levels(graph: Graph, parts: Parts, resized: str, levels: Sequence[Level]) -> dict[Level, str]:
    """Give levels of images `(N, 3, h, w)` in 0..255."""
    wanted = [each for each in dict.fromkeys(levels) if each != IMAGE]
    return {IMAGE: resized} | trunk_levels(graph, parts.classifier, resized, wanted)


def _bank_maps(graph: Graph, parts: Parts, levels: list[str]) -> dict[str, str]:
    assert parts.bank is not None
    vectors, shape = patches.standardized(graph, parts.bank, levels)
    piece = patches.PIECE if parts.tiling is None else PIECE_OF_LARGE
    maps = {"memory": patches.distances(graph, parts.bank, vectors, shape, piece)}
    if "fusion" in parts.kinds:
        assert parts.head is not None
        assert parts.combination is not None
        log_odds = patches.log_odds(graph, parts.head, vectors, shape, piece)
        maps["fusion"] = patches.combined(graph, parts.combination, log_odds, maps["memory"])
    return maps


def _outputs(graph: Graph, parts: Parts, score: str, cells: str, is_known: str | None) -> None:
    """Add the nodes of OUTPUTS; a photograph unlike the training photographs has no probability and no mask."""
    probability = verdict.probability(graph, parts.decision, score)
    label = graph.add("Greater", score, graph.constant(parts.decision.threshold.score), name="pred_label")
    judged = label
    if is_known is not None:
        probability = graph.add("Where", is_known, probability, graph.constant(np.nan))
        judged = graph.add("And", label, is_known)
    graph.add("Identity", probability, name="pred_score")
    pixels = graph.side(INPUT, 1), graph.side(INPUT, 2)
    values = image.native(graph, cells, pixels, None if parts.map_tiling else parts.image_size, parts.cells_grid)
    if parts.ignored is not None:
        values = image.without_ignored(graph, values, INPUT, parts.ignored)
    values = verdict.normalized(graph, parts.localizer, values)
    verdict.shown(graph, parts.localizer, values, parts.scale, "anomaly_map")
    verdict.mask(graph, parts.localizer, values, judged, "pred_mask")


def _shape(parts: Parts) -> tuple[int, int] | None:
    """Measure (h, w) of the map of one black image; None for photographs in tiles, whose maps have shapes of their own.

    Raises DefectlocError where an image has too few pixels for the network.
    """
    if parts.map_tiling is not None:
        return None
    if parts.guided:
        return parts.image_size
    levels = list(parts.levels) if parts.uses_bank and parts.tiling is None else []
    shapes = _measured(parts, [*levels, parts.classifier.level], parts.image_size)
    if parts.kind == "cam":
        return shapes[None][1:]
    assert parts.bank is not None
    return shapes[parts.levels[parts.bank.grids.index(parts.bank.grid)]][1:]


def _measured(parts: Parts, levels: list[Level], size: tuple[int, int]) -> dict[Level | None, tuple[int, int, int]]:
    """Measure (C, h, w) of levels, and under None that of the class activation map, by one pass of a black image."""
    classifier = parts.classifier
    shapes: dict[Level | None, tuple[int, int, int]] = {}
    with torch.inference_mode():
        found: dict[Any, Any] = dict(classifier.levels(torch.zeros(1, 3, *size), levels))
        if parts.uses_class_network and classifier.level in found:
            found[None] = classifier.channels(found[classifier.level])
    for level, values in found.items():
        channels, height, width = values.shape[1:]
        shapes[level] = int(channels), int(height), int(width)
    if 0 in [n for shape in shapes.values() for n in shape]:
        raise DefectlocError(f"{size[0]} x {size[1]} pixels are too few for this network.")
    return shapes

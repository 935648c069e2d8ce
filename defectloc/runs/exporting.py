"""A finished run as a model to deploy: its graphs, what `model.json` says of them, and a script that runs them."""

import json
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from defectloc import __version__
from defectloc.config import ExportSettings
from defectloc.deployment import run_model, run_tiles
from defectloc.deployment.comparison import BATCHES, compare
from defectloc.deployment.conversion import to_openvino
from defectloc.deployment.exported_model import ExportedModel
from defectloc.deployment.files import (
    ABOUT,
    IGNORE_MASK,
    IN_TILES,
    RUNNER,
    SUFFIXES,
    TILES_RUNNER,
    WHOLE,
    model_files,
    write_about,
)
from defectloc.deployment.model import Built, Parts, build
from defectloc.errors import DefectlocError
from defectloc.files import CHECKSUM, atomic, digest_of, lock, read_json, write_text
from defectloc.localization.decision import DEFECTIVE, GOOD
from defectloc.model import device as devices
from defectloc.runs.directory import LOCK, RECORD, Run
from defectloc.runs.predictor import Predictor

PACKAGES = ("defectloc", "onnx", "onnxruntime", "openvino", "torch")
EXPORTS = "export"
COMPARISON = "comparison.json"
# Calls below which their time is not worth measuring.
TIMED = 5


def run(settings: ExportSettings) -> Path:
    """Export a run as it was last post-processed, and compare both on some of its images; gives the folder.

    Raises DefectlocError where the run is not finished, a package is missing, or the output is of something else.
    """
    # Pinned, so that the model and what is written of it are of one localization.
    finished = Run.open(settings.run).pinned()
    devices.prepare("cpu", settings.threads)
    predictor = Predictor(finished, "cpu")
    runtime = str(settings.format)
    output = finished.folder / EXPORTS / runtime if settings.output is None else Path(settings.output).expanduser()
    _check_output(output)
    with lock(output / LOCK, f"the same output ({output})"):
        write(finished, predictor, runtime, output)
        if settings.compare:
            _compare(finished, predictor, output, settings)
    print(f"exported: {output}")
    return output


def _check_output(output: Path) -> None:
    """Raise DefectlocError for a run directory, which would pass for an export, and where a file would be lost."""
    if (output / RECORD).exists():
        raise DefectlocError(f"output={output} is a run directory; choose another folder.")
    about = read_json(output / ABOUT)
    if (output / ABOUT).exists() and (about is None or not {CHECKSUM, "format", "runtime"} <= about.keys()):
        raise DefectlocError(
            f"output={output} holds a {ABOUT} that is not of an exported model, or was changed; "
            "remove it or choose another folder."
        )


def write(finished: Run, predictor: Predictor, runtime: str, output: Path) -> None:
    """Write the model of a predictor, for 'onnx' or 'openvino'; raises DefectlocError where a package is missing."""
    parts = predictor.parts()
    about = _about(finished, predictor, parts, runtime)
    # The digest binds the graph to all that model.json says, so that neither goes with another's.
    metadata = _metadata(parts) | {"defectloc_settings": digest_of(about)}
    built = build(parts, metadata)
    files: dict[str, bytes] = {}
    for each, names in zip(built, model_files(runtime, parts.tiling), strict=True):
        contents = [each.model.SerializeToString()] if runtime == "onnx" else to_openvino(each, metadata)
        files |= dict(zip(names, contents, strict=True))
    # No folder is whole without it, also while files are replaced; what was compared was the model before.
    for name in (*_of_before(output), ABOUT, COMPARISON):
        (output / name).unlink(missing_ok=True)
    for name, content in files.items():
        with atomic(output / name) as temporary:
            temporary.write_bytes(content)
    written = list(files)
    if parts.ignored is not None:
        written.append(IGNORE_MASK)
        with atomic(output / IGNORE_MASK) as temporary:
            Image.fromarray(parts.ignored).save(temporary)
    if runtime == "onnx":
        for name, script in ((RUNNER, run_model), (TILES_RUNNER, run_tiles))[: len(built)]:
            write_text(output / name, Path(str(script.__file__)).read_text(encoding="utf-8"))
    write_about(output, about | _of_graph(built[-1]), written)


def _of_before(output: Path) -> list[str]:
    """Name the graphs, and what runs them in tiles, that the export before this one left in a folder."""
    files = (read_json(output / ABOUT) or {}).get("files", {})
    graphs = [name for name in files if Path(name).stem in (*WHOLE, *IN_TILES) and Path(name).name == name]
    return [*graphs, TILES_RUNNER] if f"{IN_TILES[0]}{SUFFIXES['onnx'][0]}" in graphs else graphs


def _about(finished: Run, predictor: Predictor, parts: Parts, runtime: str) -> dict[str, Any]:
    record = finished.record
    last = finished.last_localization()
    assert last is not None
    return {
        "producer": f"defectloc {__version__}",
        "runtime": runtime,
        "classes": [GOOD, DEFECTIVE],
        "image_size": list(parts.image_size),
        "tiling": None if parts.tiling is None else parts.tiling.to_json(),
        "map": parts.kind,
        "grid": {"stride": parts.cells_grid.stride, "offset": parts.cells_grid.offset},
        "scale": list(predictor.scale),
        "class_network": parts.uses_class_network,
        "decision": parts.decision.to_json(),
        "localizer": parts.localizer.to_json(),
        "run": {name: record[name] for name in ("subset", "fold", "fingerprint")} | {"localization": last.name},
        "model": {name: str(record["settings"]["model"][name]) for name in ("name", "weights", "trainable_from")},
        "versions": {name: found for name in PACKAGES if (found := _version(name)) is not None},
    }


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _of_graph(built: Built) -> dict[str, Any]:
    return {
        "input": {"name": "image", "type": "uint8", "layout": "NHWC", "colours": "RGB"},
        "levels": list(built.joined),
        "cells": None if built.cells is None else list(built.cells),
        "inner_outputs": {"names": [each.name for each in built.inner], "declaration": built.declaration.hex()},
    }


def _metadata(parts: Parts) -> dict[str, str]:
    """Give what Intel's model_api reads from a model: that photographs go into it as they are, unless in tiles."""
    if parts.tiling is not None:
        return {}
    values = {
        "model_type": "AnomalyDetection",
        "task": "segmentation",
        "labels": f"{GOOD} {DEFECTIVE}",
        "embedded_processing": "True",
        "orig_height": str(parts.image_size[0]),
        "orig_width": str(parts.image_size[1]),
    }
    return {f"model_info {name}": value for name, value in values.items()}


def _compare(finished: Run, predictor: Predictor, output: Path, settings: ExportSettings) -> None:
    """Compare the exported model with the run on held-out images, where these can be read; notes what was found."""
    images = finished.images()
    root = Path(finished.record["root"])
    chosen = images["path"].iloc[np.unique(np.linspace(0, len(images) - 1, settings.compare).round().astype(int))]
    paths = [root / path for path in chosen if (root / path).is_file()]
    if not paths:
        print(f"note: the images of the run are not in {root}, so that nothing was compared", file=sys.stderr)
        return
    model = ExportedModel(output, threads=settings.threads)
    batches = [size for size in BATCHES if len(paths) >= TIMED * size]
    found = compare(predictor, model, paths, batches or [1])
    content = {name: getattr(found, name) for name in ("n_images", "probability", "score", "map")}
    content |= {"verdicts_changed": found.n_verdicts, "boxes_changed": found.n_boxes}
    if batches:
        content["milliseconds"] = found.times()
    write_text(output / COMPARISON, json.dumps(content, indent=2) + "\n")
    print(found.sentence())
    for name, each in found.times().items() if batches else ():
        print(f"{name}: {each['median']} ms an image (95th percentile {each['p95']})")
    if not found.is_equal:
        print(
            f"note: that is more than rounding (see {output / COMPARISON}); a run fitted on a GPU computes in "
            "bfloat16 there",
            file=sys.stderr,
        )

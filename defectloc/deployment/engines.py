"""Exported graphs at work, by ONNX Runtime or OpenVINO."""

import threading
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from defectloc.deployment.files import MODEL_FILES, Exported
from defectloc.deployment.model import INPUT, OUTPUTS
from defectloc.errors import DefectlocError

# Photographs `(N, H, W, 3)` uint8 to the graph's outputs and its inner values, by name.
Engine = Callable[[NDArray[np.uint8]], dict[str, NDArray[Any]]]


def engine(exported: Exported, threads: int | None = None) -> Engine:
    """Load an exported model's graph on the CPU; several threads may call what is given.

    Raises DefectlocError where its runtime is not installed or cannot read it.
    """
    make = {"onnx": _onnxruntime, "openvino": _openvino}[exported.about["runtime"]]
    path = exported.folder / MODEL_FILES[exported.about["runtime"]][0]
    names = [*(each.name for each in OUTPUTS), *exported.about["inner_outputs"]["names"]]
    try:
        return make(exported, names, threads)
    except ImportError as error:
        raise DefectlocError(f"the package '{error.name}' is not installed, which {path} needs; install it.") from error
    # Each runtime refuses what it cannot read by kinds of exception of its own.
    except Exception as error:
        what = " ".join(str(error).split())
        raise DefectlocError(f"{path} cannot be loaded by its runtime ({what[:200]}); try another version.") from error


def _onnxruntime(exported: Exported, names: list[str], threads: int | None) -> Engine:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or 0
    declared = exported.model[0] + bytes.fromhex(exported.about["inner_outputs"]["declaration"])
    session = onnxruntime.InferenceSession(declared, options, providers=["CPUExecutionProvider"])

    def run(images: NDArray[np.uint8]) -> dict[str, NDArray[Any]]:
        return dict(zip(names, session.run(names, {INPUT: images}), strict=True))

    return run


def _openvino(exported: Exported, names: list[str], threads: int | None) -> Engine:
    core = openvino_core()
    structure, weights = exported.model
    model = core.read_model(structure, weights)
    model.add_outputs(exported.about["inner_outputs"]["names"])
    # Its default is bfloat16 on processors that have it.
    settings: dict[str, Any] = {"INFERENCE_PRECISION_HINT": "f32"}
    if threads is not None:
        settings["INFERENCE_NUM_THREADS"] = threads
    compiled = core.compile_model(model, "CPU", settings)
    own = threading.local()

    def run(images: NDArray[np.uint8]) -> dict[str, NDArray[Any]]:
        # A request serves one thread at a time.
        if not hasattr(own, "request"):
            own.request = compiled.create_infer_request()
        found = own.request.infer({INPUT: images})
        return {name: np.array(found[name]) for name in names}

    return run


@cache
def openvino_core() -> Any:
    """Give the process's one `openvino.Core`; raises ImportError where OpenVINO is not installed.

    Of two, the one freed last leaves this thread to handle signals in memory that the other had freed: the next signal,
    even one with a handler, ends the process by SIGSEGV (OpenVINO 2026.4).
    """
    import openvino

    return openvino.Core()

"""Exported graphs at work, by ONNX Runtime or OpenVINO."""

import threading
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from defectloc.deployment.files import Exported, model_files
from defectloc.deployment.model import OUTPUTS
from defectloc.errors import DefectlocError

# The inputs of a graph, by name, to its outputs and its inner values, by name.
Engine = Callable[[dict[str, NDArray[Any]]], dict[str, NDArray[Any]]]


def engines(exported: Exported, threads: int | None = None) -> list[Engine]:
    """Load an exported model's graphs on the CPU, that of photographs last; several threads may call what is given.

    Raises DefectlocError where its runtime is not installed or cannot read them.
    """
    inner = exported.about["inner_outputs"]
    asked = [([*(each.name for each in OUTPUTS), *inner["names"]], inner)]
    if exported.tiling is not None:
        asked.insert(0, (exported.about["levels"], {"names": [], "declaration": ""}))
    return [_engine(exported, number, *each, threads) for number, each in enumerate(asked)]


def _engine(exported: Exported, number: int, names: list[str], inner: dict[str, Any], threads: int | None) -> Engine:
    """Load one of the graphs, for its outputs by their names; those of `inner` are to be declared."""
    runtime = exported.about["runtime"]
    make = {"onnx": _onnxruntime, "openvino": _openvino}[runtime]
    path = exported.folder / model_files(runtime, exported.tiling)[number][0]
    try:
        return make(exported.graphs[number], names, inner, threads)
    except ImportError as error:
        raise DefectlocError(f"the package '{error.name}' is not installed, which {path} needs; install it.") from error
    # Each runtime refuses what it cannot read by kinds of exception of its own.
    except Exception as error:
        what = " ".join(str(error).split())
        raise DefectlocError(f"{path} cannot be loaded by its runtime ({what[:200]}); try another version.") from error


def _onnxruntime(content: Sequence[bytes], names: list[str], inner: dict[str, Any], threads: int | None) -> Engine:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or 0
    declared = content[0] + bytes.fromhex(inner["declaration"])
    session = onnxruntime.InferenceSession(declared, options, providers=["CPUExecutionProvider"])

    def run(inputs: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        return dict(zip(names, session.run(names, inputs), strict=True))

    return run


def _openvino(content: Sequence[bytes], names: list[str], inner: dict[str, Any], threads: int | None) -> Engine:
    core = openvino_core()
    structure, weights = content
    model = core.read_model(structure, weights)
    if inner["names"]:
        model.add_outputs(inner["names"])
    # Its default is bfloat16 on processors that have it.
    settings: dict[str, Any] = {"INFERENCE_PRECISION_HINT": "f32"}
    if threads is not None:
        settings["INFERENCE_NUM_THREADS"] = threads
    compiled = core.compile_model(model, "CPU", settings)
    own = threading.local()

    def run(inputs: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        # A request serves one thread at a time.
        if not hasattr(own, "request"):
            own.request = compiled.create_infer_request()
        found = own.request.infer(inputs)
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

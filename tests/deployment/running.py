"""A graph at work: on both runtimes as far as they are installed."""

import numpy as np
import pytest

from defectloc.deployment.engines import openvino_core
from defectloc.deployment.graph import Graph, Value
from defectloc.deployment.model import PHOTOGRAPHS

RUNTIMES = ("onnxruntime", "openvino")


def results(graph: Graph, values: dict[str, str], images: np.ndarray, runtime: str) -> dict[str, np.ndarray]:
    """Run a graph whose input is `image` on `(N, H, W, 3)` uint8.

    `values` are the wanted ones with type and number of axes, such as FLOAT3.
    """
    outputs = [
        Value(name, kind[:-1], tuple(f"{name} {axis}" for axis in range(int(kind[-1]))))
        for name, kind in values.items()
    ]
    content = graph.model([PHOTOGRAPHS], outputs, {}).SerializeToString()
    module = pytest.importorskip(runtime)
    if runtime == "onnxruntime":
        session = module.InferenceSession(content, providers=["CPUExecutionProvider"])
        return dict(zip(values, session.run(list(values), {"image": images}), strict=True))
    core = openvino_core()
    compiled = core.compile_model(core.read_model(content), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    found = compiled({"image": images})
    return {name: np.array(found[name]) for name in values}


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    """Images `(N, H, W, 3)` of noise."""
    return np.random.default_rng(seed).integers(0, 256, (*shape, 3), dtype=np.uint8)


def tensor(graph: Graph, values: np.ndarray) -> str:
    """Add values `(N, ...)` that the graph could not fold away, as if the image had given them."""
    zero = graph.add("Mul", graph.reduce("Sum", graph.cast("image", "FLOAT"), 0, 1, 2, 3), graph.constant(0.0))
    shape = graph.integers(*[1] * values.ndim)
    return graph.add("Add", graph.constant(values), graph.add("Reshape", zero, shape))

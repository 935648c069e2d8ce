"""An ONNX graph, built node by node."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from defectloc.errors import DefectlocError

# Of ONNX operators, and of the file; what ONNX Runtime 1.17 and OpenVINO 2024 read.
OPSET, IR_VERSION = 18, 9


@dataclass(frozen=True)
class Value:
    """What a model takes or gives: its name, its type as ONNX names it, its shape with names for free sides."""

    name: str
    dtype: str
    shape: tuple[int | str, ...]


class Graph:
    """Nodes and constants; each method gives the name of a value, by which others take it."""

    def __init__(self) -> None:
        """Raises DefectlocError where the package onnx is not installed."""
        try:
            import onnx
        except ImportError as error:
            raise DefectlocError("the package 'onnx' is not installed: pip install 'defectloc[export]'.") from error
        self._onnx: Any = onnx
        self._nodes: list[Any] = []
        self._constants: list[Any] = []

    def constant(self, values: ArrayLike, dtype: Any = np.float32) -> str:
        """Add a constant tensor."""
        name = f"c{len(self._constants)}"
        self._constants.append(self._onnx.numpy_helper.from_array(np.array(values, dtype, order="C"), name))
        return name

    def integers(self, *values: int) -> str:
        """Add a constant vector of integers: a shape, or axes."""
        return self.constant(values, np.int64)

    def add(self, operator: str, *inputs: str, name: str | None = None, **attributes: Any) -> str:
        """Add a node with one output, whose name may be given."""
        output = name or f"v{len(self._nodes)}"
        self._nodes.append(self._onnx.helper.make_node(operator, list(inputs), [output], name=output, **attributes))
        return output

    def cast(self, value: str, dtype: str, name: str | None = None) -> str:
        """Convert a value to 'FLOAT', 'INT64' or 'BOOL'."""
        return self.add("Cast", value, name=name, to=getattr(self._onnx.TensorProto, dtype))

    def reduce(self, operator: str, value: str, *axes: int, keep: bool = True, name: str | None = None) -> str:
        """Add a reduction, such as 'Max' or 'Mean', over some axes."""
        return self.add(f"Reduce{operator}", value, self.integers(*axes), name=name, keepdims=int(keep))

    def top(self, value: str, k: str) -> str:
        """Give the `k` (a vector of one) highest of each row of values `(N, n)`, the highest first."""
        output = f"v{len(self._nodes)}"
        self._nodes.append(
            self._onnx.helper.make_node("TopK", [value, k], [output, f"{output}_at"], name=output, axis=1)
        )
        return output

    def side(self, value: str, axis: int) -> str:
        """Give the length of a value along an axis, a scalar integer."""
        return self.add("Gather", self.add("Shape", value), self.constant(axis, np.int64))

    def sides(self, value: str, *axes: int) -> str:
        """Give the lengths of a value along axes, a vector of integers."""
        return self.add("Gather", self.add("Shape", value), self.integers(*axes))

    def model(self, inputs: Sequence[Value], outputs: Sequence[Value], metadata: dict[str, str]) -> Any:
        """Make the ONNX model.

        Raises DefectlocError where ONNX's own checker finds a fault.
        """
        helper = self._onnx.helper
        taken, given = ([self.described(each) for each in values] for values in (inputs, outputs))
        graph = helper.make_graph(self._nodes, "defectloc", taken, given, self._constants)
        opset = [helper.make_opsetid("", OPSET)]
        model = helper.make_model(graph, opset_imports=opset, ir_version=IR_VERSION, producer_name="defectloc")
        helper.set_model_props(model, metadata)
        try:
            self._onnx.checker.check_model(model, full_check=True)
        except (self._onnx.checker.ValidationError, self._onnx.shape_inference.InferenceError) as error:
            raise DefectlocError(f"the exported graph is not valid ONNX: {' '.join(str(error).split())}") from error
        return model

    def described(self, value: Value) -> Any:
        """Describe an input or output as ONNX does."""
        dtype = getattr(self._onnx.TensorProto, value.dtype)
        return self._onnx.helper.make_tensor_value_info(value.name, dtype, list(value.shape))

    def declaration(self, outputs: Sequence[Value]) -> bytes:
        """Give the bytes that, appended to a model file, declare values of its graph as outputs.

        Files of protocol buffers that are concatenated are merged: their lists, such as that of outputs, are joined.
        """
        more = self._onnx.ModelProto()
        more.graph.output.extend(self.described(each) for each in outputs)
        return more.SerializeToString()

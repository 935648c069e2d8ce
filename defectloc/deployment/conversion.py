"""An ONNX graph in OpenVINO's own format."""

import tempfile
from pathlib import Path

from defectloc.deployment.engines import openvino_core
from defectloc.deployment.model import Built
from defectloc.errors import DefectlocError


def to_openvino(built: Built, metadata: dict[str, str]) -> list[bytes]:
    """Give the two files of OpenVINO's format, structure and weights, in single precision.

    Raises DefectlocError where the package openvino is not installed.
    """
    try:
        import openvino
    except ImportError as error:
        raise DefectlocError("the package 'openvino' is not installed: pip install 'defectloc[openvino]'.") from error
    # Read as outputs, so that their names are kept, and then left inside again.
    model = openvino_core().read_model(built.model.SerializeToString() + built.declaration)
    inner = {each.name for each in built.inner}
    for result in [each for each in model.get_results() if inner & each.get_output_tensor(0).get_names()]:
        model.remove_result(result)
    for key, value in metadata.items():
        model.set_rt_info(value, key.split())
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.xml"
        openvino.save_model(model, path, compress_to_fp16=False)
        return [path.read_bytes(), path.with_suffix(".bin").read_bytes()]

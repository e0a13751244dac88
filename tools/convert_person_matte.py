"""Makes agile3d_cli/assets/person_matte.onnx from MediaPipe's selfie_segmentation.tflite (Google, Apache-2.0).

The file comes from the npm package @mediapipe/selfie_segmentation 0.1.1675465747. Its last layer is a custom operation
(transposed convolution with bias), which the usual converters refuse; this one walks the network by hand.

    pip install tflite onnx ai-edge-litert
    python tools/convert_person_matte.py selfie_segmentation.tflite

The result is compared with the original in ai-edge-litert. In: (1, 3, 256, 256) RGB in [0, 1]; out: (1, 1, 256, 256) in
[0, 1], the person. Weights stay in half precision as in the original and are widened when the file is opened.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import tflite
from onnx import helper, numpy_helper

OUTPUT = Path(__file__).parents[1] / "agile3d_cli" / "assets" / "person_matte.onnx"
OPERATORS = {value: name for name, value in vars(tflite.BuiltinOperator).items() if isinstance(value, int)}
ELEMENTWISE = {"RELU": "Relu", "LOGISTIC": "Sigmoid", "HARD_SWISH": "HardSwish", "ADD": "Add", "MUL": "Mul"}


class Converter:
    """Builds the ONNX nodes of one TFLite graph, turning NHWC into NCHW."""

    def __init__(self, data: bytes) -> None:
        self.model = tflite.Model.GetRootAsModel(data, 0)
        self.graph = self.model.Subgraphs(0)
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []
        self.halves: dict[int, int] = {}
        """Widened tensor to its half precision source."""

    def convert(self) -> onnx.ModelProto:
        for index in range(self.graph.OperatorsLength()):
            self._operator(self.graph.Operators(index))
        source, result = self.graph.Inputs(0), self.graph.Outputs(0)
        graph = helper.make_graph(
            self.nodes,
            "person_matte",
            [helper.make_tensor_value_info(f"t{source}", onnx.TensorProto.FLOAT, [1, 3, 256, 256])],
            [helper.make_tensor_value_info(f"t{result}", onnx.TensorProto.FLOAT, [1, 1, 256, 256])],
            self.weights,
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 14)], ir_version=8)
        onnx.checker.check_model(model, full_check=True)
        return model

    def _operator(self, operator: Any) -> None:
        code = self.model.OperatorCodes(operator.OpcodeIndex())
        name = OPERATORS[max(code.BuiltinCode(), code.DeprecatedBuiltinCode())]
        inputs, output = list(operator.InputsAsNumpy()), int(operator.OutputsAsNumpy()[0])
        if name == "DEQUANTIZE":
            self.halves[output] = int(inputs[0])
        elif name in ("CONV_2D", "DEPTHWISE_CONV_2D"):
            self._convolution(operator, inputs, output, depthwise=name == "DEPTHWISE_CONV_2D")
        elif name in ELEMENTWISE:
            self._node(ELEMENTWISE[name], [f"t{i}" for i in inputs], output)
        elif name == "AVERAGE_POOL_2D":
            if self._shape(output)[1:3] != [1, 1]:
                raise SystemExit("Only global average pooling is expected.")
            self._node("GlobalAveragePool", [f"t{inputs[0]}"], output)
        elif name == "RESIZE_BILINEAR":
            self._resize(operator, inputs, output)
        elif name == "CUSTOM" and code.CustomCode() == b"Convolution2DTransposeBias":
            # Input, filters (out, h, w, in), bias; stride 2 with 2 x 2 filters, so the tiles touch without overlap.
            filters = self._constant(inputs[1]).transpose(3, 0, 1, 2)
            names = [self._weight(inputs[1], filters), self._weight(inputs[2], self._constant(inputs[2]))]
            self._node("ConvTranspose", [f"t{inputs[0]}", *names], output, strides=[2, 2])
        else:
            raise SystemExit(f"Unexpected operation {name}.")

    def _convolution(self, operator: Any, inputs: list[int], output: int, depthwise: bool) -> None:
        options = tflite.DepthwiseConv2DOptions() if depthwise else tflite.Conv2DOptions()
        options.Init(operator.BuiltinOptions().Bytes, operator.BuiltinOptions().Pos)
        if options.FusedActivationFunction() != tflite.ActivationFunctionType.NONE or options.DilationHFactor() != 1:
            raise SystemExit("Fused activations and dilation are not expected.")
        filters = self._constant(inputs[1])
        filters = filters.transpose(3, 0, 1, 2) if depthwise else filters.transpose(0, 3, 1, 2)
        strides = [options.StrideH(), options.StrideW()]
        same = options.Padding() == tflite.Padding.SAME
        names = [self._weight(inputs[1], filters), self._weight(inputs[2], self._constant(inputs[2]))]
        self._node(
            "Conv",
            [f"t{inputs[0]}", *names],
            output,
            strides=strides,
            kernel_shape=list(filters.shape[2:]),
            group=filters.shape[0] if depthwise else 1,
            auto_pad="SAME_UPPER" if same else "VALID",
        )

    def _resize(self, operator: Any, inputs: list[int], output: int) -> None:
        options = tflite.ResizeBilinearOptions()
        options.Init(operator.BuiltinOptions().Bytes, operator.BuiltinOptions().Pos)
        mode = "half_pixel" if options.HalfPixelCenters() else "asymmetric"
        mode = "align_corners" if options.AlignCorners() else mode
        _, height, width, channels = self._shape(output)
        size = f"size{output}"
        self.weights.append(numpy_helper.from_array(np.array([1, channels, height, width], np.int64), size))
        self._node(
            "Resize",
            [f"t{inputs[0]}", "", "", size],
            output,
            mode="linear",
            coordinate_transformation_mode=mode,
        )

    def _node(self, kind: str, inputs: list[str], output: int, **attributes: Any) -> None:
        self.nodes.append(helper.make_node(kind, inputs, [f"t{output}"], **attributes))

    def _weight(self, index: int, values: np.ndarray) -> str:
        self.weights.append(numpy_helper.from_array(np.ascontiguousarray(values), f"half{index}"))
        self.nodes.append(helper.make_node("Cast", [f"half{index}"], [f"t{index}"], to=onnx.TensorProto.FLOAT))
        return f"t{index}"

    def _constant(self, index: int) -> np.ndarray:
        source = self.halves[index]
        tensor = self.graph.Tensors(source)
        values = self.model.Buffers(tensor.Buffer()).DataAsNumpy().view(np.float16)
        return values.reshape(self._shape(source))

    def _shape(self, index: int) -> list[int]:
        return [int(size) for size in self.graph.Tensors(index).ShapeAsNumpy()]


def compare(original: Path, converted: Path) -> float:
    """Largest difference between the two on smooth noise."""
    import onnxruntime
    from ai_edge_litert.interpreter import Interpreter

    reference = Interpreter(model_path=str(original))
    reference.allocate_tensors()
    session = onnxruntime.InferenceSession(str(converted))
    random = np.random.default_rng(0)
    worst = 0.0
    for cells in (4, 16, 64, 256):
        picture = np.repeat(np.repeat(random.random((cells, cells, 3)), 256 // cells, 0), 256 // cells, 1)
        picture = picture[None].astype(np.float32)
        reference.set_tensor(reference.get_input_details()[0]["index"], picture)
        reference.invoke()
        expected = reference.get_tensor(reference.get_output_details()[0]["index"])
        (result,) = session.run(None, {session.get_inputs()[0].name: picture.transpose(0, 3, 1, 2)})
        worst = max(worst, float(np.abs(result[0, 0] - expected[0, ..., 0]).max()))
    return worst


if __name__ == "__main__":
    onnx.save(Converter(Path(sys.argv[1]).read_bytes()).convert(), OUTPUT)
    sys.stdout.write(f"{OUTPUT}: {OUTPUT.stat().st_size} bytes\n")
    sys.stdout.write(f"largest difference to the original: {compare(Path(sys.argv[1]), OUTPUT):.2e}\n")

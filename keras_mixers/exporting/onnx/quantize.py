"""Reduce the precision of an ONNX model: to float16, or to int8 by onnxruntime's tools."""

import collections
import contextlib
import logging
import math

import numpy as np

from keras_mixers.exporting.onnx.file import LARGEST_FILE
from keras_mixers.exporting.onnx.graph import Graph
from keras_mixers.exporting.temporary_files import temporary_files_in

TOOLS = [f"onnxruntime.quantization.{name}" for name in ("quant_utils", "quantize")]
# Not Conv, which without calibration is slower in int8 than in float32.
DYNAMIC_OPS = ["Attention", "MatMul"]
STATIC_OPS = ["Conv", "Gemm", "MatMul"]  # with calibration
PASSED_ON = {"Add", "Reshape", "Transpose"}  # between a convolution of patches and prefix tokens


def reduce_precision(model, serving, folder):
    """A float32 `onnx.ModelProto` in the precision that `serving` asks for.

    Args:
        model: the `onnx.ModelProto`.
        serving: the `Serving`.
        folder: where temporary files go.
    """
    if serving.dtype == "float16":
        return in_float16(model)
    if serving.quantize == "float16":
        return weights_in_float16(model)
    return in_int8(model, serving.calibration, folder)


def quantized_fraction(graph, precision):
    """The fraction of a graph's weights that are stored in `precision`."""
    import onnx

    counts = collections.Counter()
    for tensor in graph.initializer:
        counts[onnx.TensorProto.DataType.Name(tensor.data_type)] += math.prod(tensor.dims)
    quantized = counts[precision.upper()]
    return quantized / (quantized + counts["FLOAT"])


def in_float16(model):
    """The model with all computation in float16, and images and outputs in float32."""
    from onnxruntime.transformers.float16 import convert_float_to_float16
    from onnxruntime.transformers.onnx_model import OnnxModel

    half = convert_float_to_float16(model, keep_io_types=True, disable_shape_infer=True)
    OnnxModel(half).topological_sort()
    return half


def weights_in_float16(model):
    """Store the weights as float16; the runtime casts them to float32 when it loads the file."""
    import onnx
    from onnx import numpy_helper

    graph = model.graph
    casts = []
    for tensor in graph.initializer:
        if tensor.data_type == onnx.TensorProto.FLOAT and len(tensor.dims) > 1:
            name = tensor.name
            with np.errstate(over="ignore"):  # because the next lines raise an error for it
                half = numpy_helper.to_array(tensor).astype(np.float16)
            if not np.isfinite(half).all():
                raise ValueError(
                    f"`quantize`='float16' cannot store the weight {name!r}. Its largest absolute"
                    f" value is {np.abs(numpy_helper.to_array(tensor)).max():.3g}; float16 ends at"
                    " 65504"
                )
            tensor.CopyFrom(numpy_helper.from_array(half, f"{name}_float16"))
            casts.append(
                onnx.helper.make_node(
                    "Cast", [tensor.name], [name], to=onnx.TensorProto.FLOAT, name=f"{name}_cast"
                )
            )
    nodes = [*casts, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)
    return model


def in_int8(model, calibration, folder):
    """Matrix products in 8-bit integers.

    Args:
        model: an `onnx.ModelProto`.
        calibration: batches of images, from which the ranges of the integers are computed. Without
            them the runtime computes the ranges for each call.
        folder: where temporary files go.
    """
    import onnx
    from onnxruntime import quantization as tools

    operators = STATIC_OPS if calibration else DYNAMIC_OPS
    # Attention's scores and the exact arithmetic of preprocessing stay in floats.
    products = products_with_weights(model.graph, operators)
    joined = convolutions_before_concat(model) if calibration else set()
    nodes = [name for name in products if name not in joined]
    if not nodes:
        return model  # because the tools take an empty list for all nodes
    options = {
        "op_types_to_quantize": operators,
        "nodes_to_quantize": nodes,
        "per_channel": True,
        "weight_type": tools.QuantType.QInt8,
        "extra_options": {
            # Because shape inference does not know the dtypes of onnxruntime's operators.
            "DefaultTensorType": onnx.TensorProto.FLOAT,
        },
    }
    if model.ByteSize() >= LARGEST_FILE:
        raise ValueError(
            "`quantize`='int8' needs a model of less than 2 GiB. Received:"
            f" {model.ByteSize():,} bytes; quantize='float16' halves the size"
        )
    with temporary_files_in(folder, *TOOLS) as inner, root_logger_silenced():
        before, after = inner / "float.onnx", inner / "int8.onnx"
        onnx.save(model, before)
        if calibration:
            tools.quantize_static(before, after, Reader(calibration), **options)
        else:
            tools.quantize_dynamic(before, after, **options)
        return onnx.load(after)


def products_with_weights(graph, operators):
    """The names of the nodes with one of `operators` whose second input is a weight."""
    weights = {tensor.name for tensor in graph.initializer}
    products = [node for node in graph.node if node.op_type in operators]
    return [node.name for node in products if node.input[1] in weights]


def convolutions_before_concat(model):
    """The names of the convolutions whose outputs are joined with other tensors, as prefix tokens.

    OpenVINO computes these wrongly in 8-bit integers. In floats they cost little, because one
    convolution of patches is a small part of a model.
    """
    graph = Graph(model)
    joined = set()
    for concat in graph.nodes("Concat"):
        nodes = [graph.producer.get(name) for name in concat.input]
        while nodes:
            node = nodes.pop()
            if node is not None and node.op_type == "Conv":
                joined.add(node.name)
            elif node is not None and node.op_type in PASSED_ON:
                nodes.extend(graph.producer.get(name) for name in node.input)
    return joined


@contextlib.contextmanager
def root_logger_silenced():
    """Silence the root logger: onnxruntime's tools recommend steps that `convert` has done."""

    def refuse(_record):
        return False

    logging.getLogger().addFilter(refuse)
    try:
        yield
    finally:
        logging.getLogger().removeFilter(refuse)


class Reader:
    """An onnxruntime `CalibrationDataReader` of batches of images."""

    def __init__(self, images):
        self.images = iter(images)

    def get_next(self):
        batch = next(self.images, None)
        return None if batch is None else {"images": batch}

"""Reduce the precision of an ONNX model: to float16, or to int8."""

import collections
import math

import numpy as np

from keras_mixers.exporting.onnx.int8 import plan, quantized


def reduce_precision(model, serving, folder):
    """A float32 model in the precision that `serving` asks for, and fields of the report.

    Args:
        model: the `onnx.ModelProto`.
        serving: the `Serving`.
        folder: where temporary files go.
    """
    if serving.dtype == "float16":
        return in_float16(model), {}
    if serving.quantize == "float16":
        model, details = weights_in_float16(model), {}
    else:
        layers, in_float = plan(model, serving)
        model = quantized(
            model, [name for nodes in layers.values() for name in nodes], serving, folder
        )
        details = {"in_float": in_float}
    return model, {"quantized": quantized_fraction(model.graph, serving.quantize), **details}


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

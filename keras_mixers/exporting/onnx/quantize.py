"""Smaller numbers in an ONNX file: half precision, and 8-bit integers by onnxruntime's tools."""

import contextlib
import logging
import pathlib
import tempfile

import numpy as np

from keras_mixers.exporting.onnx.file import LARGEST_FILE

# Only what has many weights: convolutions in 8 bits are slower than in 32 without calibration.
DYNAMIC = ["MatMul"]
STATIC = ["Conv", "Gemm", "MatMul"]


def reduce_precision(model, serving):
    """An `onnx.ModelProto` of float32 in the precision that is asked for."""
    if serving.dtype == "float16":
        return in_half_precision(model)
    if serving.quantize == "float16":
        return weights_in_half_precision(model)
    return in_integers(model, serving.calibration)


def in_half_precision(model):
    """The model computing in float16, its images and outputs in float32."""
    from onnxruntime.transformers.float16 import convert_float_to_float16
    from onnxruntime.transformers.onnx_model import OnnxModel

    half = convert_float_to_float16(model, keep_io_types=True, disable_shape_infer=True)
    OnnxModel(half).topological_sort()
    return half


def weights_in_half_precision(model):
    """Store the weights as float16, from which the runtime makes float32 once, when it loads."""
    import onnx
    from onnx import numpy_helper

    graph = model.graph
    casts = []
    for tensor in graph.initializer:
        if tensor.data_type == onnx.TensorProto.FLOAT and len(tensor.dims) > 1:
            name = tensor.name
            with np.errstate(over="ignore"):  # it is refused below
                half = numpy_helper.to_array(tensor).astype(np.float16)
            if not np.isfinite(half).all():
                raise ValueError(
                    f"`quantize`='float16' cannot hold the weight {name!r}, whose largest value is"
                    f" {np.abs(numpy_helper.to_array(tensor)).max():.3g}; float16 ends at 65504"
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


def in_integers(model, calibration):
    """Matrix products in 8-bit integers; ranges from images if given, else found at run time."""
    import onnx
    from onnxruntime import quantization as tools

    options = {
        "per_channel": True,
        "weight_type": tools.QuantType.QInt8,
        "extra_options": {
            # Products with weights alone: scores of attention, and the exact arithmetic of
            # preprocessing, stay in floats.
            "MatMulConstBOnly": True,
            # What shape inference cannot tell of onnxruntime's own operators.
            "DefaultTensorType": onnx.TensorProto.FLOAT,
        },
    }
    if model.ByteSize() >= LARGEST_FILE:
        raise ValueError(
            "`quantize`='int8' takes models of less than 2 GiB of weights. Received:"
            f" {model.ByteSize():,} bytes; quantize='float16' halves them"
        )
    with tempfile.TemporaryDirectory() as folder, without_advice():
        before, after = (pathlib.Path(folder, name) for name in ("float.onnx", "int8.onnx"))
        onnx.save(model, before)
        if calibration:
            tools.quantize_static(
                before, after, Reader(calibration), op_types_to_quantize=STATIC, **options
            )
        else:
            tools.quantize_dynamic(before, after, op_types_to_quantize=DYNAMIC, **options)
        return onnx.load(after)


@contextlib.contextmanager
def without_advice():
    """While this lasts, nothing is logged to the root: the tools advise what has been done."""

    def refuse(_record):
        return False

    logging.getLogger().addFilter(refuse)
    try:
        yield
    finally:
        logging.getLogger().removeFilter(refuse)


class Reader:
    """Batches of images as onnxruntime's calibration reads them."""

    def __init__(self, images):
        self.images = iter(images)

    def get_next(self):
        batch = next(self.images, None)
        return None if batch is None else {"images": batch}

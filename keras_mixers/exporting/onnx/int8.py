"""Compute the products of an ONNX model in 8-bit integers, by onnxruntime's tools."""

import collections
import contextlib
import logging
import re

from keras_mixers import arguments
from keras_mixers.exporting.onnx.file import LARGEST_FILE
from keras_mixers.exporting.onnx.graph import Graph, attribute
from keras_mixers.exporting.onnx.lowering import layer_path
from keras_mixers.exporting.temporary_files import temporary_files_in
from keras_mixers.graph import all_layers

TOOLS = [f"onnxruntime.quantization.{name}" for name in ("quant_utils", "quantize")]
PRODUCTS = {"Attention", "Conv", "Gemm", "MatMul", "MultiHeadAttention"}
# How the path of a product ends whose matrix is not a weight.
OPERATOR = re.compile(rf"/({'|'.join(sorted(PRODUCTS))})(_\d+)?$")
# Not Conv, which without calibration is slower in int8 than in float32.
DYNAMIC_OPS = ["Attention", "MatMul"]
STATIC_OPS = ["Conv", "Gemm", "MatMul"]  # with calibration
PASSED_ON = {"Add", "Reshape", "Transpose"}  # between a convolution of patches and prefix tokens
# Those of `STATIC_OPS` that are not in `DYNAMIC_OPS`.
UNCALIBRATED = {
    "Conv": ("convolutions", "without `calibration_data` they are slower in int8"),
    "Gemm": ("products as `Gemm`", "`export` quantizes them only with `calibration_data`"),
}
KEPT = "`keep_float` names it"
SCORES = (
    "products in attention",
    "both factors depend on the image, or one has a matrix for each head",
)


def plan(model, serving):
    """Decide which products of a model are computed in int8: `(layers, in_float)`.

    Args:
        model: an `onnx.ModelProto` in float32.
        serving: the `Serving`.

    Returns:
        `{path of a layer: names of its nodes}` of the products to quantize, and `{kind of product,
        or path of a layer: why it stays in float}` of the others.

    Raises:
        ValueError: if `keep_float` names a layer that has no product to quantize.
    """
    weights = {tensor.name for tensor in model.graph.initializer}
    joined = convolutions_before_concat(model) if serving.calibration else set()
    layers, in_float = collections.defaultdict(list), {}
    for node in model.graph.node:
        if node.op_type not in PRODUCTS:
            continue
        layer = node.input[1].rpartition("/")[0] if node.input[1] in weights else None
        reason = why_in_float(node, layer, serving)
        if node.name in joined:
            reason = "convolution before prefix tokens", "OpenVINO was wrong in int8"
        if reason:
            in_float.setdefault(*reason)
        else:
            layers[layer].append(node.name)
        if node.op_type == "Attention":  # which also computes the products without weights
            in_float.setdefault(*SCORES)
    check_keep_float(serving.keep_float, layers, in_float)
    return layers, in_float


def why_in_float(node, layer, serving):
    """`(kind of product, or path of the layer, reason)` if a product stays in float, else None."""
    operators = STATIC_OPS if serving.calibration else DYNAMIC_OPS
    if "preprocessing/" in node.name:
        return "preprocessing", "its arithmetic is exact"
    if layer is None:
        return SCORES
    if node.op_type not in operators:
        return UNCALIBRATED[node.op_type]
    if (attribute(node, "group") or 1) > 1:
        return "depthwise convolutions", "they are slower in int8"
    if any(is_part(layer, name) for name in serving.keep_float):
        return layer, KEPT
    return None


def is_part(layer, name):
    """Whether `name` is the path of a layer or the first parts of this path."""
    return f"{layer}/".startswith(f"{name}/")


def convolutions_before_concat(model):
    """The names of the convolutions whose outputs are joined with other tensors, as prefix tokens.

    OpenVINO 2026.4 was off by 0.5 for a ViT with these in int8, and by 0.04 with them in float.
    In float they cost little, because one convolution of patches is a small part of a model.
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


def check_has_layers(model, keep_float):
    """Raise ValueError if a name is not that of a layer of the Keras model.

    `check_keep_float` checks later, in the graph, that int8 would compute these layers.
    """
    paths = [layer_path(layer) for layer in all_layers(model)]
    unknown = [
        name for name in keep_float if not any(is_part(p, OPERATOR.sub("", name)) for p in paths)
    ]
    if unknown:
        kernels = [v.path for v in model.variables if v.name == "kernel"]
        layers = [path.rpartition("/")[0] for path in kernels]
        known = arguments.nearest(unknown[0], layers) or f"; layers: {arguments.shown(layers)}"
        raise ValueError(
            "`keep_float` must name layers of the model, or the first parts of their paths."
            f" {arguments.received(keep_float=unknown)}{known}"
        )


def check_keep_float(keep_float, layers, in_float):
    """Raise ValueError if a name left no layer in float."""
    kept = [layer for layer, reason in in_float.items() if reason == KEPT]
    unknown = [name for name in keep_float if not any(is_part(layer, name) for layer in kept)]
    if unknown:
        raise ValueError(
            f"`keep_float` must name layers that int8 would compute: {', '.join(layers)}, or the"
            f" first parts of these paths. {arguments.received(keep_float=unknown)}"
        )


def quantized(model, nodes, serving, folder):
    """The model with some products in int8.

    Args:
        model: an `onnx.ModelProto`.
        nodes: names of the products.
        serving: the `Serving`. If it holds calibration images, they decide the ranges of the
            integers. Otherwise the runtime computes the ranges for each call.
        folder: where temporary files go.
    """
    import onnx
    from onnxruntime import quantization as tools

    if not nodes:
        return model  # because the tools take an empty list for all nodes
    options = {
        "op_types_to_quantize": STATIC_OPS if serving.calibration else DYNAMIC_OPS,
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
        if serving.calibration:
            reader = Reader(serving.calibration)
            # Not signed: onnxruntime computes signed activations several times slower on x86.
            unsigned = tools.QuantType.QUInt8
            tools.quantize_static(before, after, reader, activation_type=unsigned, **options)
        else:
            tools.quantize_dynamic(before, after, **options)
        return onnx.load(after)


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

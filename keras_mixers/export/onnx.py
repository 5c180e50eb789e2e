"""ONNX: one file for onnxruntime and its like."""

import math

import numpy as np

from keras_mixers.export.serving import serving_function

FORMAT = "onnx"
LARGEST_FILE = 2**31  # protobuf's limit
OPSET = 18  # the newest that tf2onnx 1.17 knows


def save(model, path):
    """Convert by tf2onnx, have onnx check every node's types and shapes, and write the file."""
    import onnx
    import tf2onnx

    size = sum(math.prod(weight.shape) for weight in model.weights) * 4
    if size >= LARGEST_FILE:
        raise ValueError(
            f"`model` must have less than 2 GiB of weights for an ONNX file. Received: {size:,}"
            " bytes; export a SavedModel, to a path without '.onnx'"
        )
    function, signature = serving_function(model)
    converted, _ = tf2onnx.convert.from_function(
        function, signature, opset=OPSET, custom_op_handlers={"Erfc": (erfc, [])}
    )
    onnx.checker.check_model(converted, full_check=True)
    onnx.save(converted, path)


def run(path, images):
    """Logits of images by onnxruntime alone."""
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return session.run(["logits"], {"images": images})[0]


def erfc(graph, node, _name, _arguments):
    """`1 - erf(x)`, for erfc in TensorFlow's exact GELU, which neither ONNX nor tf2onnx knows."""
    x, outputs, shapes, dtypes = node.input[0], node.output, node.output_shapes, node.output_dtypes
    graph.remove_node(node.name)
    one = graph.make_const(f"{node.name}_one", np.float32(1))
    erf = graph.make_node("Erf", [x])
    graph.make_node(
        "Sub", [one.output[0], erf.output[0]], outputs=outputs, shapes=shapes, dtypes=dtypes
    )

"""The operators that an ONNX file may hold."""

from keras_mixers.exporting.onnx.graph import subgraphs
from keras_mixers.exporting.onnx.placeholders import CONTRIB

OPSET = 18  # the newest set of ONNX operators that tf2onnx 1.17 knows
# Operators with random outputs: inference needs none of them.
RANDOM_OPS = {"Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform"}
RANDOM_OPS |= {"RandomUniformLike", "Dropout"}
# onnxruntime's operators that the lowerings make, tf2onnx makes from preprocessing, or
# quantization makes from `Attention`.
CONTRIB_OPERATORS = {"Attention", "FastGelu", "Gelu", "MultiHeadAttention", "Range"}
CONTRIB_OPERATORS |= {"QAttention", "RotaryEmbedding"}


def check_operators(graph, target):
    """Check that the runtimes of `target` have each operator of a graph.

    Raises:
        RuntimeError: if they lack one; the message names the operator and the node.
    """
    import onnx

    for node in graph.node:
        for inner in subgraphs(node):
            check_operators(inner, target)
        if node.domain == CONTRIB:
            known = target == "onnxruntime" and node.op_type in CONTRIB_OPERATORS
        else:
            known = not node.domain and onnx.defs.has(node.op_type, OPSET)
        if not known or node.op_type in RANDOM_OPS:
            raise RuntimeError(
                f"The model needs the operator {node.op_type!r}, of node {node.name!r}, which"
                f" target={target!r} does not have; nothing was written. Replace the layer by one"
                " made of keras.ops that ONNX has, or export a SavedModel (a path without '.onnx')"
            )

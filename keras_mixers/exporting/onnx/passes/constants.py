"""Put the weights into a graph, and compute in advance the nodes that depend only on them."""

import keras
import numpy as np
from onnx import numpy_helper
from onnx.reference import ReferenceEvaluator

from keras_mixers.exporting.onnx.graph import input_names, rename_inputs, set_nodes, subgraphs
from keras_mixers.exporting.onnx.operators import OPSET, RANDOM_OPS

# A node stays in the graph if its result would make the file larger: if the result has more than
# SMALL elements, and more than LARGEST_GROWTH times the elements of the node's inputs.
SMALL, LARGEST_GROWTH = 1024, 4


def insert_weights(model, weights):
    """Replace the graph's inputs for weights by initializers.

    Args:
        model: an `onnx.ModelProto`, which is changed in place.
        weights: `{name of an input: (name, variable)}`.
    """
    graph = model.graph
    read = {name for node in graph.node for name in input_names(node)}
    rename_inputs(graph.node, {old: name for old, (name, _) in weights.items()})
    for old, (name, variable) in weights.items():
        if old in read:
            array = keras.ops.convert_to_numpy(variable)
            graph.initializer.append(numpy_helper.from_array(array, name))
    inputs = [value for value in graph.input if value.name not in weights]
    del graph.input[:]
    graph.input.extend(inputs)


def fold_constants(model):
    """Compute in advance the nodes that do not depend on the images, such as a transposed kernel.

    A result that depends on exactly one weight takes the name of this weight.
    """
    graph = model.graph
    arrays = {tensor.name: tensor for tensor in graph.initializer}
    folded, weight_of, kept = {}, {}, []
    for node in graph.node:
        result = None
        if not node.domain and all(not name or name in arrays for name in node.input):
            inputs = {name: _array(arrays[name]) for name in node.input if name}
            result = _computed(node, inputs)
        if result is None:
            kept.append(node)
            continue
        name = node.output[0]
        arrays[name] = folded[name] = result
        weights = {weight_of.get(n, n) for n, array in inputs.items() if array.dtype.kind == "f"}
        if len(weights) == 1:
            weight_of[name] = weights.pop()
    set_nodes(graph, kept)

    outputs = {output.name for output in graph.output}
    read = {name for node in graph.node for name in input_names(node)} | outputs
    taken = {tensor.name for tensor in graph.initializer}
    names = {}
    for name, array in folded.items():
        if name in read:
            weight = weight_of.get(name, name)
            names[name] = name if weight in taken or name in outputs else weight
            taken.add(names[name])
            graph.initializer.append(numpy_helper.from_array(array, names[name]))
    rename_inputs(graph.node, names)


def _array(constant):
    """A constant as an array: an initializer of the file, or a result of `fold_constants`."""
    return constant if isinstance(constant, np.ndarray) else numpy_helper.to_array(constant)


def _computed(node, inputs):
    """The output of a node, or None if the node must stay in the graph."""
    if len(node.output) != 1 or not inputs or subgraphs(node) or node.op_type in RANDOM_OPS:
        return None
    (result,) = ReferenceEvaluator(node, opsets={"": OPSET}).run(None, inputs)
    result = np.ascontiguousarray(result)
    size = sum(array.size for array in inputs.values())
    return None if result.size > max(SMALL, LARGEST_GROWTH * size) else result

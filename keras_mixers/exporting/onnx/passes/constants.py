"""Weights put into a graph, and everything that depends on them alone computed beforehand."""

import keras
import numpy as np
from onnx import numpy_helper
from onnx.reference import ReferenceEvaluator

from keras_mixers.exporting.onnx.graph import (
    OPSET,
    RANDOM_OPS,
    input_names,
    rename_inputs,
    set_nodes,
    subgraphs,
)

SMALL, GROWS = 1024, 4  # what is larger, and that many times its inputs, is left to the runtime


def hold_weights(model, weights):
    """Turn the inputs that stand for weights into them: `{input's name: (name, variable)}`."""
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
    """Compute what depends on no image, such as a transposed kernel.

    What comes of one weight and no other takes that weight's name.
    """
    graph = model.graph
    arrays = {tensor.name: tensor for tensor in graph.initializer}
    folded, weight_of, left = {}, {}, []
    for node in graph.node:
        result = None
        if not node.domain and all(not name or name in arrays for name in node.input):
            inputs = {name: _array(arrays[name]) for name in node.input if name}
            result = _computed(node, inputs)
        if result is None:
            left.append(node)
            continue
        name = node.output[0]
        arrays[name] = folded[name] = result
        weights = {weight_of.get(n, n) for n, array in inputs.items() if array.dtype.kind == "f"}
        if len(weights) == 1:
            weight_of[name] = weights.pop()
    set_nodes(graph, left)

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


def _array(stored):
    return stored if isinstance(stored, np.ndarray) else numpy_helper.to_array(stored)


def _computed(node, inputs):
    """A node's one output, or None where it is not to be computed beforehand."""
    if len(node.output) != 1 or not inputs or subgraphs(node) or node.op_type in RANDOM_OPS:
        return None
    (result,) = ReferenceEvaluator(node, opsets={"": OPSET}).run(None, inputs)
    result = np.ascontiguousarray(result)
    size = sum(array.size for array in inputs.values())
    return None if result.size > max(SMALL, GROWS * size) else result

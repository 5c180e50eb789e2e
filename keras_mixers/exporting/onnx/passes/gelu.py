"""Write GELU in the form that onnxruntime computes in one node."""

import math

import numpy as np
from onnx import numpy_helper

from keras_mixers.exporting.onnx.graph import Graph, set_nodes


def write_gelu_for_onnxruntime(model):
    """Make `erf(x * sqrt(1/2)) + [[1]]` into `erf(x / sqrt(2)) + 1`.

    Onnxruntime looks for the division and for a scalar. TensorFlow replaces each division by a
    product, and tf2onnx gives the 1 the rank of x if it moves a transpose past the sum.
    """
    graph = Graph(model)
    divisor = numpy_helper.from_array(np.float32(math.sqrt(2)), "square_root_of_2")
    for erf in graph.nodes("Erf"):
        product = graph.producer.get(erf.input[0])
        if product is None or product.op_type != "Mul" or not is_half_root(product.input[1], graph):
            continue
        product.op_type, product.input[1] = "Div", divisor.name
        if divisor.name not in graph.initializers:
            model.graph.initializer.append(divisor)
            graph.initializers[divisor.name] = divisor
        for add in graph.readers[erf.output[0]]:
            for name in {*add.input} & graph.initializers.keys():
                make_scalar(name, graph)
    set_nodes(model.graph, list(model.graph.node))


def is_half_root(name, graph):
    """Whether a tensor is the constant `sqrt(1/2)`."""
    if name not in graph.initializers or math.prod(graph.shapes[name]) != 1:
        return False
    value = numpy_helper.to_array(graph.initializers[name]).item()
    return math.isclose(value, math.sqrt(0.5), rel_tol=1e-6)


def make_scalar(name, graph):
    """Take the axes from a constant that has one element and that only sums read."""
    if math.prod(graph.shapes[name]) == 1:
        if all(reader.op_type == "Add" for reader in graph.readers[name]):
            del graph.initializers[name].dims[:]

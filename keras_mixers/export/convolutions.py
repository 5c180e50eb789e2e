"""Convolutions as ONNX has them: channels first, the bias inside."""

import numpy as np
from onnx import numpy_helper

from keras_mixers.export.graph import Graph, rename_inputs, set_nodes


def join_biases(model):
    """Make the bias that is added to a convolution its third input, as for a depthwise one."""
    graph = Graph(model)
    tensors = {tensor.name: tensor for tensor in model.graph.initializer}
    names = {}
    for conv in [node for node in model.graph.node if node.op_type == "Conv"]:
        readers = graph.readers[conv.output[0]]
        if len(conv.input) > 2 or len(readers) != 1 or readers[0].op_type != "Add":
            continue
        add = readers[0]
        channels = graph.shapes[conv.input[1]][0]
        for bias in set(add.input) & graph.constants:
            of_channels = graph.shapes[bias] in ([1, channels, 1, 1], [channels, 1, 1])
            if of_channels and len(graph.readers[bias]) == 1:
                tensors[bias].dims[:] = [channels]
                conv.input.append(bias)
                names[add.output[0]] = conv.output[0]
    rename_inputs(model.graph.node, names)
    set_nodes(model.graph, list(model.graph.node))


def pool_on_the_grid(model):
    """Average the channels-first grid itself, rather than the tokens that it is made into."""
    graph = Graph(model)
    for mean in [node for node in model.graph.node if node.op_type == "ReduceMean"]:
        tokens = graph.producer.get(mean.input[0])
        grid = tokens and graph.producer.get(tokens.input[0])
        if not grid or (tokens.op_type, grid.op_type) != ("Reshape", "Transpose"):
            continue
        rows, columns, channels = graph.shapes[grid.output[0]][1:]
        flattened = graph.shapes[tokens.output[0]][1:] == [rows * columns, channels]
        over = [t for t in model.graph.initializer if t.name == mean.input[1]]
        over_tokens = over and numpy_helper.to_array(over[0]).tolist() == [1]
        if flattened and over_tokens and list(grid.attribute[0].ints) == [0, 2, 3, 1]:
            axes = numpy_helper.from_array(np.array([2, 3]), f"{mean.name}_axes")
            model.graph.initializer.append(axes)
            mean.input[:] = [grid.input[0], axes.name]
    set_nodes(model.graph, list(model.graph.node))

"""Convolutions as ONNX has them: channels first, the bias inside."""

import numpy as np
import onnx
from onnx import numpy_helper

from keras_mixers.exporting.onnx.graph import Graph, rename_inputs, set_nodes


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
        if conv.input[1] not in graph.constants or add.output[0] in graph.outputs:
            continue
        channels = graph.shapes[conv.input[1]][0]
        for bias in set(add.input) & graph.constants:
            of_channels = graph.shapes[bias] in ([1, channels, 1, 1], [channels, 1, 1])
            if of_channels and len(graph.readers[bias]) == 1:
                tensors[bias].dims[:] = [channels]
                conv.input.append(bias)
                names[add.output[0]] = conv.output[0]
    rename_inputs(model.graph.node, names)
    set_nodes(model.graph, list(model.graph.node))


def stay_channels_first(model):
    """Let onnxruntime's own activations, between two transposes, do without them.

    tf2onnx moves transposes past the operators it knows, which these are not.
    """
    graph = Graph(model)
    outputs, names = graph.outputs, {}
    for node in [node for node in model.graph.node if node.op_type in ("Gelu", "FastGelu")]:
        before = graph.producer.get(node.input[0])
        after = graph.readers[node.output[0]]
        undone = {tuple(np.argsort(_order(before)))} if before is not None else set()
        if undone != {_order(reader) for reader in after} or () in undone:
            continue
        if not outputs.intersection([node.output[0], *(name for r in after for name in r.output)]):
            node.input[0] = before.input[0]
            _declare(model.graph, node.output[0], graph.shapes.get(before.input[0]))
            names.update({reader.output[0]: node.output[0] for reader in after})
    rename_inputs(model.graph.node, names)
    set_nodes(model.graph, list(model.graph.node))


def _declare(proto, name, shape):
    """Say anew what shape a tensor has, which inference cannot tell."""
    for i in reversed(range(len(proto.value_info))):
        if proto.value_info[i].name == name:
            del proto.value_info[i]
    if shape:
        proto.value_info.append(
            onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape)
        )


def _order(node):
    """The axes of a transpose; () for another node."""
    orders = [tuple(a.ints) for a in node.attribute if a.name == "perm"]
    return orders[0] if orders and node.op_type == "Transpose" else ()


def pool_on_the_grid(model):
    """Average the channels-first grid itself, rather than the tokens that it is made into."""
    graph = Graph(model)
    for mean in [node for node in model.graph.node if node.op_type == "ReduceMean"]:
        tokens = graph.producer.get(mean.input[0])
        grid = tokens and graph.producer.get(tokens.input[0])
        if not grid or (tokens.op_type, grid.op_type) != ("Reshape", "Transpose"):
            continue
        last_channels = _order(grid) == (0, 2, 3, 1)
        sides = graph.shapes.get(grid.output[0], [])[1:]
        keeps_rank = [a.i for a in mean.attribute if a.name == "keepdims"] != [0]
        if (
            not last_channels
            or len(sides) < 3
            or None in sides
            or keeps_rank
            or len(mean.input) < 2
        ):
            continue
        rows, columns, channels = sides
        flattened = graph.shapes.get(tokens.output[0], [])[1:] == [rows * columns, channels]
        over = [t for t in model.graph.initializer if t.name == mean.input[1]]
        if flattened and over and numpy_helper.to_array(over[0]).tolist() == [1]:
            axes = numpy_helper.from_array(np.array([2, 3]), f"{mean.name}_axes")
            model.graph.initializer.append(axes)
            mean.input[:] = [grid.input[0], axes.name]
    set_nodes(model.graph, list(model.graph.node))

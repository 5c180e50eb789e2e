"""Give convolutions ONNX's form: channels first, with the bias inside the node."""

import numpy as np
import onnx
from onnx import numpy_helper

from keras_mixers.exporting.onnx.graph import Graph, attribute, rename_inputs, set_nodes


def join_biases(model):
    """Make the bias that is added to a convolution the third input of `Conv`.

    tf2onnx does this for ordinary convolutions, but not for depthwise ones.
    """
    graph = Graph(model)
    names = {}
    for conv in graph.nodes("Conv"):
        readers = graph.readers[conv.output[0]]
        if len(conv.input) > 2 or [reader.op_type for reader in readers] != ["Add"]:
            continue
        (add,) = readers
        if conv.input[1] not in graph.constants or add.output[0] in graph.outputs:
            continue
        channels = graph.shapes[conv.input[1]][0]
        for bias in set(add.input) & graph.constants:
            one_each = graph.shapes[bias] in ([1, channels, 1, 1], [channels, 1, 1])
            if one_each and len(graph.readers[bias]) == 1:
                graph.initializers[bias].dims[:] = [channels]
                conv.input.append(bias)
                names[add.output[0]] = conv.output[0]
    rename_inputs(model.graph.node, names)
    set_nodes(model.graph, list(model.graph.node))


def stay_channels_first(model):
    """Remove the two transposes around an activation of onnxruntime.

    tf2onnx moves transposes past the operators that it knows; it does not know these two.
    """
    graph = Graph(model)
    names = {}
    for node in graph.nodes("Gelu", "FastGelu"):
        before = graph.chain(node, "Transpose")
        after = graph.readers[node.output[0]]
        made = {node.output[0]}.union(*(reader.output for reader in after))
        if before and are_inverse(before[0], after) and not made & graph.outputs:
            node.input[0] = before[0].input[0]
            _set_shape(model.graph, node.output[0], graph.shapes.get(node.input[0]))
            names.update({reader.output[0]: node.output[0] for reader in after})
    rename_inputs(model.graph.node, names)
    set_nodes(model.graph, list(model.graph.node))


def are_inverse(transpose, readers):
    """Whether there are readers and each of them undoes the transpose."""
    inverse = np.argsort(attribute(transpose, "perm") or []).tolist()
    return bool(readers) and all(
        reader.op_type == "Transpose" and attribute(reader, "perm") == inverse for reader in readers
    )


def _set_shape(proto, name, shape):
    """Replace the recorded shape of a tensor, because inference does not know these operators."""
    for i in reversed(range(len(proto.value_info))):
        if proto.value_info[i].name == name:
            del proto.value_info[i]
    if shape:
        proto.value_info.append(
            onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape)
        )


def pool_on_the_grid(model):
    """Average the channels-first grid instead of the tokens that are made from the grid.

    The transpose and the reshape to tokens then have no reader.
    """
    graph = Graph(model)
    for mean in graph.nodes("ReduceMean"):
        match graph.chain(mean, "Reshape", "Transpose"):
            case [tokens, grid] if averages_all_places(graph, mean, tokens, grid):
                axes = numpy_helper.from_array(np.array([2, 3]), f"{mean.name}_axes")
                model.graph.initializer.append(axes)
                mean.input[:] = [grid.input[0], axes.name]
    set_nodes(model.graph, list(model.graph.node))


def averages_all_places(graph, mean, tokens, grid):
    """Whether `tokens` holds all places of the channels-last `grid`, and `mean` averages them."""
    sides = graph.shapes.get(grid.output[0], [])[1:]
    if attribute(grid, "perm") != [0, 2, 3, 1] or len(sides) != 3 or None in sides:
        return False
    rows, columns, channels = sides
    axes = graph.initializers.get(mean.input[1]) if len(mean.input) > 1 else None
    return (
        graph.shapes.get(tokens.output[0], [])[1:] == [rows * columns, channels]
        and attribute(mean, "keepdims") == 0
        and axes is not None
        and numpy_helper.to_array(axes).tolist() == [1]
    )

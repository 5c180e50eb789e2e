"""Compute the end of the last block only for the token that the model reads."""

import onnx

from keras_mixers.exporting.onnx.graph import Graph, attribute, set_nodes

# Operators that compute each number from one number, or from two at the same place.
ELEMENTWISE = {"Add", "Sub", "Mul", "Div", "Erf", "Tanh", "Sigmoid", "Relu", "Gelu", "FastGelu"}


def slice_last_block(model, weights):
    """Move each `Gather` of one token up, past the nodes that compute every token separately.

    A classifier reads only the class token. The last norm, the last MLP and the projection of the
    last attention are then computed for this token, and not for the other tokens.

    Args:
        model: an `onnx.ModelProto`, which is changed in place.
        weights: names of its inputs that do not depend on the images.
    """
    graph = Graph(model, weights)
    gathers = {node.output[0] for node in graph.nodes("Gather") if selects_one_token(node, graph)}
    movable = read_only_by(gathers, graph)
    nodes = []
    for node in model.graph.node:
        above = movable_ancestors(node, movable, graph) if node.output[0] in gathers else []
        nodes.extend(clone_for_token(above, node, graph) if above else [node])
    set_nodes(model.graph, nodes)


def selects_one_token(gather, graph):
    """Whether a `Gather` takes one token, `(N, D)`, from `(N, T, D)`."""
    tokens, index = (graph.shapes.get(name) for name in gather.input)
    return attribute(gather, "axis") == 1 and index == [] and len(tokens or ()) == 3


def read_only_by(gathers, graph):
    """The outputs of tokenwise nodes that only `gathers` read, directly or through each other.

    Args:
        gathers: outputs of `Gather` nodes.
        graph: a `Graph`.
    """
    movable = set()
    for node in reversed(graph.proto.node):
        name = node.output[0]
        readers = {reader.output[0] for reader in graph.readers[name]}
        read_for_token = readers and all(each in gathers or each in movable for each in readers)
        if read_for_token and name not in graph.outputs and is_tokenwise(node, graph):
            movable.add(name)
    return movable


def movable_ancestors(gather, movable, graph):
    """The nodes that can be computed for one token before `gather` selects it, in order.

    The result is empty if one of them reads a matrix of rows that must stay. The reason is that one
    `Gather` cannot select the rows of one token.
    """
    found, names = set(), [gather.input[0]]
    while names:
        name = names.pop()
        if name in movable and name not in found:
            found.add(name)
            names.extend(token_inputs(graph.producer[name], graph))
        elif name not in movable and len(graph.shapes.get(name, ())) != 3:
            return []
    return [node for node in graph.proto.node if node.output[0] in found]


def clone_for_token(nodes, gather, graph):
    """Copies of `nodes` for the token that `gather` selects; the last computes its output."""
    clones, token_of = [], {}  # the second: {tensor of all tokens: tensor of one}
    for node in nodes:
        for name in token_inputs(node, graph):
            if name not in token_of:
                clone = onnx.helper.make_node("Gather", [name, gather.input[1]], [""], axis=1)
                clones.append(_renamed(clone, name, gather))
                token_of[name] = clone.output[0]
        if node.op_type == "Reshape":  # to rows of a matrix or back, which one token already is
            token_of[node.output[0]] = token_of[node.input[0]]
        else:
            clone = onnx.NodeProto()
            clone.CopyFrom(node)
            clone.input[:] = [token_of.get(name, name) for name in node.input]
            clones.append(_renamed(clone, node.output[0], gather))
            token_of[node.output[0]] = clone.output[0]
    clones[-1].output[0] = gather.output[0]
    return clones


def _renamed(clone, name, gather):
    """The clone, named after the tensor `name` and the gather, so that each name is unique."""
    clone.output[0] = clone.name = f"{name}_for_{gather.output[0]}"
    return clone


def token_inputs(node, graph):
    """The inputs of a node that hold tokens: not its weights, and not the shape of a `Reshape`."""
    names = node.input[:1] if node.op_type == "Reshape" else node.input
    return [name for name in names if name and name not in graph.constants]


def is_tokenwise(node, graph):
    """Whether a node computes each token separately: `(N, T, D)`, or the tokens as rows, 2-D."""
    before = [graph.shapes.get(name) for name in node.input]
    after = graph.shapes.get(node.output[0])
    if None in before or not after or len(after) not in (2, 3):
        return False
    if node.op_type == "LayerNormalization":
        return attribute(node, "axis") == -1
    if node.op_type == "MatMul":
        return node.input[1] in graph.constants and len(before[1]) == 2
    if node.op_type == "Reshape":
        return {len(before[0]), len(after)} == {2, 3} and before[0][-1] == after[-1] is not None
    if node.op_type in ELEMENTWISE:
        return all(
            len(shape) <= 1 if name in graph.constants else shape == after
            for name, shape in zip(node.input, before, strict=True)
        )
    return False

"""The last block of a model that reads one token, computed for that token alone."""

import onnx

from keras_mixers.exporting.onnx.graph import Graph, attribute, set_nodes

# Operators that treat each number alone.
ELEMENTWISE = {"Add", "Sub", "Mul", "Div", "Erf", "Tanh", "Sigmoid", "Relu", "Gelu", "FastGelu"}


def compute_one_token(model, weights):
    """Where one token of a sequence is read, compute no other from the last mixing of tokens on.

    A classifier reads the class token: the norm before it, and the last block's MLP and attention's
    projection, are wanted for that token only. `Gather` moves up past them.

    Args:
        model: an `onnx.ModelProto`, which is changed.
        weights: names of its inputs that depend on no image.
    """
    graph = Graph(model, weights)
    gathers = {id(node): node for node in model.graph.node if _reads_a_token(node, graph)}
    movable = _wanted_for(gathers, graph)
    nodes = []
    for node in model.graph.node:
        nodes.extend(_for_one_token(node, movable, graph) if id(node) in gathers else [node])
    set_nodes(model.graph, nodes)


def _for_one_token(gather, movable, graph):
    """The nodes that make what `gather` makes from one token alone; `gather`, if that cannot be."""
    nodes, done = [], {}

    def token_of(name):
        if name in graph.constants or not name:
            return name
        if name in done:
            return done[name]
        source = graph.producer.get(name)
        if id(source) in movable and source.op_type == "Reshape":  # to rows of a matrix, or back
            done[name] = token_of(source.input[0])
            return done[name]
        if id(source) in movable:
            node = onnx.NodeProto()
            node.CopyFrom(source)
            node.input[:] = [token_of(each) for each in source.input]
        elif len(graph.shapes.get(name, ())) == 3:
            node = onnx.helper.make_node("Gather", [name, gather.input[1]], [""], axis=1)
        else:
            raise LookupError(name)
        done[name] = node.output[0] = node.name = f"{name}_for_{gather.output[0]}"
        nodes.append(node)
        return done[name]

    try:
        token_of(gather.input[0])
    except LookupError:  # rows that something else wants too: the tokens stay together
        return [gather]
    nodes[-1].output[0] = gather.output[0]
    return nodes


def _wanted_for(gathers, graph):
    """The ids of nodes that treat tokens alone, and of which only these tokens are wanted."""
    movable = set()
    for node in reversed(graph.proto.node):
        readers = graph.readers[node.output[0]]
        inside = readers and all(id(other) in gathers or id(other) in movable for other in readers)
        if inside and node.output[0] not in graph.outputs and _tokenwise(node, graph):
            movable.add(id(node))
    return movable


def _reads_a_token(node, graph):
    if node.op_type != "Gather":
        return False
    index = graph.shapes.get(node.input[1])
    return (
        attribute(node, "axis") == 1
        and index == []
        and len(graph.shapes.get(node.input[0], ())) == 3
    )


def _tokenwise(node, graph):
    """Whether a node treats each token alone: `(N, T, D)`, or the tokens as rows of a matrix."""
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

"""Name nodes and tensors after the model's layers, in an order that only the graph decides."""

import collections
import re

import onnx

from keras_mixers.exporting.onnx.graph import (
    input_names,
    rename_inputs,
    set_nodes,
    subgraphs,
    unique,
)
from keras_mixers.exporting.onnx.operators import OPSET

UNSCOPED = re.compile(r"[^/]*__\d+")  # tf2onnx's names of nodes that it adds


def name_after_layers(model, paths, weights):
    """Name each node and tensor by the path of its layer, such as `block_0_attention/qkv/MatMul`.

    A node that is its layer's only one has the path as its name. Two conversions of a model get
    equal names and an equal order, because neither depends on the names that tf2onnx gives.

    Args:
        model: an `onnx.ModelProto`, which is changed in place.
        paths: of all layers, which precede the nodes' names of today.
        weights: names of initializers to keep.
    """
    sort_nodes(model.graph)
    graphs = list(graphs_inside(model.graph))
    nodes = [node for graph in graphs for node in graph.node]
    constants = [tensor for graph in graphs for tensor in graph.initializer]
    values = [value for graph in graphs for value in graph.input]
    kept = {*weights, *(value.name for value in [*values, *model.graph.output])}
    for node, name in zip(nodes, node_names(nodes, layers_of(nodes, paths)), strict=True):
        node.name = name

    tensors = {**output_names(nodes), **constant_names(nodes, constants)}
    renamed = [name for name in tensors if name not in kept]
    new = unique([tensors[name] for name in renamed], kept)
    names = dict(zip(renamed, new, strict=True))
    rename_inputs(model.graph.node, names)
    for node in nodes:
        node.output[:] = [names.get(name, name) for name in node.output]
    for value in [*constants, *(v for g in graphs for v in [*g.output, *g.value_info])]:
        value.name = names.get(value.name, value.name)
    sort_constants(graphs)


def graphs_inside(graph):
    """Yield a graph and the graphs inside its nodes."""
    yield graph
    for node in graph.node:
        for inner in subgraphs(node):
            yield from graphs_inside(inner)


def sort_nodes(graph):
    """Put the nodes of a graph, and of the graphs inside it, into the order of `ordered`."""
    set_nodes(graph, ordered(graph))
    for node in graph.node:
        for inner in subgraphs(node):
            sort_nodes(inner)


def ordered(graph):
    """The nodes that the outputs need, each after those that compute its inputs, first to last."""
    producer = {name: i for i, node in enumerate(graph.node) for name in node.output}
    order = {}
    waiting = [producer[value.name] for value in reversed(graph.output) if value.name in producer]
    while waiting:
        i = waiting[-1]
        before = [producer[name] for name in input_names(graph.node[i]) if name in producer]
        missing = [] if i in order else [each for each in before if each not in order]
        if missing:
            waiting.extend(reversed(missing))
        else:
            order.setdefault(i)
            waiting.pop()
    return [graph.node[i] for i in order]


def layers_of(nodes, paths):
    """The path of each node's layer; "" for a node outside of all layers.

    A node that tf2onnx added belongs to the layer that reads it, or else to the one it reads.
    """
    layers = [None if UNSCOPED.fullmatch(node.name) else path_of(node, paths) for node in nodes]
    made_by = {name: i for i, node in enumerate(nodes) for name in node.output}
    before = [[made_by[name] for name in input_names(n) if name in made_by] for n in nodes]
    after = [[] for _ in nodes]
    for i, indices in enumerate(before):
        for j in indices:
            after[j].append(i)
    forward = range(len(nodes))
    for order, neighbours in ((reversed(forward), after), (forward, before)):
        for i in order:
            if layers[i] is None:
                layers[i] = next((layers[j] for j in neighbours[i] if layers[j] is not None), None)
    return [layer or "" for layer in layers]


def path_of(node, paths):
    """The longest of `paths` that precedes a node's name, or ""."""
    parts = node.name.split("/")
    prefixes = ("/".join(parts[:count]) for count in range(len(parts) - 1, 0, -1))
    return next((prefix for prefix in prefixes if prefix in paths), "")


def node_names(nodes, layers):
    """A new name for each node, of its layer and operator."""
    counts = collections.Counter(layers)
    return unique(
        layer if layer and counts[layer] == 1 else "/".join(filter(None, [layer, node.op_type]))
        for node, layer in zip(nodes, layers, strict=True)
    )


def output_names(nodes):
    """`{name: new name}` of the outputs of nodes."""
    return {
        name: node.name if len(node.output) == 1 else f"{node.name}:{i}"
        for node in nodes
        for i, name in enumerate(node.output)
    }


def constant_names(nodes, constants):
    """`{name: new name}` of constants, from the first node that reads each."""
    names, found = {tensor.name for tensor in constants}, {}
    for node in nodes:
        for i, name in enumerate(node.input):
            if name in names:
                found.setdefault(name, f"{node.name}/{input_role(node, i)}")
    return found


def input_role(node, i):
    """What ONNX calls a node's input of index i, such as `axes`."""
    if node.domain:
        return "constant"
    roles = onnx.defs.get_schema(node.op_type, OPSET).inputs
    return roles[min(i, len(roles) - 1)].name


def sort_constants(graphs):
    """Put the initializers of each graph into the order in which nodes read them."""
    for graph in graphs:
        read = [name for node in graph.node for name in input_names(node)]
        place = {name: i for i, name in reversed(list(enumerate(read)))}
        graph.initializer.sort(key=lambda tensor, place=place: place.get(tensor.name, len(place)))

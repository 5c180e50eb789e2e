"""Read and change an ONNX graph: which node computes a tensor, which nodes read it, its shape."""

import collections
import itertools
import math

LARGEST_SHAPE = 64  # elements: a smaller constant may be a shape or axes, so inference needs it


class Graph:
    """An index of an ONNX graph at the time it is read; `set_nodes` does not update the index.

    Args:
        model: the `onnx.ModelProto` that is indexed.
        constants: names of inputs that do not depend on the images, besides the initializers.
    """

    def __init__(self, model, constants=()):
        import onnx

        self.proto = model.graph
        self.initializers = {tensor.name: tensor for tensor in self.proto.initializer}
        self.constants = {*self.initializers, *constants}
        self.outputs = {output.name for output in self.proto.output}
        self.producer = {name: node for node in self.proto.node for name in node.output}
        self.readers = collections.defaultdict(list)
        for node in self.proto.node:
            for name in input_names(node):
                self.readers[name].append(node)
        inferred = onnx.shape_inference.infer_shapes(without_weights(model)).graph
        self.shapes = {
            value.name: [size.dim_value or None for size in value.type.tensor_type.shape.dim]
            for value in [*inferred.value_info, *inferred.input, *inferred.output]
            if value.type.tensor_type.HasField("shape")
        }
        self.shapes.update({name: list(tensor.dims) for name, tensor in self.initializers.items()})

    def nodes(self, *operators):
        """The nodes with one of these operators, in the graph's order."""
        return [node for node in self.proto.node if node.op_type in operators]

    def chain(self, node, *operators):
        """The nodes that lead to `node` through first inputs, the nearest first.

        None if their operators are not `operators`, in this order.
        """
        found = []
        for operator in operators:
            node = self.producer.get(node.input[0])
            if node is None or node.op_type != operator:
                return None
            found.append(node)
        return found


def attribute(node, name):
    """The value of a node's attribute; None if the node leaves it at ONNX's default."""
    import onnx

    values = [onnx.helper.get_attribute_value(a) for a in node.attribute if a.name == name]
    return values[0] if values else None


def without_weights(model):
    """The model with its larger constants as inputs, because inference needs only their shapes."""
    import onnx

    light = onnx.ModelProto(ir_version=model.ir_version, opset_import=model.opset_import)
    proto = model.graph
    for field in ("node", "input", "output", "value_info"):
        getattr(light.graph, field).extend(getattr(proto, field))
    light.graph.name = proto.name
    for tensor in proto.initializer:
        if math.prod(tensor.dims) <= LARGEST_SHAPE:
            light.graph.initializer.append(tensor)
        else:
            light.graph.input.append(
                onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims)
            )
    return light


def set_nodes(proto, nodes):
    """Replace a graph's nodes by `nodes`, without those whose outputs are not read."""
    needed = {output.name for output in proto.output}
    kept = []
    for node in reversed(nodes):
        if needed.intersection(node.output):
            kept.append(node)
            needed.update(input_names(node))
    del proto.node[:]
    proto.node.extend(reversed(kept))
    for i in reversed(range(len(proto.initializer))):
        if proto.initializer[i].name not in needed:
            del proto.initializer[i]  # one at a time, because `extend` would copy all weights


def rename_inputs(nodes, names):
    """Let the nodes, and the nodes in their subgraphs, read `names[name]` instead of `name`."""
    for node in nodes:
        node.input[:] = [names.get(name, name) for name in node.input]
        for graph in subgraphs(node):
            rename_inputs(graph.node, names)


def input_names(node):
    """The tensors that a node reads, also in its subgraphs, each once and in order."""
    names = dict.fromkeys(node.input)
    for graph in subgraphs(node):
        for inner in graph.node:
            names.update(dict.fromkeys(input_names(inner)))
        names.update(dict.fromkeys(output.name for output in graph.output))
    return list(names)


def subgraphs(node):
    """The graphs inside a node: the body of a loop, the branches of a condition."""
    single = [each.g for each in node.attribute if each.HasField("g")]
    return [*single, *(graph for each in node.attribute for graph in each.graphs)]


def unique(names, taken=()):
    """The names, with `_2`, `_3`, ... after a name that has already occurred or is `taken`."""
    taken = set(taken)
    result = []
    for name in names:
        candidates = itertools.chain([name], (f"{name}_{i}" for i in itertools.count(2)))
        result.append(next(each for each in candidates if each not in taken))
        taken.add(result[-1])
    return result

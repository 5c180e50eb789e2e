"""What passes over a graph of ONNX share: who makes a tensor, who reads it, its shape."""

import collections
import math

LARGEST_FILE = 2**31 - 2**20  # protobuf's limit of 2 GiB, less room for the graph
OPSET = 18  # of ONNX's operators, the newest that tf2onnx 1.17 knows
# Operators whose answers are drawn: no inference needs them.
DRAWN = {"Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform"}
DRAWN |= {"RandomUniformLike", "Dropout"}
LARGEST_SHAPE = 64  # elements: a constant of fewer may be a shape or axes, whose values count


class Graph:
    """An ONNX graph as it was when it was read: `set_nodes` changes the graph, not this.

    Args:
        model: the `onnx.ModelProto` that is read and changed.
        constants: names of inputs that depend on no image, besides the initializers.
    """

    def __init__(self, model, constants=()):
        import onnx

        self.proto = model.graph
        self.constants = {tensor.name for tensor in self.proto.initializer} | set(constants)
        self.outputs = {output.name for output in self.proto.output}
        self.producer = {name: node for node in self.proto.node for name in node.output}
        self.readers = collections.defaultdict(list)
        for node in self.proto.node:
            for name in names_read(node):
                self.readers[name].append(node)
        inferred = onnx.shape_inference.infer_shapes(_without_weights(model)).graph
        self.shapes = {
            value.name: [size.dim_value or None for size in value.type.tensor_type.shape.dim]
            for value in [*inferred.value_info, *inferred.input, *inferred.output]
            if value.type.tensor_type.HasField("shape")
        }
        self.shapes.update({tensor.name: list(tensor.dims) for tensor in self.proto.initializer})


def _without_weights(model):
    """The model with its larger constants as inputs: their shapes are all that inference needs."""
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
    """Give a graph these nodes, less those that nothing reads any more."""
    wanted = {output.name for output in proto.output}
    kept = []
    for node in reversed(nodes):
        if wanted.intersection(node.output):
            kept.append(node)
            wanted.update(names_read(node))
    del proto.node[:]
    proto.node.extend(reversed(kept))
    for i in reversed(range(len(proto.initializer))):
        if proto.initializer[i].name not in wanted:
            del proto.initializer[i]  # one by one: `extend` would copy all weights


def rename_inputs(nodes, names):
    """Let nodes read `names[name]` where they read `name`."""
    for node in nodes:
        node.input[:] = [names.get(name, name) for name in node.input]
        for body in bodies(node):
            rename_inputs(body.node, names)


def names_read(node):
    """The tensors that a node reads, in its bodies too if it is a loop or a branch."""
    inside = [names_read(inner) for body in bodies(node) for inner in body.node]
    outputs = [output.name for body in bodies(node) for output in body.output]
    return {*node.input, *outputs}.union(*inside)


def bodies(node):
    """The graphs inside a node."""
    graphs = [attribute.g for attribute in node.attribute if attribute.HasField("g")]
    return [*graphs, *(graph for attribute in node.attribute for graph in attribute.graphs)]

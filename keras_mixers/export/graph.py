"""What passes over a graph of ONNX share: who makes a tensor, who reads it, its shape."""

import collections
import math

import onnx

LARGEST_SHAPE = 64  # elements: a constant of fewer may be a shape or axes, whose values count


class Graph:
    """An ONNX graph read once, and written back by `replace`.

    Args:
        model: the `onnx.ModelProto` that is read and changed.
        constants: names of inputs that depend on no image, besides the initializers.
    """

    def __init__(self, model, constants=()):
        self.proto = model.graph
        self.constants = {tensor.name for tensor in self.proto.initializer} | set(constants)
        self.outputs = {output.name for output in self.proto.output}
        self.producer = {name: node for node in self.proto.node for name in node.output}
        self.readers = collections.defaultdict(list)
        for node in self.proto.node:
            for name in node.input:
                self.readers[name].append(node)
        inferred = onnx.shape_inference.infer_shapes(_without_weights(model)).graph
        self.shapes = {
            value.name: [size.dim_value or None for size in value.type.tensor_type.shape.dim]
            for value in [*inferred.value_info, *inferred.input, *inferred.output]
        }
        self.shapes.update({tensor.name: list(tensor.dims) for tensor in self.proto.initializer})


def _without_weights(model):
    """The model with its larger constants as inputs: their shapes are all that inference needs."""
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
            wanted.update(node.input)
    del proto.node[:]
    proto.node.extend(reversed(kept))
    for i in reversed(range(len(proto.initializer))):
        if proto.initializer[i].name not in wanted:
            del proto.initializer[i]  # one by one: `extend` would copy all weights


def rename_inputs(nodes, names):
    """Let nodes read `names[name]` where they read `name`."""
    for node in nodes:
        node.input[:] = [names.get(name, name) for name in node.input]

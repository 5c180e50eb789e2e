"""What passes over a graph of ONNX share: who makes a tensor, who reads it, its shape."""

import collections


class Graph:
    """An ONNX graph read once, and written back by `replace`.

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
            for name in node.input:
                self.readers[name].append(node)
        inferred = onnx.shape_inference.infer_shapes(model).graph
        self.shapes = {
            value.name: [size.dim_value or None for size in value.type.tensor_type.shape.dim]
            for value in [*inferred.value_info, *inferred.input, *inferred.output]
        }
        self.shapes.update({t.name: list(t.dims) for t in self.proto.initializer})


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
    initializers = [tensor for tensor in proto.initializer if tensor.name in wanted]
    del proto.initializer[:]
    proto.initializer.extend(initializers)


def rename_inputs(nodes, names):
    """Let nodes read `names[name]` where they read `name`."""
    for node in nodes:
        node.input[:] = [names.get(name, name) for name in node.input]

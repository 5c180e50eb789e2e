"""Record the shape of each tensor, with the names `batch`, `height` and `width` for sizes."""

import numpy as np
import onnx
from onnx import numpy_helper

from keras_mixers.exporting.onnx.graph import without_weights

# Two values of each size that the user of a file chooses. They are prime and large, so that a size
# of a tensor is a multiple of one of them only if the tensor grows with it.
PROBES = {"batch": (10007, 10009), "height": (20011, 20021), "width": (30011, 30013)}


def name_dimensions(model, shape):
    """Record the shapes of a model's inputs, outputs and other tensors.

    A size is a number, a name, or a multiple such as `196*batch`. An unknown size has no name.

    Args:
        model: an `onnx.ModelProto`, which is changed in place.
        shape: of `images`, `(batch, H, W, C)`, with None for a size that the user chooses.
    """
    graph = model.graph
    names = [size or name for size, name in zip(shape, (*PROBES, None), strict=True)]
    set_sizes(graph.input[0], names)
    found = [inferred(model, i) for i in (0, 1)]
    for output in graph.output:
        sizes = sizes_of(output.name, found) or [None] * len(recorded_sizes(output))
        known = [size or old for size, old in zip(sizes, recorded_sizes(output), strict=True)]
        set_sizes(output, [known[0] or names[0], *known[1:]])
    del graph.value_info[:]
    outputs = {output.name for output in graph.output}
    for name in dict.fromkeys(name for node in graph.node for name in node.output):
        sizes = sizes_of(name, found)
        if sizes is not None and name not in outputs:
            kind = found[0][name].elem_type
            graph.value_info.append(onnx.helper.make_tensor_value_info(name, kind, sizes))


def set_sizes(value, sizes):
    """Replace the shape of an input or output."""
    tensor = value.type.tensor_type
    tensor.CopyFrom(onnx.helper.make_tensor_type_proto(tensor.elem_type, sizes).tensor_type)


def recorded_sizes(value):
    """The sizes in a record of a tensor, with 0 for those that are not numbers."""
    return [size.dim_value for size in value.type.tensor_type.shape.dim]


def inferred(model, i):
    """`{name: tensor type}` of all tensors, for the values of index i in PROBES."""
    light = without_weights(model)
    for size in light.graph.input[0].type.tensor_type.shape.dim:
        if size.dim_param:
            size.dim_value = PROBES[size.dim_param][i]
    let_shapes_through(light.graph)
    graph = onnx.shape_inference.infer_shapes(light, data_prop=True).graph
    values = [*graph.value_info, *graph.output]
    return {value.name: value.type.tensor_type for value in values}


def let_shapes_through(graph):
    """Replace onnxruntime's nodes, which ONNX does not know, by nodes of equal dtype and shape.

    The sizes that tf2onnx has not recorded of such a node are those of its first input.
    """
    recorded = {value.name: value for value in [*graph.value_info, *graph.output]}
    nodes, make = [], onnx.helper.make_node
    for node in graph.node:
        name = node.output[0]
        if node.op_type in ("Gelu", "FastGelu"):
            nodes.append(make("Identity", node.input, [name]))
        elif node.domain and name in recorded:
            sizes = np.array(recorded_sizes(recorded[name]))  # `Reshape` copies a size for each 0
            shape = numpy_helper.from_array(sizes, f"{name} shape")
            graph.initializer.append(shape)
            kind = recorded[name].type.tensor_type.elem_type
            cast = make("Cast", node.input[:1], [f"{name} cast"], to=kind)
            nodes += [cast, make("Reshape", [*cast.output, shape.name], [name])]
        else:
            nodes.append(node)
    del graph.node[:], graph.value_info[:]
    graph.node.extend(nodes)


def sizes_of(name, found):
    """The sizes of a tensor from its two inferred types, or None if its rank is unknown."""
    types = [each.get(name) for each in found]
    if None in types or not all(each.HasField("shape") for each in types):
        return None
    pairs = zip(*(each.shape.dim for each in types), strict=True)
    return [size_of(first.dim_value, second.dim_value) for first, second in pairs]


def size_of(first, second):
    """A number, the name of a size or a multiple of it, or None, from the size with both probes."""
    if first == second:
        return first or None
    for name, probes in PROBES.items():
        count, *others = {size / probe for size, probe in zip((first, second), probes, strict=True)}
        if count and not others and count == int(count):
            return name if count == 1 else f"{int(count)}*{name}"
    return None

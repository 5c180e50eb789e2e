"""Layouts of the weights over devices, for models that are larger than one device."""

import re
from collections.abc import Callable

import keras

from keras_mixers import arguments
from keras_mixers.graph import all_layers, is_functional, layer_calls, unrecorded_build
from keras_mixers.models import abstract_weights

DEPTHWISE = (keras.layers.DepthwiseConv1D, keras.layers.DepthwiseConv2D)


def layout_map(
    mesh: keras.distribution.DeviceMesh,
    build: Callable[[], keras.Model],
    model_axis: str | None = None,
    fsdp_axis: str | None = None,
) -> keras.distribution.LayoutMap:
    """The layout of each weight over devices, for `keras.distribution.ModelParallel` on JAX.

    There are two ways to split the weights, which can be combined on a mesh of two axes:

    `model_axis="model"`: each device computes some heads of each attention, some hidden units of
    each MLP, and some channels of each depthwise convolution (tensor parallelism). Patch
    projection, positions, tokens, norms, and class head stay whole, because they are small.

    `fsdp_axis="batch"`: each weight is split along its longest axis that the devices divide, and
    XLA gathers it when a layer needs it (fully sharded data parallelism). Vectors and depthwise
    kernels stay whole, because they are small. The map also has a layout for the output of each
    layer. Without it, XLA would exchange images instead of weights.

    The optimizer's slots, moving averages and accumulated gradients have the layouts of their
    weights. A layer of another package stays whole along `model_axis`. A user's layer takes part by
    a method `split_axes`, as in `ChannelMixing`.

    The keys are the paths of weights, escaped as regular expressions. So create the model by the
    same function, after `keras.distribution.set_distribution`. Print `dict(layouts)` to see them,
    or replace one by `del layouts[key]` and `layouts[key] = (None, "model")`.

    With `fsdp_axis`, build the model with `gradient_checkpointing=True` if memory is short. XLA can
    then gather a weight again for the backward pass instead of keeping it.

    Checkpoints: `model.load_weights` and `km.load_weights` fill a model under any layout, in any
    number of processes. With one process, `model.save`, `save_weights` and `km.save_weights` write
    whole weights. With several processes these functions raise an error, because no process has all
    values, as do `predict`, `get_weights` and `keras.callbacks.SwapEMAWeights`. Save with
    `keras.callbacks.OrbaxCheckpoint` there (it needs orbax-checkpoint). Its folder loads by
    `model.load_weights` or `keras.models.load_model`, with the optimizer, under any layout and
    number of processes. On one device, first set a distribution such as
    `keras.distribution.DataParallel(devices=["cpu:0"])`.

    Args:
        mesh: the devices, such as `keras.distribution.DeviceMesh((2, 4), ("batch", "model"))`.
        build: a function without arguments that returns the model. It is called once, without
            allocating weights, so it need not load any.
        model_axis: the axis of the mesh over which heads and hidden units are split; None for no
            such split.
        fsdp_axis: the axis of the mesh over which weights are split and gathered. It must be the
            axis of the batch, `batch_dim_name` of `ModelParallel`. None for no such split.

    Returns:
        A `keras.distribution.LayoutMap`.

    Raises:
        ValueError, TypeError: if an argument is invalid; the message names it.
        ValueError: if the devices along `model_axis` do not divide the heads or units of a layer.
            The message names the layer and the numbers that divide them.

    Example:
        >>> from keras_mixers import ViT
        >>> mesh = keras.distribution.DeviceMesh((1, 1), ("batch", "model"), ["cpu:0"])
        >>> def build():
        ...     return ViT("Ti/16", input_shape=(32, 32, 3), depth=1, num_classes=10)
        >>> layouts = layout_map(mesh, build, model_axis="model")
        >>> layouts["block_0_channel_mixing/channel_mixing/fc1/kernel"].axes
        (None, 'model')

    Source: "Megatron-LM: Training Multi-Billion Parameter Language Models Using Model Parallelism",
    arXiv 1909.08053; "ZeRO: Memory Optimizations Toward Training Trillion Parameter Models", arXiv
    1910.02054, stage 3.
    """
    model_devices = devices_along(mesh, "model_axis", model_axis)
    fsdp_devices = devices_along(mesh, "fsdp_axis", fsdp_axis)
    if model_axis == fsdp_axis:
        raise ValueError(
            "`model_axis` and `fsdp_axis` must be two axes of the mesh, or one of them None."
            f" {arguments.received(model_axis=model_axis, fsdp_axis=fsdp_axis)}"
        )
    model = abstract_model(build)
    layouts = {variable.path: [None] * len(variable.shape) for variable in model.variables}
    if model_axis is not None:
        for layer in all_layers(model):
            layouts |= unit_layouts(layer, model_axis, model_devices)
    if fsdp_axis is not None:
        for variable in gathered_weights(model):
            split_longest_axis(layouts[variable.path], variable.shape, fsdp_axis, fsdp_devices)
        layouts |= {path: [fsdp_axis] for path in output_paths(model)}
    found = keras.distribution.LayoutMap(mesh)
    for path, axes in layouts.items():
        if any(axes):
            found[re.escape(path)] = tuple(axes)  # because Keras reads keys as regular expressions
    return found


def devices_along(mesh, name, axis):
    """The number of devices along an axis of the mesh, which an argument names; 1 for None."""
    if not isinstance(mesh, keras.distribution.DeviceMesh):
        raise TypeError(
            "`mesh` must be a keras.distribution.DeviceMesh, such as"
            f" DeviceMesh((2, 4), ('batch', 'model')). {arguments.received(mesh=mesh)}"
        )
    sizes = dict(zip(mesh.axis_names, mesh.shape, strict=True))
    return 1 if axis is None else sizes[arguments.choice(name, axis, (*sizes, None))]


def abstract_model(build):
    """The model that a function builds, with weights that have shapes and no values."""
    if not callable(build) or isinstance(build, keras.layers.Layer):
        raise TypeError(
            "`build` must be a function that returns the model, such as"
            f" lambda: km.ViT('B/16'). {arguments.received(build=build)}"
        )
    with abstract_weights(), unrecorded_build():
        model = build()
    if not is_functional(model):
        raise ValueError(
            "`build` must return a functional or Sequential model that is built. Received:"
            f" a function that returns {arguments.shown(model)}"
        )
    shapes = {variable.path: tuple(variable.shape) for variable in model.variables}
    for variable in model.variables:
        if tuple(variable.shape) != shapes[variable.path]:
            raise ValueError(
                "`build` must give each layer its own name. Received: a model with two weights"
                f" {variable.path!r}, of shapes {tuple(variable.shape)} and {shapes[variable.path]}"
            )
    return model


def unit_layouts(layer, axis, devices):
    """`{path: axes}` of the weights that a layer splits by its heads, hidden units or channels.

    Raises:
        ValueError: if the number of devices does not divide the number of units.
    """
    rules = layer.split_axes() if hasattr(layer, "split_axes") else {}
    shapes = {variable.path: tuple(variable.shape) for variable in layer.variables}
    layouts, sizes = {}, {}
    if rules and getattr(layer, "split_by", None):
        sizes[layer.split_by] = getattr(layer, layer.split_by)
    for name, index in rules.items():
        path = f"{layer.path}/{name}"
        if name.endswith("/parts"):
            layouts[path] = one_axis(3, index, axis)
        elif path in shapes:  # a weight may be optional, such as a bias
            layouts[path] = one_axis(len(shapes[path]), index, axis)
            sizes[f"{name}.shape[{index}]"] = shapes[path][index]
    for name, size in sizes.items():
        if size % devices:
            raise ValueError(
                f"`mesh` must have a number of devices along {axis!r} that divides the heads or"
                f" units of each layer. Received: {devices} devices for layer {layer.path!r} with"
                f" {name}={size}; the nearest divisors: {arguments.nearest_divisors(devices, size)}"
                ". A split by `fsdp_axis` has no such condition"
            )
    return layouts


def one_axis(rank, index, axis):
    """The axes of a layout that splits one axis of a tensor."""
    return [axis if i == index else None for i in range(rank)]


def gathered_weights(model):
    """The weights that `fsdp_axis` splits: all except vectors and depthwise kernels.

    For a split depthwise kernel, XLA would exchange the images instead of gathering the kernel.
    """
    depthwise = [layer for layer in all_layers(model) if isinstance(layer, DEPTHWISE)]
    whole = {id(variable) for layer in depthwise for variable in layer.variables}
    for variable in model.variables:
        if id(variable) not in whole and sum(size > 1 for size in variable.shape) > 1:
            yield variable


def split_longest_axis(axes, shape, axis, devices):
    """Split the longest axis that is not split yet and that the devices divide, if there is one."""
    free = [i for i, size in enumerate(shape) if axes[i] is None and size % devices == 0]
    if free:
        axes[max(free, key=lambda i: shape[i])] = axis


def output_paths(model):
    """The keys in a `LayoutMap` for the outputs of the layers in a model's graph."""
    for node in layer_calls(model).values():
        layer = node.operation
        if isinstance(layer, keras.layers.Layer) and len(node.outputs) == 1:
            # A layer without weights has no path, because Keras sets it when weights are created.
            yield f"{layer.path or layer.name}/output"

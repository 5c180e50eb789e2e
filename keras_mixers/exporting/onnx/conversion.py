"""Convert a model to ONNX in three steps: trace it in TensorFlow, run tf2onnx, simplify."""

import contextlib
import logging

import keras

from keras_mixers.exporting.onnx.graph import unique
from keras_mixers.exporting.onnx.lowering import layer_path, lowered
from keras_mixers.exporting.onnx.operators import OPSET, check_operators
from keras_mixers.exporting.onnx.placeholders import CONTRIB, PLACEHOLDER, replace_placeholder
from keras_mixers.exporting.onnx.resize import prepared
from keras_mixers.graph import all_layers


def convert(serving, progress):
    """The `onnx.ModelProto` of `serving` in float32.

    `convert` has checked its operators. `file.write` runs `onnx.checker` later.
    """
    from keras_mixers.exporting.onnx.passes.names import name_after_layers

    model = serving.model
    variables = [*model.trainable_variables, *model.non_trainable_variables]
    inputs = {f"weight_{i}": variable for i, variable in enumerate(variables)}
    progress("tracing")
    traced = trace(serving, inputs)
    progress("converting")
    converted = to_onnx(traced, serving.target)
    check_operators(converted.graph, serving.target)
    progress("simplifying")
    names = unique([variable.path for variable in variables])
    simplify(converted, dict(zip(inputs, zip(names, variables, strict=True), strict=True)))
    if serving.target == "onnxruntime" and serving.quantize != "int8":
        from keras_mixers.exporting.onnx.passes.hidden_width import widen_hidden_layers

        widen_hidden_layers(converted)
    paths = {"preprocessing", "probabilities", *map(layer_path, all_layers(model))}
    name_after_layers(converted, paths, names)
    return converted


def trace(serving, inputs):
    """The served function as a TensorFlow graph whose inputs are the images and the weights.

    The weights are inputs so that no later step copies or inspects them.

    Args:
        serving: the `Serving`.
        inputs: `{name: variable}` for each of the model's variables.

    Raises:
        RuntimeError: if the model has state that is not a weight.
    """
    import tensorflow as tf

    variables = list(inputs.values())
    specs = [tf.TensorSpec(v.shape, v.dtype, name=name) for name, v in inputs.items()]

    @tf.function(input_signature=[serving.images, specs], autograph=False)
    def serve(images, weights):
        with (
            keras.StatelessScope(state_mapping=list(zip(variables, weights, strict=True))),
            lowered(serving),
        ):
            with keras.name_scope("preprocessing"):
                images = prepared(serving.preprocessing, images)
            return serving.outputs(images)

    traced = serve.get_concrete_function()
    if traced.captured_inputs:
        raise RuntimeError(
            "The model has state that is not a weight, which an ONNX file cannot hold:"
            f" {traced.captured_inputs[0]}; nothing was written. Export a SavedModel instead"
        )
    return traced


def to_onnx(traced, target):
    """tf2onnx's conversion of a traced function, with the names of its inputs and outputs."""
    import tf2onnx

    outputs = {tensor.name: name for name, tensor in traced.structured_outputs.items()}
    names = {tensor.name: tensor.name.split(":")[0] for tensor in traced.inputs}
    contrib = [tf2onnx.utils.make_opsetid(CONTRIB, 1)]
    with silenced("tf2onnx"), silenced("tensorflow"):
        converted, _ = tf2onnx.convert.from_graph_def(
            traced.graph.as_graph_def(),
            input_names=list(names),
            output_names=list(outputs),
            tensors_to_rename={**names, **outputs},
            opset=OPSET,
            extra_opset=contrib if target == "onnxruntime" else [],
            custom_op_handlers={PLACEHOLDER: (replace_placeholder, [])},
        )
    return converted


def simplify(model, weights):
    """Put the weights into the model, and give it fewer and faster nodes.

    Args:
        model: an `onnx.ModelProto`, which is changed in place.
        weights: `{name of an input: (name, variable)}`.
    """
    from keras_mixers.exporting.onnx.passes.channels_first import (
        join_biases,
        pool_on_the_grid,
        stay_channels_first,
    )
    from keras_mixers.exporting.onnx.passes.constants import fold_constants, insert_weights
    from keras_mixers.exporting.onnx.passes.gelu import write_gelu_for_onnxruntime
    from keras_mixers.exporting.onnx.passes.last_token import slice_last_block

    slice_last_block(model, weights)
    insert_weights(model, weights)
    fold_constants(model)
    stay_channels_first(model)
    join_biases(model)
    pool_on_the_grid(model)
    write_gelu_for_onnxruntime(model)


@contextlib.contextmanager
def silenced(name):
    """Silence a logger, because `check_operators` reports what tf2onnx cannot convert."""
    logger = logging.getLogger(name)
    before = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        logger.setLevel(before)

"""Trace a model for ONNX: while it is traced, its layers compute by their lowerings."""

import contextlib

import keras

from keras_mixers import layers
from keras_mixers.exporting.onnx.lowerings import (
    ACTIVATIONS,
    LOWERINGS,
    attention_with_weights,
    lower_attention_to_one_node,
    lower_token_mixing_by_rows,
)
from keras_mixers.exporting.onnx.patches_as_rows import lower_patch_conv
from keras_mixers.exporting.onnx.resize import lower_preprocess_images
from keras_mixers.exporting.temporary_attributes import temporary_attribute
from keras_mixers.graph import all_layers
from keras_mixers.layers.patch_embed import PatchConv2D
from keras_mixers.preprocessing import PreprocessImages


@contextlib.contextmanager
def lowered(serving):
    """Inside the `with` statement the layers of a model compute by their lowerings.

    Args:
        serving: the `Serving`, whose model, target and precision decide on the lowerings.
    """
    target = serving.target
    lowerings = {**LOWERINGS, PreprocessImages: lower_preprocess_images}
    int8 = serving.quantize == "int8"
    if int8:
        lowerings[layers.TokenMixing] = lower_token_mixing_by_rows
    # Not with calibration, because onnxruntime's static quantization does not know `Attention`.
    if target == "onnxruntime" and not (int8 and serving.calibration):
        lowerings[layers.MultiHeadSelfAttention] = lower_attention_to_one_node
        if int8:
            lowerings[keras.layers.Conv2D] = lowerings[PatchConv2D] = lower_patch_conv
    parts = all_layers(serving.model)
    calls = [(layer, in_scope_of(layer, call_of(layer, lowerings))) for layer in parts]
    activations = [
        (layer, lowering)
        for layer in parts
        for activation, lowering in ACTIVATIONS[target].items()
        if vars(layer).get("activation") is activation
    ]
    with temporary_attribute("call", calls), temporary_attribute("activation", activations):
        yield


def layer_path(layer):
    """The path of a layer, which precedes the names of its weights too."""
    return layer.path or layer.name


def in_scope_of(layer, call):
    """`call`, extended to name the TensorFlow operators that it adds after the layer's path."""
    import tensorflow as tf

    def scoped(*args, **kwargs):
        with tf.name_scope(f"{layer_path(layer)}/"):  # "/" because a number would follow the path
            return call(*args, **kwargs)

    return scoped


def call_of(layer, lowerings):
    """The `call` of a layer by its lowering if there is one; a `call` that the user set stays."""
    if type(layer) in lowerings and "call" not in vars(layer):
        return lowered_call(lowerings[type(layer)], layer)
    return layer.call


def lowered_call(lowering, layer):
    """The `call` of a layer by its lowering, or by `attention_with_weights` for the weights."""

    def call(x, training=None, mask=None, return_attention_scores=False):
        return attention_with_weights(layer, x) if return_attention_scores else lowering(layer, x)

    return call

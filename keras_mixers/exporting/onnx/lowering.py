"""A model traced for ONNX: for as long as that lasts, its layers are called in other forms."""

import contextlib

from keras_mixers import layers
from keras_mixers.exporting.onnx.lowerings import (
    ACTIVATIONS,
    FORMS,
    fused_attention,
    mixed_by_scores,
    token_mixing_of_rows,
)
from keras_mixers.exporting.replace import replaced
from keras_mixers.graph import all_layers


def bound(form, layer):
    """A layer's `call` by a form; attention with its scores by the form that has them."""

    def call(x, training=None, mask=None, return_attention_scores=False):
        return mixed_by_scores(layer, x) if return_attention_scores else form(layer, x)

    return call


@contextlib.contextmanager
def lowered(model, target, quantize):
    """While this lasts, a model is traced in forms for `target`, "onnx" or "onnxruntime"."""
    forms = dict(FORMS)
    if quantize == "int8":
        forms[layers.TokenMixing] = token_mixing_of_rows
    elif target == "onnxruntime":  # its tools leave what is inside `Attention` in floats
        forms[layers.MultiHeadSelfAttention] = fused_attention
    inside = all_layers(model)
    calls = [
        (layer, bound(forms[type(layer)], layer))
        for layer in inside
        if type(layer) in forms and "call" not in vars(layer)  # nor where a user has put one
    ]
    activations = [
        (layer, form)
        for layer in inside
        for activation, form in ACTIVATIONS[target].items()
        if vars(layer).get("activation") is activation
    ]
    with replaced("call", calls), replaced("activation", activations):
        yield

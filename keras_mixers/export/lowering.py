"""A model traced for ONNX: for as long as that lasts, its layers are called in other forms."""

import contextlib

from keras_mixers import layers
from keras_mixers.export.forms import (
    ACTIVATIONS,
    FORMS,
    fused_attention,
    mixed_by_scores,
    token_mixing_of_rows,
)


@contextlib.contextmanager
def replaced(attribute, values):
    """While this lasts, each layer has another `attribute`: pairs of a layer and a value."""
    values = [(vars(layer), value) for layer, value in values]
    before = [(own, attribute in own, own.get(attribute)) for own, _ in values]
    try:
        for own, value in values:
            own[attribute] = value
        yield
    finally:
        for own, had, value in before:
            own.pop(attribute, None)
            if had:
                own[attribute] = value


def bound(form, layer):
    """A layer's `call` by a form; attention with its scores by the form that has them."""

    def call(x, training=None, mask=None, return_attention_scores=False):
        return mixed_by_scores(layer, x) if return_attention_scores else form(layer, x)

    return call


def all_layers(layer):
    """The layers inside a model or layer, at any depth, each once."""
    return layer._flatten_layers(include_self=False)


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

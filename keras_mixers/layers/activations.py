"""Activations by name: all of Keras's, and the tanh approximation of GELU."""

from typing import Any

import keras

from keras_mixers import arguments
from keras_mixers.serialization import registered


@registered
def gelu_tanh(x: Any) -> Any:
    """The tanh approximation of GELU: `x/2 (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3)))`.

    Flax uses it by default, so Google trained its ViT and MLP-Mixer weights with it. Keras's
    `"gelu"` is the exact function `x/2 (1 + erf(x / sqrt(2)))`, as in timm and Hugging Face.

    Source: "Gaussian Error Linear Units (GELUs)", arXiv 1606.08415.
    """
    return keras.activations.gelu(x, approximate=True)


@registered
def quick_gelu(x: Any) -> Any:
    """The sigmoid approximation of GELU: `x sigmoid(1.702 x)`.

    OpenAI's CLIP and other CLIP models were trained with it.

    Source: "Gaussian Error Linear Units (GELUs)", arXiv 1606.08415.
    """
    return x * keras.ops.sigmoid(1.702 * x)


NAMED = {"gelu_tanh": gelu_tanh, "quick_gelu": quick_gelu}


def get(activation):
    """Return the function for a name such as `"gelu"` or `"gelu_tanh"`; check a given function.

    Raises:
        ValueError: if no activation has that name, if the activation halves the width, or if a
            saved model could not be loaded with the function.
        TypeError: if `activation` is neither a name nor a function.
    """
    if not isinstance(activation, str) and not callable(activation):
        raise TypeError(
            "`activation` must be a name such as 'gelu', 'gelu_tanh' or 'relu', or a function."
            f" Received: activation={arguments.shown(activation)}"
        )
    if isinstance(activation, str) and activation in NAMED:
        return NAMED[activation]
    if activation in ("glu", keras.activations.glu):
        raise ValueError(
            "`activation` must keep the width of its input."
            f" {arguments.received(activation=activation)}. For a gated MLP use"
            " ChannelMixing(gated=True)"
        )
    if isinstance(activation, str):
        try:
            return keras.activations.get(activation)
        except ValueError:
            raise ValueError(
                "`activation` must be 'gelu_tanh', 'quick_gelu' or a name in keras.activations,"
                f" such as 'gelu' or 'relu'. Received: activation={arguments.shown(activation)}"
            ) from None
    if not isinstance(activation, keras.layers.Layer) and not _loadable(activation):
        raise ValueError(
            "`activation` must be a function that a saved model can name: one of"
            " keras.activations, or one that is registered with"
            " @keras.saving.register_keras_serializable()."
            f" Received: activation={arguments.shown(activation)}"
        )
    return activation


def _loadable(function):
    """Whether Keras can load a model with the function in its safe mode."""
    name = getattr(function, "__name__", "")
    if getattr(keras.activations, name, None) is function:
        return True
    return (
        keras.saving.get_registered_object(keras.saving.get_registered_name(function)) is function
    )

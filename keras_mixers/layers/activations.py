"""Activations by name: all of Keras's, and the tanh form of GELU that Flax trained with."""

import keras

from keras_mixers.layers.base import PACKAGE


@keras.saving.register_keras_serializable(PACKAGE)
def gelu_tanh(x):
    """GELU by its tanh approximation: `x/2 (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3)))`.

    Flax's default, and so what Google's ViT and MLP-Mixer weights were trained with; Keras's
    `"gelu"`, timm's and Hugging Face's is the exact `x/2 (1 + erf(x / sqrt(2)))`. Source:
    "Gaussian Error Linear Units (GELUs)", arXiv 1606.08415.
    """
    return keras.activations.gelu(x, approximate=True)


def get(activation):
    """The function behind a name (`"gelu"`, `"gelu_tanh"`, `"relu"`, ...) or a function itself.

    Raises:
        ValueError: no activation of that name.
        TypeError: neither a name nor a function.
    """
    if activation == "gelu_tanh":
        return gelu_tanh
    if not isinstance(activation, str) and not callable(activation):
        raise TypeError(
            "`activation` must be a name such as 'gelu', 'gelu_tanh' or 'relu', or a function."
            f" Received: activation={activation!r}"
        )
    try:
        return keras.activations.get(activation)
    except ValueError:
        raise ValueError(
            "`activation` must be 'gelu_tanh' or a name in keras.activations, such as 'gelu' or"
            f" 'relu'. Received: activation={activation!r}"
        ) from None

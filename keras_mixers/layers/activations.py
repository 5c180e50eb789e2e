"""Activations by name: all of Keras's, and the tanh form of GELU that Flax trained with."""

import keras

from keras_mixers.serialization import registered


@registered
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
        ValueError: no activation of that name, one that halves the width, or a function that could
            not be read back.
        TypeError: neither a name nor a function.
    """
    if activation == "gelu_tanh":
        return gelu_tanh
    if activation in ("glu", keras.activations.glu):
        raise ValueError(
            "`activation` must keep the width of its input. Received:"
            f" activation={activation!r}; ChannelMixing(gated=True) is the gated form"
        )
    if not isinstance(activation, str) and not callable(activation):
        raise TypeError(
            "`activation` must be a name such as 'gelu', 'gelu_tanh' or 'relu', or a function."
            f" Received: activation={activation!r}"
        )
    if isinstance(activation, str):
        try:
            return keras.activations.get(activation)
        except ValueError:
            raise ValueError(
                "`activation` must be 'gelu_tanh' or a name in keras.activations, such as 'gelu'"
                f" or 'relu'. Received: activation={activation!r}"
            ) from None
    if not isinstance(activation, keras.layers.Layer) and not _loadable(activation):
        raise ValueError(
            "`activation` must be a function that a saved model can name: one of"
            " keras.activations, or one registered by @keras.saving.register_keras_serializable()."
            f" Received: activation={activation!r}"
        )
    return activation


def _loadable(function):
    """Whether Keras could read the function back from a file in its safe mode."""
    name = getattr(function, "__name__", "")
    if getattr(keras.activations, name, None) is function:
        return True
    return (
        keras.saving.get_registered_object(keras.saving.get_registered_name(function)) is function
    )

"""Mix tokens by a Fourier transform, without weights."""

import math

import keras
from keras import ops

from keras_mixers.layers.base import Layer
from keras_mixers.serialization import registered


@registered
class FourierMixing(Layer):
    """FNet's token mixer: `real(fft(x))`, a 2-D Fourier transform over tokens and channels.

    The layer has no weights. It computes in float32 or float64, because half precision is
    inaccurate for sums over all values, and most backends have no transform of half precision.

    The transform also runs over the channels. `mixes` contains only "tokens", because a block needs
    an MLP across channels in addition.

    Shapes: `(N, T, D) -> (N, T, D)`, for any number of tokens.

    Example:
        >>> FourierMixing()(keras.Input((10, 48))).shape
        (None, 10, 48)

    Source: "FNet: Mixing Tokens with Fourier Transforms", arXiv 2105.03824, equation 3.
    """

    rank = 3
    mixes = frozenset(["tokens"])
    role = "fourier_mixing"

    def multiply_adds(self, x_shape):
        # A radix-2 FFT of n numbers has n/2 log2(n) complex products of 4 real products each.
        _, tokens, width = x_shape
        return round(2 * tokens * width * math.log2(tokens * width))

    def call(self, x):
        wide = ops.cast(x, keras.backend.result_type(x.dtype, "float32"))
        real, _ = ops.fft2((wide, ops.zeros_like(wide)))
        return ops.cast(real, x.dtype)

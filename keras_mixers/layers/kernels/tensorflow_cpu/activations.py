"""Activations: XLA compiles each function and its derivative."""

import functools
import math

import keras
import tensorflow as tf

from keras_mixers.layers.activations import gelu_tanh, quick_gelu
from keras_mixers.layers.kernels.tensorflow_cpu.half import narrow, wide

# A decorator. TensorFlow compiles the function once for each shape, for all layers that call it.
compiled = functools.partial(tf.function, jit_compile=True, autograph=False)


def _gelu(x):
    return 0.5 * x * (1 + tf.math.erf(x * 0.5**0.5))


def _gelu_slope(x):
    cumulative = 0.5 * (1 + tf.math.erf(x * 0.5**0.5))
    return cumulative + x * tf.exp(-0.5 * x * x) * (2 * math.pi) ** -0.5


def _gelu_tanh(x):
    return 0.5 * x * (1 + tf.tanh((2 / math.pi) ** 0.5 * (x + 0.044715 * x**3)))


def _gelu_tanh_slope(x):
    tanh = tf.tanh((2 / math.pi) ** 0.5 * (x + 0.044715 * x**3))
    inner = (2 / math.pi) ** 0.5 * (1 + 3 * 0.044715 * x * x)
    return 0.5 * (1 + tanh) + 0.5 * x * (1 - tanh * tanh) * inner


def _quick_gelu(x):
    return x * tf.sigmoid(1.702 * x)


def _quick_gelu_slope(x):
    gate = tf.sigmoid(1.702 * x)
    return gate * (1 + 1.702 * x * (1 - gate))


def _silu(x):
    return x * tf.sigmoid(x)


def _silu_slope(x):
    gate = tf.sigmoid(x)
    return gate * (1 + x * (1 - gate))


class Activation:
    """An elementwise function and its derivative, compiled; they compute in float32.

    Attributes:
        inference: the function itself, not compiled, because it may be fused with its neighbours.
        forward: `function(x + bias)`, or `function(x)` without a bias.
        backward: the gradient for x, `dy * slope(x + bias)`.
    """

    def __init__(self, function, slope):
        def forward(x, bias=None):
            return narrow(function(_sum(x, bias)), x.dtype)

        def backward(dy, x, bias=None):
            return narrow(wide(dy) * slope(_sum(x, bias)), x.dtype)

        self.inference = function
        self.forward = compiled(forward)
        self.backward = compiled(backward)

    def training(self, x):
        """`function(x)`, which stores only x for its gradient."""

        @tf.custom_gradient
        def call(x):
            return self.forward(x), lambda dy: self.backward(dy, x)

        return call(x)


def _sum(x, bias):
    """`x + bias` in float32."""
    return wide(x) if bias is None else wide(x) + wide(bias)


ACTIVATIONS = {
    keras.activations.gelu: Activation(_gelu, _gelu_slope),
    keras.activations.silu: Activation(_silu, _silu_slope),
    gelu_tanh: Activation(_gelu_tanh, _gelu_tanh_slope),
    quick_gelu: Activation(_quick_gelu, _quick_gelu_slope),
}

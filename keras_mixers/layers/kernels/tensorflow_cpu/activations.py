"""Activations: the function and its derivative, each compiled by XLA."""

import functools
import math

import keras
import tensorflow as tf

from keras_mixers.layers.activations import gelu_tanh

# Each compiled function is compiled once for each shape and shared by all layers that call it.
compiled = functools.partial(tf.function, jit_compile=True, autograph=False)


def fused_elementwise():
    """The elementwise operators made inside become one loop over memory, in inference."""
    return tf.xla.experimental.jit_scope(compile_ops=True)


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


class Activation:
    """An elementwise function and its slope, and what is compiled of them."""

    def __init__(self, function, slope):
        def recompute(x, dy):
            dx = dy * slope(x)
            return function(x), dx, tf.reduce_sum(dx, 0)

        self.inference = function
        self.forward = compiled(function)
        self.backward = compiled(lambda x, dy: dy * slope(x))
        self.recompute = compiled(recompute)

    def training(self, x):
        """`function(x)`, which keeps x alone for its gradient."""

        @tf.custom_gradient
        def call(x):
            return self.forward(x), lambda dy: self.backward(x, dy)

        return call(x)


ACTIVATIONS = {
    keras.activations.gelu: Activation(_gelu, _gelu_slope),
    gelu_tanh: Activation(_gelu_tanh, _gelu_tanh_slope),
}

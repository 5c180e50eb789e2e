"""Activations: XLA compiles each function and its derivative."""

import functools
import math

import keras
import tensorflow as tf

from keras_mixers.layers.activations import gelu_tanh, quick_gelu

# A decorator. TensorFlow compiles the function once for each shape, for all layers that call it.
compiled = functools.partial(tf.function, jit_compile=True, autograph=False)


def fused_elementwise():
    """Within this context, XLA fuses elementwise operators into one loop; for inference."""
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
    """An elementwise function and its derivative, compiled.

    Attributes:
        inference: the function itself, not compiled, because oneDNN or `fused_elementwise` may
            fuse it with its neighbours.
        forward: `function(x)`.
        backward: the gradient for x, `dy * slope(x)`.
        recompute: `function(x)`, the gradient for x, and the sum of the latter over the rows.
    """

    def __init__(self, function, slope):
        def recompute(x, dy):
            dx = dy * slope(x)
            return function(x), dx, tf.reduce_sum(dx, 0)

        self.inference = function
        self.forward = compiled(function)
        self.backward = compiled(lambda x, dy: dy * slope(x))
        self.recompute = compiled(recompute)

    def training(self, x):
        """`function(x)`, which stores only x for its gradient."""

        @tf.custom_gradient
        def call(x):
            return self.forward(x), lambda dy: self.backward(x, dy)

        return call(x)


ACTIVATIONS = {
    keras.activations.gelu: Activation(_gelu, _gelu_slope),
    keras.activations.silu: Activation(_silu, _silu_slope),
    gelu_tanh: Activation(_gelu_tanh, _gelu_tanh_slope),
    quick_gelu: Activation(_quick_gelu, _quick_gelu_slope),
}

"""Kernels for files: they are made of TensorFlow's own operators, in float32 at inference.

A SavedModel with them runs in every TensorFlow, on every device. Where oneDNN computes, TensorFlow
replaces their patterns by fused kernels while it loads the file. XLA compiles none of them, because
TensorFlow Serving refuses functions for XLA on CPUs by default.
"""

import types

import tensorflow as tf

from keras_mixers.layers.kernels.tensorflow_cpu import activations
from keras_mixers.layers.kernels.tensorflow_cpu.few_tokens import (
    dense_of_few_tokens,
    mlp_of_few_tokens,
    mlp_of_one_image,
)
from keras_mixers.layers.kernels.tensorflow_cpu.norms import layer_normalization_inference
from keras_mixers.layers.kernels.tensorflow_cpu.products import dense, mlp, on_rows
from keras_mixers.layers.kernels.tensorflow_cpu.softmax_attention import forward, split_heads
from keras_mixers.layers.rotary import swapped

__all__ = [
    "ACTIVATIONS",
    "activated_dense_inference",
    "attention",
    "attention_of_parts",
    "dense",
    "dense_of_few_tokens",
    "layer_normalization_inference",
    "mlp",
    "mlp_of_few_tokens",
    "mlp_of_one_image",
    "on_rows",
]
# The functions themselves, also where the kernels for CPUs compile them.
ACTIVATIONS = {
    function: types.SimpleNamespace(inference=kernel.inference, forward=kernel.inference)
    for function, kernel in activations.ACTIVATIONS.items()
}


def activated_dense_inference(x, kernel, bias, activation):
    """`activation(x kernel + bias)` on rows, at inference."""
    return on_rows(lambda x: activation.inference(dense(x, kernel, bias)), x)


def attention(qkv, num_heads, rotary=None, angles=None):
    """`softmax(q k' / sqrt(d)) v` in each head: `(N, T, 3 H d) -> (N, T, H d)`.

    If `rotary` is given, it first rotates queries and keys by `angles`, its `tables`.
    """
    query, key, value = split_heads(qkv, 3, num_heads)
    if rotary:
        sine, cosine = angles
        query, key = (x * cosine + swapped(rotary, x) * sine for x in (query, key))
    return forward(query * query.shape[-1] ** -0.5, key, value)


def attention_of_parts(query, key, value):
    """`softmax(q k' / sqrt(d)) v` in each head: `(N, Q, H, d), 2 x (N, T, H, d) -> (N, Q, H d)`."""
    query, key, value = (tf.transpose(part, (0, 2, 1, 3)) for part in (query, key, value))
    return forward(query * query.shape[-1] ** -0.5, key, value)

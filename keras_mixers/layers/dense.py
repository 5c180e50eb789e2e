"""Keras's Dense for tokens, and the MLP of two Dense layers."""

import keras
from keras import ops

from keras_mixers.layers import kernels


class Dense(keras.layers.Dense):
    """Keras's Dense, computed by a fused kernel where that is faster."""

    def call(self, x, training=None):
        fused = kernels.fused_kernels(x)
        if fused and len(x.shape) > 2 and self.activation is keras.activations.linear:
            return fused.dense(x, *weights(self))
        return super().call(x, training=training)

    def quantize(self, mode=None, type_check=True, **more):
        # Keras refuses to quantize a subclass, because a quantized layer no longer runs `call`.
        # That is safe for this subclass, because Keras's `call` computes the same.
        return super().quantize(mode, type_check=False, **more)


def mlp(x, fc1, activation, dropout, fc2, training):
    """`fc2(dropout(activation(fc1(x))))`: `(..., D) -> (..., E)`."""

    def reference(x):
        hidden = kernels.activate(activation, fc1(x), training)
        return fc2(dropout(hidden, training=training))

    fused = kernels.fused_kernels(x)
    if not (fused and _is_plain(fc1) and _is_plain(fc2)):
        return reference(x)
    if training and not dropout.rate and activation in fused.ACTIVATIONS:
        return fused.mlp(x, *weights(fc1), *weights(fc2), fused.ACTIVATIONS[activation])
    return fused.on_rows(reference, x)  # because oneDNN fuses only products of matrices


def _is_plain(dense):
    """Whether a call of the layer computes `x kernel + bias` and nothing that a user added."""
    changed = "call" in vars(dense) or dense.quantization_mode or dense.activity_regularizer
    linear = type(dense) is Dense and dense.activation is keras.activations.linear
    return linear and dense.bias is not None and not changed


def weights(dense):
    """Kernel and bias of a Dense layer as tensors; the kernel includes the LoRA update."""
    kernel, bias = dense.kernel, dense.bias
    return ops.convert_to_tensor(kernel), None if bias is None else ops.convert_to_tensor(bias)

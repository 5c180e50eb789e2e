"""Keras's two normalizations, computed by fused kernels where that is faster."""

import keras
from keras import ops

from keras_mixers.layers import kernels


class LayerNormalization(keras.layers.LayerNormalization):
    """Keras's LayerNormalization over the last axis."""

    def call(self, x, training=None):
        fused = kernels.fused_kernels(x)
        if not fused:
            return super().call(x)
        weights = ops.convert_to_tensor(self.gamma), ops.convert_to_tensor(self.beta)
        if training:
            return fused.layer_normalization(x, *weights, self.epsilon)
        if kernels.has_onednn() and not kernels.is_small(x):
            return fused.layer_normalization_inference(x, *weights, self.epsilon)
        return super().call(x)


class BatchNormalization(keras.layers.BatchNormalization):
    """Keras's BatchNormalization over the last axis of a grid."""

    def call(self, x, training=None):
        if not (kernels.fused_kernels(x) and training and self.trainable):
            return super().call(x, training=training)
        y, mean, variance = self.normalize_batch(x)
        self.update_moving_statistics(mean, variance)
        return y

    def normalize_batch(self, x):
        """Normalize x by the statistics of its batch; the moving averages do not change.

        Returns:
            The output, and the mean and variance of each channel.
        """
        gamma, beta = ops.convert_to_tensor(self.gamma), ops.convert_to_tensor(self.beta)
        fused = kernels.fused_kernels(x)
        if fused:
            return fused.batch_normalization(x, gamma, beta, self.epsilon)
        precise = ops.cast(x, keras.backend.result_type(x.dtype, "float32"))
        gamma, beta = ops.cast(gamma, precise.dtype), ops.cast(beta, precise.dtype)
        mean, variance = ops.moments(precise, axes=tuple(range(len(x.shape) - 1)))
        y = ops.batch_normalization(precise, mean, variance, -1, beta, gamma, self.epsilon)
        return ops.cast(y, x.dtype), mean, variance

    def update_moving_statistics(self, mean, variance):
        """Move the moving averages towards the mean and variance of a batch."""
        for moving, batch in ((self.moving_mean, mean), (self.moving_variance, variance)):
            batch = ops.cast(batch, moving.dtype)
            moving.assign(moving * self.momentum + batch * (1.0 - self.momentum))

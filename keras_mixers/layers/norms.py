"""Keras's two normalisations, by faster kernels where there are some."""

import keras
from keras import ops

from keras_mixers.layers import seam


class LayerNormalization(keras.layers.LayerNormalization):
    """Keras's LayerNormalization over the last axis."""

    def call(self, x, training=None):
        fast = seam.fast_forms(x)
        if not fast:
            return super().call(x)
        weights = ops.convert_to_tensor(self.gamma), ops.convert_to_tensor(self.beta)
        if training:
            return fast.layer_normalization(x, *weights, self.epsilon)
        if seam.has_onednn() and not seam.is_small(x):
            return fast.layer_normalization_inference(x, *weights, self.epsilon)
        return super().call(x)


class BatchNormalization(keras.layers.BatchNormalization):
    """Keras's BatchNormalization over the last axis of a grid."""

    def call(self, x, training=None):
        fast = seam.fast_forms(x)
        if not (fast and training and self.trainable):
            return super().call(x, training=training)
        gamma, beta = ops.convert_to_tensor(self.gamma), ops.convert_to_tensor(self.beta)
        y, mean, variance = fast.batch_normalization(x, gamma, beta, self.epsilon)
        for moving, now in ((self.moving_mean, mean), (self.moving_variance, variance)):
            moving.assign(moving * self.momentum + now * (1.0 - self.momentum))
        return y

"""Adam, whose update of a weight and of its two averages is one kernel, as is weight decay."""

import keras
import tensorflow as tf

from keras_mixers.graph import decayed, moving_averages


def adam_step(optimizer):
    """The `update_step` of `keras.optimizers.Adam`, for one step, by one kernel for each weight.

    Keras's has about 30 operators for each weight. In a model with many weights, TensorFlow needs
    more time to trace and to optimize them than for all layers.
    """
    beta1, beta2 = tf.cast(optimizer.beta_1, tf.float32), tf.cast(optimizer.beta_2, tf.float32)
    # Here, because these numbers are the same for all weights.
    count = tf.cast(optimizer.iterations + 1, tf.float32)
    constants = {
        "beta1": beta1,
        "beta1_power": tf.pow(beta1, count),
        "beta2": beta2,
        "beta2_power": tf.pow(beta2, count),
        "epsilon": tf.cast(optimizer.epsilon, tf.float32),
    }

    def step(gradient, variable, rate):
        if variable.dtype != tf.float32 or isinstance(gradient, tf.IndexedSlices):
            keras.optimizers.Adam.update_step(optimizer, gradient, variable, rate)
            return
        momentum, velocity = moving_averages(optimizer, variable)
        tf.raw_ops.ResourceApplyAdam(
            var=variable.handle,
            m=momentum.value.handle,
            v=velocity.value.handle,
            lr=tf.cast(rate, tf.float32),
            grad=tf.cast(gradient, tf.float32),
            **constants,
        )

    return step


def decay_weights(optimizer):
    """The `decay_method` of `keras.optimizers.AdamW`: `w -= rate * decay * w`.

    Keras's computes the learning rate and its product with the decay again for each weight.
    """

    def apply(variables):
        if optimizer.weight_decay is None:
            return
        factor = tf.cast(optimizer.learning_rate, tf.float32) * optimizer.weight_decay
        for variable in decayed(optimizer, variables):
            weight = tf.convert_to_tensor(variable)
            tf.raw_ops.ResourceApplyGradientDescent(
                var=variable.handle, alpha=tf.cast(factor, weight.dtype), delta=weight
            )

    return apply

"""Train a model on two virtual CPUs and on one CPU with the same global batch, and compare.

This is a program for a separate process, because TensorFlow accepts virtual devices only before its
first operation.
"""

import tensorflow as tf

cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)

import contextlib

import keras
import numpy as np

import keras_mixers as km

strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
RECIPE = km.Recipe(epochs=2, batch_size=64, learning_rate=1e-3, clip_norm=1.0, ema_decay=0.5)


def train(scope):
    """The history and the weights of a training in a scope."""
    augmentation = km.data.Augmentation(translation=0.1, mixup=0.2)
    batches, test, info = km.data.load(
        "digits", batch_size=64, augmentation=augmentation, drop_remainder=True
    )
    keras.utils.set_random_seed(1)
    with scope:
        model = km.Hybrid(
            "M", input_shape=info.input_shape, patch_size=4, hidden_dim=16, num_classes=10
        )
        RECIPE.compile(model, len(batches))
    history = model.fit(batches, validation_data=test, epochs=2, shuffle=False, verbose=0).history
    return history, model.get_weights()


one_history, one_weights = train(contextlib.nullcontext())
two_history, two_weights = train(strategy.scope())
for quantity, values in one_history.items():
    np.testing.assert_allclose(two_history[quantity], values, rtol=1e-4, err_msg=quantity)
for one, two in zip(one_weights, two_weights, strict=True):
    np.testing.assert_allclose(two, one, atol=1e-4)
assert one_history["loss"][-1] < one_history["loss"][0]
print(strategy.num_replicas_in_sync, "replicas")

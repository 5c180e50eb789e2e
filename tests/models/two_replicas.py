"""A process of its own: virtual devices must be made before TensorFlow starts.

Trains a model on two virtual CPUs and on one with the same global batch, and compares.
"""

import pathlib
import sys

import tensorflow as tf

cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

import contextlib

import keras
import numpy as np
from cases import MODELS

case = next(case for case in MODELS if case.id == "hybrid_MA")
labels = np.arange(8) % 5
strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])


def train(scope):
    keras.utils.set_random_seed(1)
    with scope:
        model = case.make()
        model.compile(
            keras.optimizers.SGD(0.1),
            keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            jit_compile=False,
        )
    losses = model.fit(case.images(8), labels, batch_size=8, epochs=5, shuffle=False, verbose=0)
    return losses.history["loss"], model.get_weights()


one_losses, one_weights = train(contextlib.nullcontext())
two_losses, two_weights = train(strategy.scope())
np.testing.assert_allclose(two_losses, one_losses, rtol=1e-5)
for one, two in zip(one_weights, two_weights, strict=True):
    np.testing.assert_allclose(two, one, atol=1e-5)
assert one_losses[-1] < one_losses[0]
print(strategy.num_replicas_in_sync, "replicas")

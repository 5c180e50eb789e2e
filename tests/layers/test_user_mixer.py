"""A user's own mixer in a Residual: any Keras layer that keeps the shape of its input."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_mixers import layers
from keras_mixers.layers.base import mixes_tokens


@keras.saving.register_keras_serializable("test_user_mixer")
class Shift(keras.layers.Layer):
    """Only `call`: each token becomes the token before it."""

    mixes = frozenset({"tokens"})
    role = "shift"

    def call(self, x):
        return ops.roll(x, 1, axis=1)


@keras.saving.register_keras_serializable("test_user_mixer")
class ShiftedDense(keras.layers.Layer):
    """A layer inside, and neither `build` nor `compute_output_shape`."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.dense = keras.layers.Dense(8, name="dense")

    def call(self, x):
        return ops.roll(self.dense(x), 1, axis=1)


mixers = pytest.mark.parametrize("mixer", [Shift, ShiftedDense])


def tokens():
    return np.random.default_rng(0).normal(size=(2, 6, 8)).astype("float32")


@mixers
@pytest.mark.parametrize("shape", [(6, 8), (None, 8)])
def test_residual_of_user_mixer_is_symbolic(mixer, shape):
    assert layers.Residual(mixer())(keras.Input(shape)).shape == (None, *shape)


@mixers
def test_residual_of_user_mixer_computes_eagerly(mixer):
    x = tokens()
    layer = layers.Residual(mixer())
    y = ops.convert_to_numpy(layer(x))
    normal = ops.convert_to_numpy(layer.norm(x))
    np.testing.assert_allclose(y, x + ops.convert_to_numpy(layer.mixer(normal)), atol=1e-6)
    assert np.abs(y - x).max() > 0.1


@mixers
@pytest.mark.parametrize("checkpointing", [False, True])
def test_residual_of_user_mixer_is_saved(mixer, checkpointing, tmp_path):
    inputs = keras.Input((6, 8))
    layer = layers.Residual(mixer(), layer_scale_init=0.5, gradient_checkpointing=checkpointing)
    model = keras.Model(inputs, layer(inputs))
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(
        ops.convert_to_numpy(loaded(tokens())), ops.convert_to_numpy(model(tokens()))
    )
    for weight, expected in zip(loaded.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(weight, expected)


def test_residual_builds_user_mixer_inside_its_name_scope():
    layer = layers.Residual(ShiftedDense(name="mixer"), name="residual")
    layer(tokens())
    paths = {weight.path for weight in layer.mixer.weights}
    assert paths == {"residual/mixer/dense/kernel", "residual/mixer/dense/bias"}


def test_mixes_tokens_reads_class_attribute():
    assert mixes_tokens(Shift())
    assert mixes_tokens(layers.MultiHeadSelfAttention(2))
    assert not mixes_tokens(layers.ChannelMixing(8))
    assert not mixes_tokens(keras.layers.Dense(8))  # a plain Keras layer declares nothing


def test_residual_takes_keras_convolution():
    """Keras's Conv1D has an attribute `rank`, which does not count the axes of its input."""
    layer = layers.Residual(keras.layers.Conv1D(8, 3, padding="same"))
    assert layer(keras.Input((6, 8))).shape == (None, 6, 8)

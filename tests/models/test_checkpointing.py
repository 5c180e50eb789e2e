"""Gradient checkpointing changes what training stores, and not what training computes."""

import keras
import numpy as np
import pytest
from backends import ON_JAX, gradients
from cases import case as model_case
from keras import ops

import keras_mixers as km

# On JAX, one model with a `Residual` and a `ConvMixerBlock`, because JAX compiles each model.
CASES = ["hybrid_CM"] if ON_JAX else ["hybrid_MMA", "conv_mixer"]
# Not eager on JAX, because JAX compiles each operation of an eager step, which takes minutes.
WAYS = ["compiled"] if ON_JAX else ["compiled", "eager"]


def trained(case_id, checkpointing, **compiling):
    """The losses of three training steps, and all weights after them."""
    case = model_case(case_id)
    keras.utils.set_random_seed(0)
    more = {} if case_id == "conv_mixer" else {"stochastic_depth_rate": 0.2}
    model = case.make(gradient_checkpointing=checkpointing, **more)
    model.compile(
        keras.optimizers.SGD(0.1),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        **compiling,
    )
    images, labels = case.images(8), np.arange(8) % 5
    losses = [model.train_on_batch(images, labels) for _ in range(3)]
    return losses, {weight.path: ops.convert_to_numpy(weight.value) for weight in model.weights}


@pytest.mark.parametrize("how", WAYS)
@pytest.mark.parametrize("case_id", CASES)
@pytest.mark.slow
def test_checkpointing_keeps_training_the_same(case_id, how):
    """Gradients, dropped branches and moving averages (updated once a step) are equal."""
    compiling = {"run_eagerly": True} if how == "eager" else {"jit_compile": "auto"}
    losses, weights = trained(case_id, False, **compiling)
    found_losses, found = trained(case_id, True, **compiling)
    np.testing.assert_allclose(found_losses, losses, rtol=1e-5)
    for path, expected in weights.items():
        np.testing.assert_allclose(found[path], expected, atol=1e-5, err_msg=path)


def test_checkpointing_keeps_half_precision_the_same():
    keras.config.set_dtype_policy("mixed_bfloat16")
    losses, _ = trained("conv_mixer", False)
    found, _ = trained("conv_mixer", True)
    np.testing.assert_allclose(found, losses, rtol=2e-3)


class Counting(keras.layers.Dense):
    """A mixer that counts its calls and records their `training` argument."""

    calls = 0

    def call(self, x, training=None):
        self.calls += 1
        self.last_training = training
        return super().call(x)


@pytest.mark.skipif(ON_JAX, reason="JAX traces a function once")
@pytest.mark.parametrize("checkpointing", [False, True])
def test_residual_recomputes_branch(checkpointing):
    mixer = Counting(6)
    layer = km.layers.Residual(mixer, gradient_checkpointing=checkpointing)
    x = np.random.RandomState(0).rand(2, 4, 6).astype("float32")
    layer(x)
    mixer.calls = 0
    plain = gradients(layer, x, training=False)
    once = mixer.calls
    found = gradients(layer, x, training=True)
    assert mixer.calls - once == once + checkpointing
    assert mixer.last_training is True, "the recomputed branch must be the one of training"
    for path, expected in plain.items():
        np.testing.assert_allclose(found[path], expected, atol=1e-5, err_msg=path)


def test_frozen_norms_use_moving_averages():
    block = km.layers.ConvMixerBlock(3, gradient_checkpointing=True)
    x = np.random.RandomState(0).rand(2, 4, 4, 6).astype("float32")
    block(x)
    block.norm1.trainable = block.norm2.trainable = False
    inference = ops.convert_to_numpy(block(x, training=False))
    frozen = ops.convert_to_numpy(block(x, training=True))
    np.testing.assert_allclose(frozen, inference, atol=1e-6)


def test_residual_refuses_mixer_with_state():
    mixer = km.layers.ChannelMixing(8, dropout_rate=0.1)
    with pytest.raises(ValueError, match="`gradient_checkpointing` must be False for a mixer with"):
        km.layers.Residual(mixer, gradient_checkpointing=True)(keras.Input((4, 6)))

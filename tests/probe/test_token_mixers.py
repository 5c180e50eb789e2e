"""Rollout and relevance refuse models with token mixers that they cannot follow."""

import keras
import numpy as np
import pytest
from cases import case
from keras import ops

import keras_mixers as km
from keras_mixers import layers, probe
from keras_mixers.layers.base import Layer as LayerBase
from keras_mixers.probe.token_mixers import other_token_mixers
from keras_mixers.visualize import views

IMAGES = np.random.default_rng(0).normal(size=(2, 4, 6, 2)).astype("float32")


class Shift(keras.layers.Layer):
    """A custom token mixer that does not declare what it mixes."""

    def call(self, x):
        return ops.roll(x, 1, axis=1)


class DeclaredShift(Shift):
    mixes = frozenset({"tokens"})


class DeclaredChannelShift(keras.layers.Layer):
    mixes = frozenset({"channels"})

    def call(self, x):
        return ops.roll(x, 1, axis=-1)


class DeclaredScale(keras.layers.Layer):
    """A custom layer that mixes neither tokens nor channels."""

    mixes = frozenset()

    def call(self, x):
        return 2 * x


class ShiftMixing(layers.ChannelMixing):
    """A subclass of a layer of the package, which inherits `mixes` and mixes tokens."""

    def call(self, x, training=None):
        return super().call(ops.roll(x, 1, axis=1), training=training)


class ShiftLayer(LayerBase):
    """A layer with the package's base class, whose `mixes` is empty."""

    def call(self, x):
        return ops.roll(x, 1, axis=1)


class ShiftAttention(layers.MultiHeadSelfAttention):
    def call(self, x, training=None):
        return super().call(ops.roll(x, 1, axis=1), training=training)


class DeclaredMixing(layers.ChannelMixing):
    mixes = frozenset({"channels"})


class ShiftDense(keras.layers.Dense):
    """A subclass of a tokenwise Keras layer that mixes tokens."""

    def call(self, x):
        return super().call(ops.roll(x, 1, axis=1))


def classifier(between=lambda x: x, before=lambda x: x, head=lambda x: x):
    """A model of 2 x 3 patches and one attention layer; the arguments add layers around it."""
    images = keras.Input((4, 6, 2))
    x = between(layers.PatchEmbed(16, 2)(before(images)))
    x = layers.Residual(layers.MultiHeadSelfAttention(2), name="attention")(x)
    x = keras.layers.GlobalAveragePooling1D()(x)
    return keras.Model(images, keras.layers.Dense(3)(head(x)), name="classifier")


def in_residual(*mixers):
    return layers.Residual(mixers[0] if len(mixers) == 1 else keras.Sequential(mixers))


def grid_and_back(x):
    return keras.layers.Reshape((6, 16))(ops.gelu(keras.layers.Reshape((2, 3, 16))(x)))


def with_class_token(x):
    return keras.layers.Concatenate(axis=1)([0.0 * x[:, :1], x])


def shift_by_slices(x):
    return keras.layers.Concatenate(axis=1)([x[:, 1:], x[:, :1]])


def mix_with_neighbour(x):
    """The token shift of RWKV: half of the channels come from the previous token."""
    previous = ops.concatenate([0.0 * x[:, :1], x[:, :-1]], axis=1)
    return keras.layers.Concatenate(axis=-1)([x[..., :8], previous[..., 8:]])


def shift_in_mixer(x):
    inputs = keras.Input((6, 16))
    return layers.Residual(keras.Model(inputs, shift_by_slices(inputs), name="mixer"))(x)


def squeeze_and_excite(x):
    gates = keras.layers.Dense(16, "sigmoid")(keras.layers.GlobalAveragePooling1D()(x))
    return keras.layers.Multiply()([x, keras.layers.Reshape((1, 16))(gates)])


def excite_by_two_pools(x):
    pools = [keras.layers.GlobalAveragePooling1D()(x), keras.layers.GlobalMaxPooling1D()(x)]
    gates = keras.layers.Dense(16, "sigmoid")(keras.layers.Concatenate()(pools))
    return keras.layers.Multiply()([x, keras.layers.Reshape((1, 16))(gates)])


@pytest.mark.parametrize(
    "between",
    [
        in_residual(keras.layers.Dense(16)),
        in_residual(keras.layers.Dense(8, activation="gelu"), keras.layers.Dense(16)),
        in_residual(layers.ChannelMixing(8)),
        in_residual(DeclaredChannelShift()),
        in_residual(DeclaredMixing(8)),
        DeclaredChannelShift(),
        DeclaredScale(),
        layers.LayerScale(),
        keras.layers.Dense(16),
        keras.layers.Activation("gelu"),
        keras.layers.Dropout(0.5),
        keras.layers.Identity(),
        keras.layers.LayerNormalization(),
        keras.layers.BatchNormalization(),
        lambda x: x + 2 * ops.gelu(x),
        lambda x: keras.layers.Add()([x, keras.layers.Dense(16)(x)]),
        grid_and_back,
        with_class_token,
        lambda x: with_class_token(x)[:, 1:],
        lambda x: keras.layers.Cropping1D((1, 0))(with_class_token(x)),
    ],
)
def test_rollout_accepts_layers_that_keep_tokens_apart(between):
    model = classifier(between)
    maps = km.attention_maps(model, IMAGES)
    rollout, relevance = km.attention_rollout(model, IMAGES), probe.relevance(model, IMAGES, 0)
    assert rollout.shape == relevance.shape == (2, 2, 3)
    tokens = maps["attention"].shape[-1]
    mean = (maps["attention"].mean(axis=1) + np.eye(tokens)) / 2
    np.testing.assert_allclose(rollout.reshape(2, 6), mean[:, -6:, -6:].mean(axis=1), atol=1e-6)


@pytest.mark.parametrize(
    ("between", "named", "hint"),
    [
        (in_residual(Shift()), r"residual\w* \(Shift\)", True),
        (in_residual(Shift(), keras.layers.Dense(16)), r"residual\w* \(Sequential\)", False),
        (in_residual(ShiftMixing(8)), r"residual\w* \(ShiftMixing\)", True),
        (in_residual(ShiftLayer()), r"residual\w* \(ShiftLayer\)", True),
        (ShiftLayer(name="shift"), r"shift \(ShiftLayer\)", True),
        (in_residual(DeclaredShift()), r"residual\w* \(DeclaredShift\)", False),
        (
            in_residual(keras.layers.AveragePooling1D(3, strides=1, padding="same")),
            r"residual\w* \(AveragePooling1D\)",
            False,
        ),
        (Shift(name="shift"), r"shift \(Shift\)", True),
        (DeclaredShift(), r"\(DeclaredShift\)", False),
        (ShiftDense(16), r"\(ShiftDense\)", True),
        (keras.layers.LayerNormalization(axis=1), r"\(LayerNormalization\)", False),
        (keras.layers.Permute((1, 2)), r"\(Permute\)", False),
        (keras.layers.Conv1D(16, 3, padding="same"), r"\(Conv1D\)", False),
        (lambda x: keras.layers.MultiHeadAttention(2, 8)(x, x), r"\(MultiHeadAttention\)", False),
        (lambda x: ops.roll(x, 1, axis=1), r"\(Roll\)", False),
        (lambda x: x[:, ::-1], r"\(GetItem\)", False),
        (lambda x: x + x[:, :1], r"\(Add\)", False),
        (lambda x: keras.layers.Reshape((6, 16))(ops.reshape(x, (-1, 96))), r"\(Reshape\)", False),
        (shift_by_slices, r"attention \(MultiHeadSelfAttention\)", False),
        (mix_with_neighbour, r"\(Concatenate\)", False),
        (shift_in_mixer, r"residual\w* \(Functional\)", False),
        (lambda x: with_class_token(x)[:, :-1], r"attention \(MultiHeadSelf", False),
        (squeeze_and_excite, r"\(GlobalAveragePooling1D\).*\(Multiply\)", False),
        (excite_by_two_pools, r"\(GlobalMaxPooling1D\).*\(Multiply\)", False),
    ],
)
def test_rollout_refuses_layers_that_may_mix_tokens(between, named, hint):
    model = classifier(between)
    message = rf"layers=None for 'classifier' with .*{named}.*layers=\['attention'\] follows"
    for function in (km.attention_rollout, probe.relevance):
        with pytest.raises(ValueError, match=message) as refused:
            function(model, IMAGES)
        declaration = 'class attribute: mixes = frozenset({"tokens"}) or mixes = frozenset({"chan'
        assert (declaration in str(refused.value)) == hint
        assert function(model, IMAGES, layers="attention").shape == (2, 2, 3)
    shown, _ = views.views_of(model, IMAGES, None, ["class 0", "class 1"])
    assert [view["name"] for view in shown] == ["attention"]


def test_rollout_refuses_attention_with_another_call():
    images = keras.Input((4, 6, 2))
    x = layers.Residual(ShiftAttention(2), name="attention")(layers.PatchEmbed(16, 2)(images))
    x = keras.layers.GlobalAveragePooling1D()(x)
    model = keras.Model(images, keras.layers.Dense(3)(x), name="classifier")
    for function in (km.attention_rollout, probe.relevance):
        with pytest.raises(ValueError, match=r"with attention \(ShiftAttention\)"):
            function(model, IMAGES)
        assert function(model, IMAGES, layers="attention").shape == (2, 2, 3)


def test_rollout_ignores_layers_outside_the_token_stream():
    model = classifier(before=Shift(), head=Shift())
    assert km.attention_rollout(model, IMAGES).shape == (2, 2, 3)


@pytest.mark.parametrize("letter", km.models.mixers.LETTERS)
def test_other_token_mixers_finds_every_letter(letter):
    arguments = {"kernel_size": 3, **case("hybrid_MMA").arguments}
    model = case("hybrid_MMA").builder(f"A{letter}", **{**arguments, "input_shape": (8, 12, 2)})
    others = other_token_mixers(model, ["block_0_attention"])
    assert [name.split("_")[1] for name in others] == ["1"]

"""Which weights get a role: the mixers of the package, and mixers that a user writes."""

import goldens
import keras
import numpy as np
import pytest

import keras_mixers as km
from keras_mixers.weights.roles import index_weights

VIT = "timm_vit.safetensors"


class Shift(keras.layers.Layer):
    """A user's token mixer: shift by one token and add a learned offset."""

    mixes = frozenset(["tokens"])
    role = "shift"

    def build(self, x_shape):
        self.offset = self.add_weight(shape=(x_shape[-1],), name="offset")

    def call(self, x):
        return keras.ops.roll(x, 1, axis=1) + self.offset


class Gate(keras.layers.Layer):
    """A user's channel mixer."""

    mixes = frozenset(["channels"])
    role = "gate"

    def build(self, x_shape):
        self.dense = keras.layers.Dense(x_shape[-1], name="dense")
        self.dense.build(x_shape)

    def call(self, x):
        return x * self.dense(x)


class ShiftAndScale(Shift):
    """A user's mixer of tokens and channels: a whole block in one Residual."""

    mixes = frozenset(["tokens", "channels"])


class Undeclared(keras.layers.Layer):
    """A plain Keras layer, without `mixes` and `role`."""

    def call(self, x):
        return keras.ops.roll(x, 1, axis=1)


class DeclaredInPart(Undeclared):
    mixes = frozenset(["tokens"])


class OtherAttention(km.layers.MultiHeadSelfAttention):
    """A user's subclass of attention, with the same weights."""


def model_of(*mixers):
    return keras.Sequential(
        [
            keras.Input((32, 32, 3)),
            km.layers.PatchEmbed(64, 8),
            *(
                km.layers.Residual(mixer, name=f"residual_{index}")
                for index, mixer in enumerate(mixers)
            ),
            keras.layers.LayerNormalization(),
            keras.layers.GlobalAveragePooling1D(),
            keras.layers.Dense(10, name="head"),
        ]
    )


def of_users():
    """A model with two mixers of a user and two of the package."""
    return model_of(
        Shift(), km.layers.ChannelMixing(96), km.layers.MultiHeadSelfAttention(4), Gate()
    )


def test_index_weights_gives_user_mixers_roles():
    backbone = index_weights(of_users())
    assert backbone.mixers == ["shift", "attention"]
    assert not backbone.unmatched
    assert {
        "blocks.0.norm1.gamma",
        "blocks.0.shift.offset",
        "blocks.0.norm2.gamma",
        "blocks.0.channel_mixing.fc1.kernel",
        "blocks.1.attention.qkv.kernel",
        "blocks.1.gate.dense.kernel",
    } <= set(backbone.roles)


def test_index_weights_reads_user_whole_blocks():
    backbone = index_weights(model_of(ShiftAndScale(), Shift(), Gate()))
    assert backbone.mixers == ["shift", "shift"]
    assert "blocks.1.gate.dense.bias" in backbone.roles
    assert "blocks.0.norm2.gamma" not in backbone.roles


@pytest.mark.parametrize("mixer", [keras.layers.Dense, Undeclared, DeclaredInPart])
@pytest.mark.parametrize("position", ["first half", "second half"])
def test_index_weights_refuses_undeclared_mixers(mixer, position):
    layer = mixer(64) if mixer is keras.layers.Dense else mixer()
    before = [] if position == "first half" else [Shift()]
    message = f"declare what they mix and a role .*{mixer.__name__} in layer 'residual_.*mixes ="
    with pytest.raises(ValueError, match=message):
        index_weights(model_of(*before, layer))


def test_index_weights_refuses_two_token_mixers():
    with pytest.raises(ValueError, match="'residual_1' with Shift where .* mixes channels"):
        index_weights(model_of(Shift(), Shift()))


def test_save_weights_refuses_user_mixers_by_name(tmp_path):
    path = tmp_path / "w.safetensors"
    with pytest.raises(ValueError, match="`format`='timm' must have names.*attention, shift"):
        km.save_weights(of_users(), path, format="timm")
    own_gate = model_of(km.layers.MultiHeadSelfAttention(4), Gate())
    with pytest.raises(ValueError, match="timm ViT, which .*residual_1/gate.*/dense/kernel"):
        km.save_weights(own_gate, path, format="timm")
    assert not path.exists()


def test_load_weights_refuses_files_without_user_mixers():
    with pytest.raises(ValueError, match="these blocks: attention, shift.* a timm ViT file"):
        km.load_weights(of_users(), goldens.FOLDER / VIT)


def test_subclassed_mixers_round_trip_as_timm(tmp_path):
    model, same, other = (
        model_of(attention(4), km.layers.ChannelMixing(96))
        for attention in (OtherAttention, OtherAttention, km.layers.MultiHeadSelfAttention)
    )
    path = km.save_weights(model, tmp_path / "w.safetensors", format="timm")
    images = np.random.default_rng(0).normal(size=(2, 32, 32, 3)).astype("float32")
    for loaded in (same, other):
        report = km.load_weights(loaded, path, head="keep")
        assert report.loaded == len(loaded.weights)
        np.testing.assert_array_equal(loaded(images), model(images))


@pytest.mark.parametrize("file", ["model.keras", "model.weights.h5"])
def test_keras_files_load_with_user_mixers(file, tmp_path):
    source, model = of_users(), of_users()
    (source.save if file.endswith("keras") else source.save_weights)(tmp_path / file)
    km.load_weights(model, tmp_path / file)
    for one, other in zip(source.weights, model.weights, strict=True):
        np.testing.assert_array_equal(one.numpy(), other.numpy(), err_msg=one.path)


def test_users_whole_block_gets_roles():
    """A layer outside a Residual that mixes tokens and channels is a block like ConvMixerBlock."""

    class Block(keras.layers.Layer):
        mixes = frozenset({"tokens", "channels"})
        role = "my_block"

        def build(self, x_shape):
            self.shift = self.add_weight(shape=x_shape[-1:], name="shift")

        def call(self, x):
            return keras.ops.roll(x, 1, axis=1) + self.shift

    images = keras.Input((8, 8, 3))
    x = km.layers.PatchEmbed(4, 4)(images)
    x = Block()(Block()(x))
    backbone = index_weights(keras.Model(images, x))
    assert backbone.mixers == ["my_block", "my_block"]
    assert "blocks.1.my_block.shift" in backbone.roles

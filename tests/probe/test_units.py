"""Hidden units, filters and features equal the values read from the model by hand."""

import keras
import numpy as np
import pytest
from cases import case, random_weights
from keras import ops

import keras_mixers as km
from keras_mixers import layers, probe


@pytest.fixture(scope="module")
def mixer():
    return random_weights(case("mlp_mixer").make()), case("mlp_mixer").images()


def weight(model, path):
    (found,) = [weight for weight in model.weights if weight.path.endswith(path)]
    return np.array(found)


def test_token_mixing_units_are_columns_of_fc1(mixer):
    model, _ = mixer
    units = km.token_mixing_units(model)
    assert list(units) == ["block_0_token_mixing", "block_1_token_mixing"]
    for name, maps in units.items():
        kernel = weight(model, f"{name}/token_mixing/fc1/kernel")  # (6 patches, 10 units)
        assert maps.shape == (10, 2, 3)
        for unit in range(10):
            np.testing.assert_array_equal(maps[unit].ravel(), kernel[:, unit])
    assert list(km.token_mixing_units(model, 1)) == ["block_1_token_mixing"]


def mixer_input(model, name, images):
    """A Residual layer, and the input of its mixer."""
    layer = model.get_layer(name)
    return layer, layer.norm(keras.Model(model.input, layer.input)(images))


def test_token_mixing_activations_equal_fc1_and_gelu(mixer):
    model, images = mixer
    found = probe.token_mixing_activations(model, images, "block_1_token_mixing")
    layer, x = mixer_input(model, "block_1_token_mixing", images)
    kernel, bias = np.array(layer.mixer.fc1.kernel), np.array(layer.mixer.fc1.bias)
    linear = np.einsum("ntd,tu->nud", np.array(x), kernel) + bias[:, None]
    expected = keras.activations.gelu(ops.convert_to_tensor(linear), approximate=False)
    np.testing.assert_allclose(found["block_1_token_mixing"], expected, atol=1e-5)


def test_channel_mixing_activations_equal_fc1_and_gelu(mixer):
    model, images = mixer
    found = probe.channel_mixing_activations(model, images, -1)
    layer, x = mixer_input(model, "block_1_channel_mixing", images)
    kernel, bias = np.array(layer.mixer.fc1.kernel), np.array(layer.mixer.fc1.bias)
    linear = ops.convert_to_tensor(np.array(x) @ kernel + bias)
    expected = keras.activations.gelu(linear, approximate=False)
    np.testing.assert_allclose(found["block_1_channel_mixing"], expected, atol=1e-5)


def test_channel_mixing_activations_of_a_gated_mlp():
    x_in = keras.Input((3, 8))
    mixing = layers.ChannelMixing(5, activation="silu", gated=True)
    model = random_weights(keras.Model(x_in, mixing(x_in)))
    x = np.random.default_rng(0).normal(size=(2, 3, 8)).astype("float32")
    gate, value = np.split(np.array(mixing.fc1(x)), 2, axis=-1)
    (found,) = probe.channel_mixing_activations(model, x).values()
    np.testing.assert_allclose(found, gate / (1 + np.exp(-gate)) * value, atol=1e-5)


def test_features_equal_layer_outputs(mixer):
    model, images = mixer
    found = probe.features(model, images)
    residuals = [f"block_{i}_{axis}_mixing" for i in range(2) for axis in ("token", "channel")]
    assert list(found) == residuals
    found |= probe.features(model, images, ["pool", "head", "norm"], batch_size=3)
    for name, array in found.items():
        expected = keras.Model(model.input, model.get_layer(name).output)(images)
        np.testing.assert_allclose(array, expected, atol=1e-5, err_msg=name)
    assert list(probe.features(model, images, -1)) == residuals[-1:]
    with pytest.raises(ValueError, match="'block_0_token_mixin'. Did you mean 'block_0_token_mix"):
        probe.features(model, images, "block_0_token_mixin")


def test_features_of_a_conv_mixer_are_a_grid():
    model, images = case("conv_mixer").make(), case("conv_mixer").images()
    found = probe.features(model, images, 0)
    assert {name: array.shape for name, array in found.items()} == {
        "block_0_conv_mixer": (4, 4, 6, 16)
    }


def test_depthwise_kernels_equal_the_weights():
    model = random_weights(case("conv_mixer").make(kernel_size=(3, 5)))
    found = probe.depthwise_kernels(model)
    assert list(found) == ["block_0_conv_mixer", "block_1_conv_mixer"]
    kernel = weight(model, "block_1_conv_mixer/depthwise/kernel")
    for channel in range(16):
        expected = kernel[:, :, channel, 0]
        np.testing.assert_array_equal(found["block_1_conv_mixer"][channel], expected)


def test_patch_filters_equal_the_projection_kernel():
    model = random_weights(case("vit").make())
    filters = probe.patch_filters(model)
    assert filters.shape == (16, 4, 4, 2)
    kernel = weight(model, "patch_embed/projection/kernel")
    np.testing.assert_array_equal(filters[3], kernel[..., 3])


def test_position_similarity_is_cosine_similarity():
    model = random_weights(case("vit").make())
    found = probe.position_similarity(model)
    table = weight(model, "position_embedding/table")[0, 1:]
    one, other = table[4], table[2]
    expected = one @ other / np.linalg.norm(one) / np.linalg.norm(other)
    assert found[1, 1, 0, 2] == pytest.approx(expected, abs=1e-6)
    np.testing.assert_allclose(np.einsum("ijij->ij", found), 1, atol=1e-6)
    sines = probe.position_similarity(case("vit_gap").make())
    assert sines[0, 0, 0, 1] > sines[0, 0, 0, 2]
    zeros = case("vit").make()
    zeros.get_layer("position_embedding").table.assign(np.zeros((1, 7, 16)))
    assert not probe.position_similarity(zeros).any()


@pytest.mark.parametrize(
    ("function", "name", "kind"),
    [
        (km.token_mixing_units, "vit", "TokenMixing"),
        (probe.depthwise_kernels, "vit", "ConvMixerBlock"),
        (probe.position_similarity, "mlp_mixer", "PositionEmbedding"),
        (lambda m: probe.channel_mixing_activations(m, 0), "conv_mixer", "ChannelMixing"),
    ],
)
def test_probes_refuse_a_model_without_the_layer(function, name, kind):
    with pytest.raises(ValueError, match=f"`model` must have a {kind} layer. Received: '{name}'"):
        function(case(name).make())

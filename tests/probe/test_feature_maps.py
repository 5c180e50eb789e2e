"""`km.feature_maps`: the values of the model's blocks, in a model that trains and saves."""

import pathlib

import goldens
import keras
import numpy as np
import pytest
import towers
from backends import compute
from cases import case, random_weights
from keras import ops

import keras_mixers as km
from keras_mixers import layers

GOLDEN = pathlib.Path(__file__).parent / "golden" / "feature_maps.npz"


def stream_after(model, layer, images):
    """The output of one layer, computed by a model without feature maps."""
    return np.array(keras.Model(model.input, model.get_layer(layer).output)(images))


def assert_close(found, expected, atol=1e-6):
    found, expected = ops.convert_to_numpy(found), ops.convert_to_numpy(expected)
    np.testing.assert_allclose(found, expected, rtol=0, atol=atol)


@pytest.mark.parametrize(
    ("name", "last"),
    [
        ("timm_vit_rectangular", 2),
        pytest.param("timm_vit_registers_layerscale_gap", 1, marks=pytest.mark.backends),
    ],
)
def test_feature_maps_equal_those_of_timm(name, last):
    """timm 1.0.31 computed the file by `forward_intermediates(return_prefix_tokens=True)`."""
    model = goldens.make(f"{name}.safetensors")
    km.load_weights(model, goldens.FOLDER / f"{name}.safetensors")
    images = goldens.answers(name)["image"][:2]
    with np.load(GOLDEN) as expected:
        for norm in (False, True):
            maps = km.feature_maps(model, (0, last), norm=norm, prefix_tokens=True)
            for i, (grid, prefix) in zip((0, last), compute(maps, images), strict=True):
                key = f"{name}.block_{i}" + norm * ".norm"
                assert_close(grid, expected[key], atol=1e-5)
                assert_close(prefix, expected[f"{key}.prefix"], atol=1e-5)


@pytest.mark.parametrize("name", ["aimv2", "dinov2_reg4", "dinov3", "internvit"])
def test_last_map_of_a_backbone_equals_that_of_timm(name):
    """AIMv2 has RMSNorm, DINOv3 has rotary attention, and InternViT has no final norm."""
    model = towers.make(name)
    km.load_weights(model, towers.path(name))
    with np.load(towers.FOLDER / f"{name}.io.npz") as file:
        found = km.feature_maps(model)(file["image"])
        assert_close(found, file["tokens"][:, -16:].reshape(found.shape), atol=1e-5)


@pytest.mark.parametrize(
    "name",
    ["deit_distilled", "vit_map", "vit_registers", "mlp_mixer", "conv_mixer", "hybrid_CA"],
)
def test_feature_maps_are_the_streams_after_the_blocks(name):
    model, images = random_weights(case(name).make()), case(name).images(2)
    residuals = [layer.name for layer in model.layers if layer.name.startswith("block_")]
    blocks = sorted({int(name.split("_")[1]) for name in residuals})
    maps = km.feature_maps(model, blocks, norm=False)(images)
    assert len(maps) == len(blocks) > 1
    for i, found in zip(blocks, maps, strict=True):
        last = [residual for residual in residuals if residual.startswith(f"block_{i}_")][-1]
        stream = stream_after(model, last, images)
        rows, columns = found.shape[1:3]
        assert (rows, columns) == ((4, 6) if name == "conv_mixer" else (2, 3))
        patches = stream.reshape(2, -1, stream.shape[-1])[:, -rows * columns :]
        assert_close(found, patches.reshape(2, rows, columns, -1))


@pytest.mark.parametrize(
    ("name", "is_normalized"),
    [
        ("vit_gap", True),
        ("mlp_mixer", True),
        ("hybrid_CM", True),
        ("vit_registers", False),  # its norm follows the pooling
        ("conv_mixer", False),  # its blocks end with a norm
    ],
)
def test_last_map_is_what_the_head_reads(name, is_normalized):
    model, images = random_weights(case(name).make()), case(name).images(2)
    found = np.array(km.feature_maps(model)(images))
    pooled = found.mean(axis=(1, 2))
    if name == "vit_registers":
        pooled = model.get_layer("norm")(pooled)
    assert_close(model.get_layer("head")(pooled), model(images), atol=1e-5)
    raw = km.feature_maps(model, norm=False)(images)
    assert np.allclose(found, raw) != is_normalized


def assembled(after_blocks):
    """A model by hand: an attention block, then a mixer that declares nothing, then an MLP."""
    images = keras.Input((8, 12, 2))
    x = layers.PatchEmbed(16, 4)(images)
    x = layers.PrefixTokens(class_token=False, num_registers=2)(x)
    x = layers.Residual(layers.MultiHeadSelfAttention(2), name="attention")(x)
    x = layers.Residual(layers.ChannelMixing(24), name="mlp_0")(x)
    x = layers.Residual(keras.layers.Conv1D(16, 3, padding="same"), name="conv")(x)
    x = layers.Residual(keras.layers.Dense(16), name="dense")(x)
    x = layers.Residual(layers.ChannelMixing(24), name="mlp_1")(x)
    x = after_blocks(x)
    x = keras.layers.RMSNormalization(name="last_norm")(x)
    x = keras.layers.LayerNormalization(name="norm_of_the_head")(x)
    x = keras.layers.GlobalAveragePooling1D()(x)
    return random_weights(keras.Model(images, keras.layers.Dense(3)(x)))


def test_feature_maps_of_a_model_by_hand():
    model, images = assembled(keras.layers.Dropout(0.1)), case("vit").images(2)
    first, last = km.feature_maps(model, (0, 1), norm=False)(images)
    assert_close(first, stream_after(model, "mlp_0", images)[:, 2:].reshape(2, 2, 3, 16))
    assert_close(last, stream_after(model, "mlp_1", images)[:, 2:].reshape(2, 2, 3, 16))
    with pytest.raises(ValueError, match="`blocks` must be .* from 0 to 1 or"):
        km.feature_maps(model, 2)
    normalized = km.feature_maps(model, -1)(images)
    assert_close(normalized, stream_after(model, "last_norm", images)[:, 2:].reshape(2, 2, 3, 16))


def test_norm_of_other_features_is_not_the_final_norm():
    model, images = assembled(keras.layers.Dense(16)), case("vit").images(2)
    expected = stream_after(model, "mlp_1", images)[:, 2:].reshape(2, 2, 3, 16)
    assert_close(km.feature_maps(model)(images), expected)


def test_feature_maps_of_nested_models():
    """Blocks are in two nested models, and the norm is in a third one after them."""
    flat = random_weights(case("hybrid_CM").make())
    images = case("hybrid_CM").images(2)
    expected = compute(km.feature_maps(flat, (0, 1)), images / 2)

    def part(first, last, name):
        return keras.Model(flat.get_layer(first).output, flat.get_layer(last).output, name=name)

    blocks = keras.Sequential(
        [
            keras.Model(flat.input, flat.get_layer("block_0_conv_mixer").output, name="first"),
            part("block_0_conv_mixer", "block_1_channel_mixing", "second"),
        ],
        name="blocks",
    )
    outer = keras.Sequential(
        [
            keras.Input((8, 12, 2)),
            keras.layers.Rescaling(0.5),
            blocks,
            part("block_1_channel_mixing", "head", "head_model"),
            keras.layers.Dense(2),
        ]
    )
    maps = km.feature_maps(outer, (0, 1))
    for found, grid in zip(compute(maps, images), expected, strict=True):
        assert_close(found, grid, atol=1e-5)
    names = [layer.name for layer in maps.layers]
    assert names.count("block_0_conv_mixer") == 1, "each block is computed once"
    assert not any(isinstance(layer, keras.Model) for layer in maps.layers)


def test_feature_maps_in_order_with_prefix_tokens():
    model, images = random_weights(case("vit").make()), case("vit").images(2)
    stream = stream_after(model, "block_0_channel_mixing", images)
    maps = km.feature_maps(model, [-1, 0], norm=False, prefix_tokens=True)
    _, (grid, prefix) = maps(images)
    assert_close(prefix, stream[:, :1])
    assert_close(grid, stream[:, 1:].reshape(2, 2, 3, 16))
    one, prefix = km.feature_maps(model, -2, norm=False, prefix_tokens=True)(images)
    assert_close(one, grid, atol=0)
    assert_close(prefix, stream[:, :1])


def test_head_on_feature_maps_trains_what_is_not_frozen():
    model, images = random_weights(case("vit").make()), case("vit").images(4)
    head = keras.layers.Conv2D(3, 1, name="segment")
    maps = km.feature_maps(model, 0)
    labels = np.random.default_rng(0).integers(0, 3, (4, 2, 3))

    def changed_by_training():
        before = {weight.path: np.array(weight) for weight in whole.weights}
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        whole.compile("sgd", loss, jit_compile=False)
        whole.fit(images, labels, epochs=1, verbose=0)
        paths = [w.path for w in whole.weights if np.abs(np.array(w) - before[w.path]).max() > 0]
        return {path.split("/")[0] for path in paths}

    whole = keras.Model(maps.input, head(maps.output))
    model.trainable = False
    assert changed_by_training() == {"segment"}
    model.trainable = True
    trained = changed_by_training()
    assert {"segment", "patch_embed", "block_0_attention", "norm"} <= trained
    assert not {"block_1_attention", "head"} & trained
    assert_close(km.feature_maps(model, 0)(images), maps(images), atol=0)


@pytest.mark.parametrize("name", ["vit", "hybrid_CA"])
def test_feature_maps_save_and_load(name, tmp_path):
    prefix = name == "vit"
    maps = km.feature_maps(random_weights(case(name).make()), (0, 1), prefix_tokens=prefix)
    maps.save(tmp_path / "maps.keras")
    loaded = keras.models.load_model(tmp_path / "maps.keras")
    images = case(name).images(2)
    for found, expected in zip(
        keras.tree.flatten(loaded(images)), keras.tree.flatten(maps(images)), strict=True
    ):
        assert_close(found, expected, atol=0)
    again = km.feature_maps(loaded, (0, 1), norm=False)
    assert [tuple(shape) for shape in again.output_shape] == [(None, 2, 3, 16)] * 2


def test_feature_maps_have_the_dtype_of_the_model():
    model = case("vit").make(dtype="mixed_bfloat16")
    assert {output.dtype for output in km.feature_maps(model, (0, 1)).outputs} == {"bfloat16"}


def no_blocks():
    images = keras.Input((8, 12, 2))
    return keras.Model(images, layers.PatchEmbed(16, 4)(images))


def two_stems():
    images = keras.Input((8, 12, 2))
    streams = [layers.Residual(layers.ChannelMixing(8))(layers.PatchEmbed(8, 4)(images))] * 2
    streams += [layers.PatchEmbed(8, 4)(images)]
    return keras.Model(images, keras.layers.Add()(streams))


def equal_names():
    scale = keras.layers.Rescaling(2.0, name="norm")
    return keras.Sequential([keras.Input((8, 12, 2)), scale, case("vit").make()])


@pytest.mark.parametrize(
    ("make", "options", "message"),
    [
        (case("vit").make, {"blocks": 2}, "`blocks` must be .* from 0 to 1 or from -2 to -1,"),
        (case("vit").make, {"blocks": (0, -3)}, r"Received: blocks=\(0, -3\)"),
        (case("vit").make, {"blocks": (1, -1)}, "a sequence of different ones"),
        (case("vit").make, {"blocks": ()}, r"Received: blocks=\(\)"),
        (case("vit").make, {"blocks": True}, "Received: blocks=True"),
        (case("vit").make, {"blocks": "last"}, "Received: blocks='last'"),
        (case("vit").make, {"norm": 1}, "`norm` must be True or False"),
        (
            case("vit_gap").make,
            {"prefix_tokens": True},
            "`prefix_tokens` must be False",
        ),
        (equal_names, {}, '`model` must have layers of different names.*\'sequential.*"norm"'),
        (no_blocks, {}, "`model` must have blocks"),
        (two_stems, {}, "`model` must have one stream of tokens"),
        (lambda: keras.Sequential([keras.layers.Dense(2)]), {}, "functional or Sequential"),
        (lambda: keras.Sequential([keras.Input((2,)), keras.layers.Dense(2)]), {}, "a PatchEmbed"),
    ],
)
def test_feature_maps_refuse(make, options, message):
    with pytest.raises((ValueError, TypeError), match=message):
        km.feature_maps(make(), **options)

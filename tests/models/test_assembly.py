"""The layers, names, shapes and heads of models. They do not depend on the backend."""

import json
import pathlib

import keras
import numpy as np
import pytest
from cases import FAMILIES, MODELS, case as model_case, describe
from keras import ops

import keras_mixers as km

pytestmark = pytest.mark.one_backend("names, shapes and counts are the same on every backend")

HERE = pathlib.Path(__file__).parent
ids = pytest.mark.parametrize("case", MODELS, ids=lambda case: case.id)
families = pytest.mark.parametrize("case", FAMILIES, ids=lambda case: case.id)


def outputs(model, images):
    """The outputs of a model at inference."""
    return ops.convert_to_numpy(model(images, training=False))


@ids
def test_weight_paths_match_committed_files(case):
    # A changed line breaks users' saved files, so mention the change in the release notes.
    assert describe(case.make()) == (HERE / "paths" / f"{case.id}.txt").read_text()


@ids
def test_rebuilt_model_has_same_names(case):
    first, second = case.make(), case.make()
    assert describe(first) == describe(second)
    assert [layer.name for layer in first.layers] == [layer.name for layer in second.layers]


@ids
def test_no_layer_has_automatic_name(case):
    # So that Keras would number the next automatic name.
    keras.layers.Dense(1), keras.layers.LayerNormalization()
    for layer in case.make()._flatten_layers():
        automatic = keras.src.utils.naming.to_snake_case(type(layer).__name__)
        numbered = layer.name.removeprefix(automatic).lstrip("_").isdigit()
        assert not (layer.name.startswith(automatic) and numbered), layer.name


@ids
def test_model_config_survives_json(case):
    model = case.make()
    rebuilt = keras.Model.from_config(json.loads(json.dumps(model.get_config())))
    rebuilt.set_weights(model.get_weights())
    np.testing.assert_array_equal(outputs(model, case.images()), outputs(rebuilt, case.images()))


def test_model_without_classes_returns_features():
    for case in MODELS:
        if case.arguments.get("pool", "gap") is not None:
            width = case.arguments.get("representation_size", 16)
            assert case.make(num_classes=0).output_shape == (None, width), case.id


@pytest.mark.parametrize(
    ("model", "tokens"),
    [
        (lambda **more: km.ViT("Ti/16", class_token=True, num_registers=2, **more), 9),
        (lambda **more: km.MLPMixer("S/16", **more), 6),
        (lambda **more: km.ConvMixer("768/32", **more), 6),
        (lambda **more: km.Hybrid("CM", **more), 6),
    ],
)
def test_pool_none_keeps_sequence(model, tokens):
    sizes = {"input_shape": (8, 12, 3), "patch_size": 4, "hidden_dim": 12, "pool": None}
    assert model(num_classes=0, **sizes).output_shape == (None, tokens, 12)
    assert model(num_classes=5, **sizes).output_shape == (None, tokens, 5)


@pytest.mark.parametrize("family", [km.MLPMixer, km.ConvMixer, km.Hybrid])
def test_pool_map_works_in_every_family(family):
    first = "MC" if family is km.Hybrid else next(iter(km.variants(family.__name__)))
    more = {} if family is km.Hybrid else {"depth": 1}
    model = family(first, input_shape=(28, 28, 1), patch_size=14, hidden_dim=24, pool="map", **more)
    assert model.get_layer("pool").num_heads == 1
    assert model.output_shape == (None, 1000)


def test_norm_after_pool_changes_output():
    case = MODELS[0]
    before, after = (case.make(pool="gap", norm_after_pool=after) for after in (False, True))
    after.set_weights(before.get_weights())
    images = case.images()
    assert np.abs(outputs(before, images) - outputs(after, images)).max() > 1e-3


def test_gap_leaves_out_prefix_tokens():
    case = model_case("vit_registers")
    model = case.make(num_classes=0)
    sequence = keras.Model(model.input, model.get_layer("block_1_channel_mixing").output)
    tokens = outputs(sequence, case.images())[:, 2:].mean(1)
    normed = ops.convert_to_numpy(model.get_layer("norm")(tokens))
    np.testing.assert_allclose(outputs(model, case.images()), normed, atol=1e-5)


def test_map_leaves_out_prefix_tokens():
    case = model_case("vit_map")
    model = case.make(num_classes=0, num_registers=2)
    tokens = keras.Model(model.input, model.get_layer("norm").output)(case.images())
    pooled = ops.convert_to_numpy(model.get_layer("pool")(tokens[:, 2:]))
    np.testing.assert_allclose(outputs(model, case.images()), pooled, atol=1e-5)


@families
def test_model_accepts_non_square_patches(case):
    patch = (4, 3)
    model = case.make(patch_size=patch)
    assert model.get_layer("patch_embed").projection.kernel.shape[:2] == patch
    images = case.images()
    assert outputs(model, images).shape == (4, 5)
    # The order of the pixels in a patch matters.
    assert np.abs(outputs(model, images) - outputs(model, images[:, :, ::-1])).max() > 1e-4
    with pytest.raises(ValueError, match=r"`patch_size` must.*\(3, 4\).*\(8, 12\)"):
        case.make(patch_size=(3, 4))


def test_distilled_logits_are_the_mean_of_two_heads():
    case = model_case("deit_distilled")
    model = case.make()
    sequence = keras.Model(model.input, model.get_layer("norm").output)(case.images())
    for i, name in enumerate(("pool", "pool_distillation")):
        pooled = keras.Model(model.input, model.get_layer(name).output)(case.images())
        np.testing.assert_array_equal(
            ops.convert_to_numpy(pooled), ops.convert_to_numpy(sequence)[:, i]
        )
    heads = [model.get_layer(name).output for name in ("head", "head_distillation")]
    both = keras.Model(model.input, heads)(case.images())
    mean = sum(ops.convert_to_numpy(logits) for logits in both) / 2
    np.testing.assert_allclose(outputs(model, case.images()), mean, atol=1e-6)


@pytest.mark.parametrize(
    ("pattern", "twin"),
    [
        (
            "AA",
            lambda **size: km.ViT("Ti/16", depth=2, num_heads=1, mlp_dim=64, pool="gap", **size),
        ),
        (
            "MM",
            lambda **size: km.MLPMixer(
                "S/16", depth=2, tokens_mlp_dim=8, channels_mlp_dim=64, **size
            ),
        ),
        ("CC", lambda **size: km.ConvMixer("1536/20", depth=2, kernel_size=5, **size)),
    ],
)
def test_hybrid_of_one_letter_equals_family(pattern, twin):
    size = {"input_shape": (8, 12, 3), "patch_size": 4, "hidden_dim": 16, "num_classes": 5}
    hybrid, model = km.Hybrid(pattern, **size), twin(**size)
    model.set_weights(hybrid.get_weights())
    images = np.random.default_rng(0).normal(size=(2, 8, 12, 3)).astype("float32")
    np.testing.assert_array_equal(outputs(hybrid, images), outputs(model, images))


def test_stochastic_depth_grows_with_depth():
    model = km.ViT("Ti/16", input_shape=(32, 32, 3), depth=3, stochastic_depth_rate=0.2)
    rates = [model.get_layer(f"block_{i}_attention").stochastic_depth_rate for i in range(3)]
    np.testing.assert_allclose(rates, [0, 0.1, 0.2])


@pytest.mark.parametrize("dtype", ["int32", "bool", 3])
def test_builder_refuses_dtype_without_floats(dtype):
    with pytest.raises(ValueError, match=f"{dtype}"):
        km.ViT("Ti/16", input_shape=(32, 32, 3), depth=1, dtype=dtype)


@pytest.mark.parametrize("name", ["", "a/b", 3, None])
def test_builder_refuses_invalid_name(name):
    with pytest.raises(ValueError, match=f"`name` must.*{name!r}"):
        km.ViT("Ti/16", input_shape=(32, 32, 3), depth=1, name=name)


def test_distilled_logits_keep_full_precision():
    model = model_case("deit_distilled").make(dtype="mixed_float16")
    assert model.output.dtype == "float32"


def test_default_dtype_is_restored_after_error():
    with pytest.raises(ValueError, match="Unknown dtype|invalid|float17|not understood"):
        km.ViT("Ti/16", input_shape=(32, 32, 3), depth=1, dtype="float17")
    assert keras.config.dtype_policy().name == "float32"

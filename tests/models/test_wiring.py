"""Each argument of a builder reaches its layers, and the published rows have the right values."""

import inspect

import pytest
from cases import MODELS, case

import keras_mixers as km
from keras_mixers.layers import Rotary

pytestmark = pytest.mark.one_backend("arguments reach the layers on every backend alike")

ALL = {
    "input_shape": (8, 12, 2),
    "num_classes": 5,
    "patch_size": (4, 3),
    "hidden_dim": 16,
    "num_heads": 4,
    "mlp_dim": 24,
    "head_dim": 6,
    "qkv_bias": False,
    "qk_norm": True,
    "score": "dot",
    "activation": "relu",
    "epsilon": 1e-3,
    "layer_scale_init": 0.1,
    "dropout_rate": 0.1,
    "attention_dropout_rate": 0.2,
    "stochastic_depth_rate": 0.3,
}


def layer(model, path):
    """The layer at a path: `"block_0_attention.mixer"` is an attribute of a named layer."""
    name, *attributes = path.split(".")
    found = model.get_layer(name)
    for attribute in attributes:
        found = getattr(found, attribute)
    return found


def attributes(model, path, names):
    """`{name: value}` of a layer's attributes."""
    return {name: getattr(layer(model, path), name) for name in names}


ATTENTION = ("num_heads", "head_dim", "qkv_bias", "qk_norm", "score", "epsilon")


@pytest.mark.parametrize(
    "model",
    [
        lambda: km.ViT("Ti/16", depth=2, pool="map", **ALL),
        lambda: km.Hybrid("AA", pool="map", **ALL),
    ],
)
def test_attention_gets_every_argument(model):
    model = model()
    for i, rate in ((0, 0.0), (1, 0.3)):
        mixer = f"block_{i}_attention.mixer"
        names = (*ATTENTION, "dropout_rate", "attention_dropout_rate")
        assert attributes(model, mixer, names) == {name: ALL[name] for name in names}
        for half in (f"block_{i}_attention", f"block_{i}_channel_mixing"):
            assert attributes(
                model, half, ("stochastic_depth_rate", "layer_scale_init", "epsilon")
            ) == {"stochastic_depth_rate": rate, "layer_scale_init": 0.1, "epsilon": 1e-3}
        channels = layer(model, f"block_{i}_channel_mixing.mixer")
        assert (channels.mlp_dim, channels.dropout_rate) == (24, 0.1)
        assert channels.activation.__name__ == "relu"
    assert model.get_layer("patch_embed").patch_size == (4, 3)
    assert model.get_layer("position_dropout").rate == 0.1
    assert model.get_layer("norm").epsilon == 1e-3
    pool = model.get_layer("pool")
    assert (pool.num_heads, pool.mlp_dim, pool.epsilon) == (4, 24, 1e-3)
    assert pool.activation.__name__ == "relu"


def test_other_letters_get_every_argument():
    more = {name: ALL[name] for name in ALL if name not in ("num_heads", "head_dim")}
    model = km.Hybrid("MGPC", tokens_mlp_dim=10, kernel_size=(3, 2), **more)
    tokens = layer(model, "block_0_token_mixing.mixer")
    assert (tokens.tokens_mlp_dim, tokens.dropout_rate) == (10, 0.1)
    gate = layer(model, "block_1_spatial_gating.mixer")
    assert (gate.mlp_dim, gate.dropout_rate) == (24, 0.1)
    assert layer(model, "block_2_pool_mixing.mixer").grid == (2, 4)
    block = layer(model, "block_3_conv_mixer")
    assert (block.kernel_size, block.epsilon, block.momentum) == ((3, 2), 1e-5, 0.9)
    for each in (tokens, gate, block):
        assert each.activation.__name__ == "relu"


def test_other_families_get_every_argument():
    model = km.MLPMixer(
        "S/16",
        input_shape=(8, 12, 2),
        patch_size=4,
        depth=2,
        tokens_mlp_dim=10,
        channels_mlp_dim=24,
        activation="relu",
        epsilon=1e-3,
        layer_scale_init=0.1,
        dropout_rate=0.1,
        stochastic_depth_rate=0.3,
    )
    tokens = layer(model, "block_1_token_mixing.mixer")
    assert (tokens.tokens_mlp_dim, tokens.dropout_rate) == (10, 0.1)
    assert tokens.activation.__name__ == "relu"
    channels = layer(model, "block_1_channel_mixing.mixer")
    assert (channels.mlp_dim, channels.dropout_rate) == (24, 0.1)
    half = layer(model, "block_1_token_mixing")
    assert (half.stochastic_depth_rate, half.layer_scale_init, half.epsilon) == (0.3, 0.1, 1e-3)
    assert model.get_layer("norm").epsilon == 1e-3

    model = km.ConvMixer("1536/20", input_shape=(8, 12, 2), patch_size=2, hidden_dim=8, depth=1)
    for norm in (model.get_layer("stem_norm"), layer(model, "block_0_conv_mixer.norm2")):
        assert (norm.epsilon, norm.momentum) == (1e-5, 0.9)


# {argument: (another value than the builder's small model has, more arguments that it needs)}
CHANGES = {
    "input_shape": ((8, 8, 2), {}),
    "num_classes": (6, {}),
    "patch_size": ((2, 4), {}),
    "hidden_dim": (32, {}),
    "depth": (3, {}),
    "num_heads": (4, {}),
    "mlp_dim": (20, {}),
    "tokens_mlp_dim": (7, {}),
    "channels_mlp_dim": (20, {}),
    "kernel_size": (5, {}),
    "head_dim": (4, {}),
    "qkv_bias": (False, {}),
    "gated_mlp": (True, {}),
    "without_bias": (("key",), {}),
    "qk_norm": (True, {}),
    "score": ("dot", {}),
    "pool": ("map", {}),
    "pool_num_heads": (4, {"pool": "map"}),
    "pool_mlp_dim": (20, {"pool": "map"}),
    "pool_prefix": (True, {"pool": "map", "num_registers": 1}),
    "rotary": (Rotary(), {}),
    "normalization": ("rms", {}),
    "extra_norms": (("embeddings",), {}),
    "final_norm": (False, {}),
    "norm_after_pool": (True, {"pool": "gap"}),
    "representation_size": (7, {}),
    "position_embedding": ("sincos2d", {}),
    "position_prefix": (False, {}),
    "class_token": (True, {"pool": "gap"}),
    "distillation_token": (True, {}),
    "num_registers": (1, {}),
    "activation": ("silu", {}),
    "epsilon": (1e-3, {}),
    "layer_scale_init": (0.1, {}),
    "dropout_rate": (0.1, {}),
    "attention_dropout_rate": (0.1, {}),
    "stochastic_depth_rate": (0.1, {}),
    "gradient_checkpointing": (True, {}),
    "dtype": ("bfloat16", {}),
    "name": ("other", {}),
}
# The first argument chooses the small model, and tests/weights covers `weights`.
ELSEWHERE = {"variant", "pattern", "weights"}
BUILDERS = {model.builder: model for model in reversed(MODELS)}


@pytest.mark.parametrize(
    ("builder", "name"),
    [
        (builder, name)
        for builder in BUILDERS
        for name in inspect.signature(builder).parameters
        if name not in ELSEWHERE
    ],
)
def test_every_argument_changes_the_model(builder, name, abstract_weights):
    """So that a builder cannot drop an argument."""
    small = BUILDERS[builder]
    first = "AMC" if builder is km.Hybrid and name == "kernel_size" else small.variant
    value, more = CHANGES[name]
    arguments = {"input_shape": (8, 12, 2), "num_classes": 5, **small.arguments, **more}
    assert arguments.get(name) != value
    before = builder(first, **arguments).get_config()
    assert before == builder(first, **arguments).get_config()
    assert before != builder(first, **{**arguments, name: value}).get_config()


@pytest.mark.parametrize("case_id", ["mlp_mixer", "hybrid_MA"])
def test_pool_token_adds_class_token(case_id, abstract_weights):
    assert case(case_id).make(pool="token").get_layer("prefix_tokens").class_token


# Arguments that the number of parameters does not show.
HEADS = {
    "Ti/16": 3, "S/32": 6, "S/16": 6, "S/8": 6, "M/16": 8, "B/32": 12, "B/16": 12, "B/8": 12,
    "L/32": 16, "L/16": 16, "L/14": 16, "So400m/14": 16, "H/14": 16, "g/14": 16, "G/14": 16,
    "DeiT-Ti/16": 3, "DeiT-S/16": 6, "DeiT-B/16": 12, "DeiT-Ti/16-distilled": 3,
    "DeiT-S/16-distilled": 6, "DeiT-B/16-distilled": 12, "DeiT3-S/16": 6, "DeiT3-M/16": 8,
    "DeiT3-B/16": 12, "DeiT3-L/16": 16, "DeiT3-H/14": 16,
}  # fmt: skip
ACTIVATIONS = {
    "1536/20": "gelu", "768/32": "relu", "1024/20": "gelu", "1024/12": "gelu", "512/16": "gelu",
    "256/8-k5-p2": "gelu", "256/8-k9-p1": "gelu",
}  # fmt: skip


def test_average_leaves_out_the_prefix_tokens(abstract_weights):
    """A variant whose attention pooling reads them too has this average as any other."""
    model = km.ViT("PE-core-Ti/16", input_shape=(32, 48, 3), depth=1, pool="gap")
    assert model.get_layer("pool").input.shape == (None, 6, 192)


def test_variants_have_published_heads_and_activations():
    rows = km.variants("ViT")
    assert {name: rows[name]["num_heads"] for name in HEADS} == HEADS
    found = {name: row["activation"] for name, row in km.variants("ConvMixer").items()}
    assert found == ACTIVATIONS


def test_deit3_variants_have_layer_scale_without_position_prefix():
    for name, row in km.variants("ViT").items():
        if name.startswith("DeiT") or name in HEADS:
            deit3 = name.startswith("DeiT3")
            assert row["layer_scale_init"] == (1e-6 if deit3 else None)
            assert row["position_prefix"] is not deit3

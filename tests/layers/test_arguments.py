"""Invalid arguments and shapes raise an error that names them, before any weight exists."""

import keras
import pytest
from cases import FULL

from keras_mixers import layers

pytestmark = pytest.mark.one_backend("arguments are checked before a backend is called")


def random_function(x):
    return x


INTEGER = [0, -1, 1.5, "3", True, None, float("nan"), 2**40]
PAIR = [0, -1, 1.5, "3", True, float("nan"), 2**40, (2,), (2, 3, 4), (2, 0), (2, 1.5)]
RATE = [-0.1, 1, 1.5, "0.1", True, None, float("nan"), float("inf")]
REAL = [-1e-6, "1e-6", True, None, float("nan"), float("inf")]
FLAG = [0, 1, "True", None]
NAME = ["", "nonsense", 3, True]

BAD = {
    "hidden_dim": INTEGER,
    "patch_size": [*PAIR, None],
    "flatten": FLAG,
    "grid": PAIR,
    "num_prefix": [-1, 1.5, "3", True, None, 2**40],
    "kind": [*NAME, None, "learnt"],
    "class_token": FLAG,
    "distillation_token": FLAG,
    "num_registers": [-1, 1.5, "3", True, None, 2**40],
    "num_heads": INTEGER,
    "head_dim": [bad for bad in INTEGER if bad is not None],
    "qkv_bias": FLAG,
    "use_bias": FLAG,
    "key_bias": FLAG,
    "out_bias": FLAG,
    "inner_norm": FLAG,
    "normalization": [*NAME, None, "rmsnorm"],
    "rotary": ["dinov3", 100, True],
    "qk_norm": FLAG,
    "score": [*NAME, None, "scaled-dot"],
    "attention_dropout_rate": RATE,
    "dropout_rate": RATE,
    "epsilon": REAL,
    "mlp_dim": INTEGER,
    "tokens_mlp_dim": INTEGER,
    "activation": [*NAME, None, 3, "glu"],
    "gated": FLAG,
    "gradient_checkpointing": FLAG,
    "pool_size": [*PAIR, None],
    "kernel_size": [*PAIR, None],
    "momentum": RATE,
    "mixer": [None, "attention", len],
    "stochastic_depth_rate": RATE,
    "layer_scale_init": [bad for bad in REAL if bad is not None],
    "init": REAL,
    "rate": RATE,
    "seed": [-1, 1.5, "3", True, 2**40],
    "index": [-1, 1.5, "3", True, None, 2**40],
}

INVALID = [
    pytest.param(case, name, bad, id=f"{case.id}-{name}-{bad!r}")
    for case in FULL
    for name in case.arguments
    for bad in BAD[name]
]


@pytest.mark.parametrize(("case", "name", "bad"), INVALID)
def test_error_names_invalid_argument(case, name, bad):
    with pytest.raises((ValueError, TypeError)) as error:
        case.make(**{name: bad})
    message = str(error.value)
    assert f"`{name}` must" in message
    assert "Received" in message
    assert repr(bad) in message or (isinstance(bad, tuple) and repr(bad[-1]) in message)


INVALID_SHAPES = [
    (layers.MultiHeadSelfAttention(3), (6, 16), "`num_heads` must divide `D`.*3.*16"),
    (
        layers.MultiHeadSelfAttention(2, rotary=layers.Rotary(), grid=(2, 2)),
        (6, 16),
        r"rows \* columns.*grid=\(2, 2\), num_prefix=0.* 6 tokens",
    ),
    (
        layers.MultiHeadSelfAttention(2, rotary=layers.Rotary(), grid=(2, 3)),
        (6, 12),
        "multiple of 4.*d=6",
    ),
    (layers.MultiHeadSelfAttention(2, rotary=layers.Rotary()), (6, 16), "grid=None"),
    (layers.AttentionPooling(3, 8), (6, 16), "`num_heads` must divide `D`.*3.*16"),
    (layers.PatchEmbed(8, 4), (8, 10, 3), r"`patch_size` must divide.*\(4, 4\).*\(8, 10\).*2, 5"),
    (layers.PatchEmbed(8, 4), (None, 8, 3), r"`patch_size` must divide a known image size"),
    (
        layers.PositionEmbedding((2, 2), 1),
        (6, 16),
        r"`num_prefix` \+ .*`grid`.*\(2, 2\).*num_prefix=1.*5 tokens.*of 6",
    ),
    (layers.PositionEmbedding(2, kind="sincos2d"), (4, 6), "D, the width.*multiple of 4.*D=6"),
    (layers.SelectToken(6), (6, 16), "`index` must be below.*index=6.*6 tokens"),
    (layers.PoolMixing((2, 2)), (6, 16), r"`grid` must be the number.*\(2, 2\).*6 tokens"),
]


WITH_RANK = [case for case in FULL if case.layer.rank]


@pytest.mark.parametrize("case", WITH_RANK, ids=lambda case: case.id)
def test_input_of_wrong_rank_raises(case):
    """A grid where the layer takes a sequence, or a sequence where it takes a grid."""
    shape = (4, 6, 8) if case.layer.rank == 3 else (24, 8)
    layer = case.make(name="mine")
    with pytest.raises(ValueError, match=f"mine.*expected ndim={case.layer.rank}"):
        layer(keras.Input(shape))
    assert not layer.weights


def test_residual_checks_rank_of_mixer():
    with pytest.raises(ValueError, match="`mixer` must.*mixer=TokenMixing.*takes 3 axes.*32, 3"):
        layers.Residual(layers.TokenMixing(8))(keras.Input((32, 32, 3)))


@pytest.mark.parametrize("mixer", [keras.layers.Dense(1), keras.layers.Dense(5)])
def test_mixer_that_changes_the_shape_raises(mixer):
    message = r"`mixer` must keep the shape of its input.*of \(None, 6, 8\)"
    with pytest.raises(ValueError, match=message):
        layers.Residual(mixer)(keras.Input((6, 8)))


@pytest.mark.parametrize("activation", [lambda x: x, len, random_function])
def test_activation_that_cannot_be_loaded_raises(activation):
    with pytest.raises(ValueError, match="`activation` must be a function that a saved model can"):
        layers.ChannelMixing(8, activation=activation)


@pytest.mark.parametrize("activation", ["relu", keras.activations.silu, layers.gelu_tanh])
def test_activation_may_be_name_or_function(activation):
    layer = layers.ChannelMixing(8, activation=activation)
    assert layer.from_config(layer.get_config()).activation is layer.activation


@pytest.mark.parametrize(("layer", "shape", "message"), INVALID_SHAPES)
def test_error_names_invalid_shape(layer, shape, message):
    with pytest.raises(ValueError, match=message):
        layer(keras.Input(shape))
    assert not layer.weights


def test_prefix_tokens_without_tokens_raises():
    with pytest.raises(ValueError, match="class_token=True.*num_registers"):
        layers.PrefixTokens(class_token=False)


def test_spatial_gating_of_odd_width_raises():
    with pytest.raises(ValueError, match="`mlp_dim` must be even.*mlp_dim=7; use 8"):
        layers.SpatialGating(7)


@pytest.mark.parametrize(
    ("name", "bad"),
    [
        ("coordinates", "axial"),
        ("base", 0.5),
        ("base", "100"),
        ("reference", (0, 3)),
        ("reference", 16),  # because the default coordinates have no reference
        ("offset", "1"),
        ("offset", float("nan")),
        ("columns_first", 1),
        ("interleaved", None),
    ],
)
def test_rotary_names_invalid_argument(name, bad):
    with pytest.raises((ValueError, TypeError), match=f"`{name}` must.*Received"):
        layers.Rotary(**{name: bad})

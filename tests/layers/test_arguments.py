"""Bad arguments to layers: each is refused by name, before any weight is made."""

import keras
import pytest
from cases import FULL

from keras_mixers import layers

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
    "grid": [*PAIR, None],
    "num_prefix": [-1, 1.5, "3", True, None, 2**40],
    "kind": [*NAME, None, "learnt"],
    "class_token": FLAG,
    "distillation_token": FLAG,
    "num_registers": [-1, 1.5, "3", True, None, 2**40],
    "num_heads": INTEGER,
    "head_dim": [bad for bad in INTEGER if bad is not None],
    "qkv_bias": FLAG,
    "qk_norm": FLAG,
    "score": [*NAME, None, "scaled-dot"],
    "attention_dropout_rate": RATE,
    "dropout_rate": RATE,
    "epsilon": REAL,
    "mlp_dim": INTEGER,
    "tokens_mlp_dim": INTEGER,
    "activation": [*NAME, None, 3],
    "gated": FLAG,
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

ATTACKS = [
    pytest.param(case, name, bad, id=f"{case.id}-{name}-{bad!r}")
    for case in FULL
    for name in case.arguments
    for bad in BAD[name]
]


@pytest.mark.parametrize(("case", "name", "bad"), ATTACKS)
def test_a_bad_argument_is_named(case, name, bad):
    with pytest.raises((ValueError, TypeError)) as error:
        case.make(**{name: bad})
    message = str(error.value)
    assert f"`{name}` must" in message
    assert "Received" in message
    assert repr(bad) in message or (isinstance(bad, tuple) and repr(bad[-1]) in message)


REFUSED_BY_SHAPE = [
    (layers.MultiHeadSelfAttention(3), (6, 16), "`num_heads` must divide `hidden_dim`.*3.*16"),
    (layers.AttentionPooling(3, 8), (6, 16), "`num_heads` must divide `hidden_dim`.*3.*16"),
    (layers.PatchEmbed(8, 4), (8, 10, 3), r"`patch_size` must divide.*\(4, 4\).*\(8, 10\)"),
    (layers.PatchEmbed(8, 4), (None, 8, 3), r"`patch_size` must divide a known image size"),
    (layers.PositionEmbedding((2, 2), 1), (6, 16), r"`grid` and `num_prefix`.*5 tokens.*of 6"),
    (layers.PositionEmbedding(2, kind="sincos2d"), (4, 6), "`hidden_dim`.*multiple of 4.*=6"),
    (layers.PoolMixing((2, 2)), (6, 16), r"`grid` must count.*\(2, 2\).*6 tokens"),
]


@pytest.mark.parametrize(("layer", "shape", "message"), REFUSED_BY_SHAPE)
def test_a_shape_that_does_not_fit_is_named(layer, shape, message):
    with pytest.raises(ValueError, match=message):
        layer(keras.Input(shape))
    assert not layer.weights


def test_prefix_tokens_need_a_token():
    with pytest.raises(ValueError, match="class_token=True.*num_registers"):
        layers.PrefixTokens(class_token=False)


def test_spatial_gating_needs_an_even_width():
    with pytest.raises(ValueError, match="`mlp_dim` must be even.*mlp_dim=7; 8 would do"):
        layers.SpatialGating(7)

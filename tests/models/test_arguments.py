"""Builders refuse invalid arguments by name, before they make any weight."""

import inspect
import re

import keras
import pytest
from cases import MODELS

import keras_mixers as km

pytestmark = pytest.mark.one_backend("arguments are checked before a backend is called")

SIZE = [0, -1, 1.5, "3", True, float("nan"), 2**40, (4, 4)]
PAIR = [0, -1, 1.5, "3", True, float("nan"), 2**40, (2,), (2, 3, 4), (2, 0), (2, 1.5)]
RATE = [-0.1, 1, "0.1", True, None, float("nan"), float("inf")]
REAL = [-1e-6, "1e-6", True, float("nan"), float("inf")]
FLAG = [0, 1, "True"]

BAD = {
    "variant": ["Ti/15", "", 3, None],
    "pattern": ["MXA", "", "mma", 3, None, "M" * 2000],
    "input_shape": [None, 8, (8, 12), (8, 12, 0), (8, 12, 1.5), (8, -12, 2), "abc", (8, 12, True)],
    "num_classes": [-1, 1.5, "3", True, None, float("nan"), 2**40],
    "weights": ["augreg", "", 3, True, "none.npz", "a/b"],
    "patch_size": [*PAIR, 5, (4, 5), 16],
    "hidden_dim": SIZE,
    "depth": [*SIZE, 100_000],
    "num_heads": [*SIZE, 3],
    "mlp_dim": SIZE,
    "head_dim": SIZE,
    "tokens_mlp_dim": SIZE,
    "channels_mlp_dim": SIZE,
    "kernel_size": PAIR,
    "gated_mlp": FLAG,
    "qkv_bias": FLAG,
    "without_bias": ["key", ("keys",), 3, {"key"}],
    "qk_norm": [*FLAG, None],
    "score": ["scaled-dot", "", 3, None],
    "pool": ["cls", "", 3, True],
    "pool_num_heads": SIZE,
    "pool_mlp_dim": SIZE,
    "pool_prefix": FLAG,
    "rotary": ["dinov3", 100, True],
    "normalization": ["rmsnorm", "", 3],
    "extra_norms": ["mlp", ("mpl",), 3, {"mlp"}, ("mlp",) * 5],
    "final_norm": FLAG,
    "norm_after_pool": FLAG,
    "representation_size": SIZE,
    "position_embedding": ["sincos", "", 3, True],
    "position_prefix": FLAG,
    "class_token": FLAG,
    "distillation_token": FLAG,
    "num_registers": [-1, 1.5, "3", True, 2**40],
    "activation": ["geluu", 3, "", "glu"],
    "epsilon": REAL,
    "layer_scale_init": REAL,
    "dropout_rate": RATE,
    "attention_dropout_rate": RATE,
    "stochastic_depth_rate": RATE,
    "gradient_checkpointing": [*FLAG, None],
}
NOT_OURS = {"dtype", "name"}  # because their checks are tested in test_assembly.py
FIRST = {case.builder: case for case in reversed(MODELS)}


def parameters(builder):
    return [name for name in inspect.signature(builder).parameters if name not in NOT_OURS]


ATTACKS = [
    pytest.param(builder, name, bad, id=f"{builder.__name__}-{name}-{str(bad)[:20]!r}")
    for builder in FIRST
    for name in parameters(builder)
    for bad in BAD[name]
]


@pytest.fixture
def no_weights(monkeypatch):
    """Fail a test that makes a weight, because builders must check arguments before that."""

    def refuse(layer, *_args, **_kwargs):
        pytest.fail(f"a weight was made, by {layer.name}")

    monkeypatch.setattr(keras.layers.Layer, "add_weight", refuse)


@pytest.mark.parametrize(("builder", "name", "bad"), ATTACKS)
def test_builder_names_bad_argument(builder, name, bad, no_weights):
    case = FIRST[builder]
    arguments = {"input_shape": (8, 12, 2), "num_classes": 5, **case.arguments}
    first = {"variant": case.variant, "pattern": case.variant}
    positional = first[next(iter(inspect.signature(builder).parameters))]
    if name in first:
        positional = bad
    else:
        arguments[name] = bad
    with pytest.raises((ValueError, TypeError, FileNotFoundError)) as error:
        builder(positional, **arguments)
    message = str(error.value)
    assert f"`{name}` must" in message
    assert ". Received" in message and ".. Received" not in message
    shown = bad[-1] if isinstance(bad, tuple) else bad
    assert str(shown)[:20] in message


@pytest.mark.parametrize("case", FIRST.values(), ids=lambda case: case.id)
def test_builder_refuses_unknown_keyword(case, no_weights):
    with pytest.raises(TypeError, match="hiden_dim"):
        case.make(hiden_dim=16)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: km.ViT("Ti/16", pool="token", class_token=False),
            "`pool` must not be 'token' without a class token.*class_token=False",
        ),
        (
            lambda: km.ViT("DeiT-Ti/16-distilled", pool="gap"),
            "`pool` must be 'token' with a distillation token.*'gap'",
        ),
        (
            lambda: km.ViT("Ti/16", norm_after_pool=True),
            "`norm_after_pool` must be False unless `pool` is 'gap'.*'token'",
        ),
        (
            lambda: km.ViT("Ti/16", position_embedding="sincos2d", hidden_dim=6, num_heads=3),
            "`hidden_dim` must be a multiple of 4.*hidden_dim=6",
        ),
        (
            lambda: km.Hybrid("GA", hidden_dim=16, mlp_dim=7),
            "`mlp_dim` must be even for spatial gating.*mlp_dim=7",
        ),
        (
            lambda: km.Hybrid("CM", pool="token"),
            r"`pool` must not be 'token'.*\['C'\].*pattern='CM', pool='token'",
        ),
        (
            lambda: km.ViT("Ti/16", pool=None, representation_size=8),
            "`representation_size` must be None unless one pooled.*size=8 with pool=None",
        ),
        (
            lambda: km.ViT("Ti/16", gradient_checkpointing=True, dropout_rate=0.1),
            "`gradient_checkpointing` must be False with dropout.*'dropout_rate': 0.1",
        ),
        (lambda: km.Hybrid("MC", kernel_size=None), "`kernel_size` must.*None"),
        (
            lambda: km.Hybrid("PA", num_registers=1),
            "`num_registers` must be 0 with.*'P'.*num_registers=1",
        ),
        (lambda: km.ConvMixer("768/32", pool="token"), "`pool` must be one of 'gap', 'map', None"),
    ],
)
def test_builder_refuses_conflicting_arguments(make, message, no_weights):
    with pytest.raises((ValueError, TypeError), match=message):
        make()


HUGE = 2**20  # the largest integer that an argument can be


@pytest.mark.parametrize(
    ("make", "sizes"),
    [
        (
            lambda: km.ViT("Ti/16", hidden_dim=HUGE, num_heads=1),
            "1048576 (hidden_dim) * 1048576 (hidden_dim) * 12 blocks",
        ),
        (
            lambda: km.ViT("Ti/16", hidden_dim=HUGE, mlp_dim=HUGE, num_heads=1),
            "1048576 (hidden_dim) * 1048576 (MLP width) * 12 blocks",
        ),
        (
            lambda: km.ConvMixer("768/32", hidden_dim=HUGE),
            "1048576 (hidden_dim) * 1048576 (hidden_dim) * 32 blocks",
        ),
        (
            lambda: km.MLPMixer("S/16", hidden_dim=2**14, channels_mlp_dim=HUGE),
            "16384 (hidden_dim) * 1048576 (MLP width) * 8 blocks",
        ),
        (
            lambda: km.MLPMixer("S/16", input_shape=(4096, 4096, 3), tokens_mlp_dim=HUGE),
            "65536 (tokens) * 1048576 (MLP width across tokens) * 8 blocks",
        ),
        (
            lambda: km.Hybrid("GM", input_shape=(4096, 4096, 3), patch_size=4),
            "1048576 (tokens) * 1048576 (tokens) * 2 blocks",
        ),
        (
            lambda: km.ViT("Ti/16", num_heads=HUGE, head_dim=HUGE),
            "1000 (num_classes) * 1099511627776 (width of all heads) * 12 blocks",
        ),
        (
            lambda: km.ConvMixer("768/32", kernel_size=HUGE),
            "1024 (tokens) * 1099511627776 (places in kernel_size) * 32 blocks",
        ),
        (
            lambda: km.ViT("Ti/16", input_shape=(HUGE, HUGE, 3), patch_size=HUGE),
            "1000 (num_classes) * 3298534883328 (values in a patch) * 12 blocks",
        ),
        (
            lambda: km.ViT("Ti/16", input_shape=(HUGE, HUGE, 3), position_embedding="sincos2d"),
            "1000 (num_classes) * 4294967297 (tokens) * 12 blocks",
        ),
        (
            lambda: km.ViT("Ti/16", representation_size=HUGE, num_classes=HUGE),
            "1048576 (representation_size) * 1048576 (num_classes) * 12 blocks",
        ),
    ],
)
def test_builder_names_sizes_too_large(make, sizes, no_weights):
    limit = re.escape(f"must be at most 100,000,000,000. Received: {sizes}")
    with pytest.raises(ValueError, match=limit):
        make()


@pytest.mark.parametrize("case", FIRST.values(), ids=lambda case: case.id)
def test_builder_accepts_boundary_values(case):
    accepted = parameters(case.builder)
    boundary = {
        "depth": 1,
        "num_classes": 1,
        "dropout_rate": 0.999,
        "attention_dropout_rate": 0.999,
        "stochastic_depth_rate": 0.999,
        "layer_scale_init": 0.0,
        "epsilon": 0.0,
    }
    model = case.make(**{name: value for name, value in boundary.items() if name in accepted})
    assert model.output_shape == (None, 1)


def test_every_builder_argument_has_bad_values():
    wanted = {name for builder in FIRST for name in parameters(builder)}
    assert wanted == set(BAD)

"""The spaces: bounds, defaults, valid configurations, and errors of invalid arguments."""

import random

import keras_tuner
import numpy as np
import pytest

import keras_mixers as km
from keras_mixers.models import conv_mixer, hybrid, mlp_mixer, vit
from keras_mixers.models.architecture import Architecture

FAMILIES = ("HyperViT", "HyperMLPMixer", "HyperConvMixer", "HyperHybrid")
TRAINING = {
    "learning_rate": "3e-4 to 5e-3, log; 2e-3",
    "weight_decay": "1e-3 to 0.3, log; 0.05",
    "warmup_fraction": "0.0 to 0.3; 0.1",
    "schedule": "cosine linear; cosine",
    "batch_size": "32 64 128; 64",
    "augmentation": "translation=0.1 | none | translation=0.1, rand_augment=[1, 3.0]"
    " | translation=0.1, rand_augment=[2, 7.0], mixup=0.2; translation=0.1",
}
WIDTHS = "64 128 192 256 320 384; 128"
MLP_WIDTHS = "128 256 384 512 640 768 896 1024; 256"
TOKENS_MLP_WIDTHS = "32 64 96 128 160 192 224 256; 64"
COMMON = {"patch_size": "1 2 4; 2", "hidden_dim": WIDTHS}
DEPTHS = "2 3 4 5 6 7 8 9 10 11 12; 4"
SHARED = {"head_dim": "16 32 64; 32", "stochastic_depth_rate": "0.0 to 0.2; 0.0"}
PINNED = {
    "HyperViT": {**COMMON, "depth": DEPTHS, **TRAINING, **SHARED, "mlp_dim": MLP_WIDTHS},
    "HyperMLPMixer": {
        **COMMON,
        "depth": DEPTHS,
        **TRAINING,
        "tokens_mlp_dim": TOKENS_MLP_WIDTHS,
        "channels_mlp_dim": MLP_WIDTHS,
        "stochastic_depth_rate": SHARED["stochastic_depth_rate"],
    },
    "HyperConvMixer": {**COMMON, "depth": DEPTHS, **TRAINING, "kernel_size": "3 5 7 9; 5"},
    "HyperHybrid": {
        **COMMON,
        "depth": "2 3 4 5 6 7 8; 4",
        **TRAINING,
        **SHARED,
        "mlp_dim": MLP_WIDTHS,
        "tokens_mlp_dim": TOKENS_MLP_WIDTHS,
        "kernel_size": "3 5 7 9; 5",
        **{f"letter_{i}": f"C M A; {'CCMAAAAA'[i]}" for i in range(8)},
    },
}


def describe(hp):
    """A hyperparameter in the form of `PINNED`."""
    if isinstance(hp, keras_tuner.engine.hyperparameters.Choice):
        separator = " | " if hp.name == "augmentation" else " "
        return f"{separator.join(map(str, hp.values))}; {hp.default}"
    log = ", log" if hp.sampling == "log" else ""
    return f"{hp.min_value} to {hp.max_value}{log}; {hp.default}"


@pytest.mark.parametrize("family", FAMILIES)
def test_space_has_pinned_bounds_and_defaults(family):
    hp = keras_tuner.HyperParameters()
    getattr(km.tuning, family)((16, 16, 1), 10).declare_hyperparameters(hp)
    found = {each.name: describe(each) for each in hp.space}
    numbers = {"3e-4": "0.0003", "5e-3": "0.005", "2e-3": "0.002", "1e-3": "0.001"}
    expected = PINNED[family]
    for short, long in numbers.items():
        expected = {name: row.replace(short, long) for name, row in expected.items()}
    assert found == expected


def sample(space, seed):
    """A random configuration, sampled as KerasTuner's RandomSearch does."""
    hp = keras_tuner.HyperParameters()
    space.declare_hyperparameters(hp)
    seeds = random.Random(seed)
    sampled = keras_tuner.HyperParameters()
    for each in hp.space:
        sampled.merge([each])
        if sampled.is_active(each):
            sampled.values[each.name] = each.random_sample(seeds.randrange(2**31))
    return sampled


@pytest.mark.parametrize("shape", [(16, 16, 1), (16, 40, 3)])
@pytest.mark.parametrize("family", FAMILIES)
def test_every_configuration_is_valid(family, shape, monkeypatch):
    """A builder checks its arguments before it creates layers, so 200 configurations are cheap."""
    for module in (vit, mlp_mixer, conv_mixer, hybrid):
        monkeypatch.setattr(module, "assemble", lambda architecture, *_: architecture)
    space = getattr(km.tuning, family)(shape, 10)
    seen = set()
    for seed in range(200):
        hp = sample(space, seed)
        architecture = space.builder(**space.arguments_of(hp))
        assert isinstance(architecture, Architecture)
        assert architecture.num_tokens >= 16
        recipe = space.recipe_of(hp, epochs=3)
        assert 0 <= recipe.warmup_epochs < recipe.epochs == 3
        seen |= set(hp.values)
    assert seen == set(PINNED[family])


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.slow
def test_configurations_build_and_compute(family):
    space = getattr(km.tuning, family)((16, 24, 1), 10)
    for seed in range(2):
        hp = sample(space, seed)
        model = space.build(hp)
        images = np.random.default_rng(seed).normal(size=(2, 16, 24, 1)).astype("float32")
        assert np.isfinite(model(images)).all()
        assert space.cost_of(hp) == {"params": model.count_params(), "flops": km.count_flops(model)}


def test_hybrid_has_one_letter_per_block():
    space = km.tuning.HyperHybrid((16, 16, 1), 10, depth=[2, 5], letters=["A", "P"])
    for seed in range(20):
        hp = sample(space, seed)
        letters = [hp.values[f"letter_{i}"] for i in range(hp.values["depth"])]
        assert space.arguments_of(hp)["pattern"] == "".join(letters)
        assert f"letter_{len(letters)}" not in hp.values
    fixed = km.tuning.HyperHybrid((16, 16, 1), 10, depth=3, letters="M")
    assert fixed.arguments_of(keras_tuner.HyperParameters())["pattern"] == "MMM"


def test_tuner_finds_all_letters_at_once(monkeypatch, tmp_path):
    """It builds the default and the deepest configuration, although both are over budget."""
    space = km.tuning.HyperHybrid((16, 16, 1), 10, max_params=1)
    tuner = keras_tuner.RandomSearch(space, "val_accuracy", directory=tmp_path)
    assert {each.name for each in tuner.oracle.get_space().space} == set(PINNED["HyperHybrid"])


@pytest.mark.parametrize(
    ("arguments", "values", "default"),
    [
        ({"hidden_dim": [48, 96]}, (48, 96), 96),
        ({"hidden_dim": (32, 160)}, (32, 96, 160), 96),
        ({"hidden_dim": (16, 64)}, (16, 32, 48, 64), 64),
        ({"hidden_dim": (64, 100)}, tuple(range(64, 101, 4)), 100),
        ({"mlp_dim": (32, 64)}, (32, 64), 64),
        ({"depth": (1, 3)}, (1, 2, 3), 3),
        ({"batch_size": (16, 100)}, (16, 32, 64), 64),
        ({"patch_size": (2, 9)}, (2, 4, 8), 2),
        ({"patch_size": 8}, (8,), 8),
        ({"head_dim": (8, 32)}, (8, 16, 32), 32),
        ({"learning_rate": [1e-3, 0]}, (1e-3, 0.0), 1e-3),
        ({"schedule": "one_cycle"}, ("one_cycle",), "one_cycle"),
        ({"input_shape": (224, 224, 3)}, (14, 16, 28, 32, 56), 28),
        ({"input_shape": (7, 21, 3)}, (1,), 1),
        ({"input_shape": (3, 3, 3)}, (1,), 1),
        ({"hidden_dim": [20, 30]}, (20, 30), 30),
    ],
)
def test_quantity_is_list_range_or_value(arguments, values, default):
    name = next(iter(arguments)).replace("input_shape", "patch_size")
    space = km.tuning.HyperViT(**{"input_shape": (16, 16, 1), "num_classes": 10, **arguments})
    assert space.ranges[name].values == values
    assert space.ranges[name].default == default
    configuration = space.configuration(keras_tuner.HyperParameters())
    assert configuration[name] == default
    assert configuration["hidden_dim"] % configuration["head_dim"] == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"input_shape": 16}, "`input_shape` must be .height, width, channels.*16"),
        ({"num_classes": 0}, "`num_classes` must be an integer from 1.*num_classes=0"),
        ({"hidden_dim": []}, "`hidden_dim` must have from 1 to 10,000 choices. Received: 0"),
        ({"hidden_dim": [64, 64]}, "`hidden_dim` must have each choice once"),
        ({"hidden_dim": (128, 64)}, "`hidden_dim` must be a list.*128, 64.*low is not below high"),
        ({"hidden_dim": (64, 128, 192)}, "`hidden_dim` must be a list of choices, a .low, high. r"),
        ({"hidden_dim": "64"}, "`hidden_dim` must be an integer.*'64'"),
        ({"depth": 0}, "`depth` must be an integer from 1.*depth=0"),
        ({"depth": (1, 20_000)}, "`depth` must have a range of at most 10,000 int"),
        ({"patch_size": [3, 4]}, r"`patch_size` must divide.*\[3, 4\].*these do: 1, 2, 4, 8, 16"),
        ({"patch_size": (5, 7)}, r"`patch_size` must divide.*\(5, 7\)"),
        ({"head_dim": [16, 24]}, "`head_dim` must divide `hidden_dim`. Received: head_dim=24 and"),
        ({"learning_rate": (0.0, 1e-3)}, "`learning_rate` must have a range that begins above 0"),
        ({"learning_rate": float("nan")}, "`learning_rate` must be a finite number"),
        ({"warmup_fraction": 1.0}, "`warmup_fraction` must be .*below 1.0"),
        ({"schedule": ("cosine", "linear")}, "`schedule` must be a list of choices or one value"),
        ({"schedule": "cosin"}, "`schedule` must be one of.*Did you mean 'cosine'"),
        ({"augmentation": "none"}, "`augmentation` must be km.data.Augmentation"),
        ({"recipe": "small"}, "`recipe` must be km.Recipe"),
        (
            {"recipe": km.Recipe(epochs=1, model_arguments={"depth": 3})},
            "`recipe` must not have model_arguments.*'depth'",
        ),
        ({"max_params": 0}, "`max_params` must be an integer from 1"),
        ({"max_flops": 1e6}, "`max_flops` must be an integer"),
        ({"max_latency_ms": -1}, "`max_latency_ms` must be a finite number, at least 0"),
        ({"latency_of": "onnx"}, "`latency_of` must be one of 'keras', 'onnxruntime'"),
    ],
)
def test_invalid_argument_is_named(arguments, message):
    with pytest.raises((ValueError, TypeError), match=message):
        km.tuning.HyperViT(**{"input_shape": (16, 16, 1), "num_classes": 10, **arguments})


def test_unknown_argument_letter_and_space_raise():
    with pytest.raises(TypeError, match="hidden_dims"):
        km.tuning.HyperViT((16, 16, 1), 10, hidden_dims=64)
    letters = ", ".join(map(repr, km.models.LETTERS))
    with pytest.raises(ValueError, match=f"`letters` must be one of {letters}.*'X'"):
        km.tuning.HyperHybrid((16, 16, 1), 10, letters=["A", "X"])
    with pytest.raises(AttributeError, match="HyperResNet"):
        _ = km.tuning.HyperResNet


def test_point_is_configuration():
    space = km.tuning.HyperHybrid((16, 16, 1), 10)
    with pytest.warns(DeprecationWarning, match="`point`.*`configuration`"):
        values = space.point(keras_tuner.HyperParameters())
    assert values == space.configuration(keras_tuner.HyperParameters())
    assert values["pattern"] == "CCMA"

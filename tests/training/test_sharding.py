"""km.training.layout_map: which device holds which part of each weight."""

import collections
import json
import math
import os
import pathlib
import random
import re
import subprocess
import sys

import keras
import numpy as np
import pytest
from cases import LAYERS

import keras_mixers as km

AXES = ("batch", "model")
NARROW = "a vector as wide as the tokens, which are whole on each device"
ONE_VECTOR = "less than a thousandth of the weights, and added to whole tokens"
FUSED = "the devices need units of each part, and the parts follow each other in one vector"
SHARED = "all units share it"
ALL_UNITS = "the norm needs the mean over all heads or hidden units"
# Each weight of each layer: its layout along "model", or the reason why it stays whole.
EXPECTED = {
    "PatchEmbed": {"projection/kernel": ONE_VECTOR, "projection/bias": NARROW},
    "PositionEmbedding": {"table": ONE_VECTOR},
    "PrefixTokens": {"class": ONE_VECTOR, "distillation": ONE_VECTOR, "registers": ONE_VECTOR},
    "MultiHeadSelfAttention": {
        "qkv/kernel": ("model", None),
        "qkv/bias": FUSED,
        "qkv/query_value_bias": FUSED,
        "rotary_frequencies": (None, "model", None),
        "norm/gamma": ALL_UNITS,
        "norm/beta": ALL_UNITS,
        "query_norm/gamma": SHARED,
        "query_norm/beta": SHARED,
        "key_norm/gamma": SHARED,
        "key_norm/beta": SHARED,
        "score_kernel": ("model", ...),
        "out/kernel": ("model", None),
        "out/bias": NARROW,
    },
    "AttentionPooling": {
        "probe": ONE_VECTOR,
        "query/kernel": (None, "model"),
        "query/bias": ("model",),
        "key_value/kernel": ("model", None),
        "key_value/bias": FUSED,
        "out/kernel": ("model", None),
        "out/bias": NARROW,
        "norm/gamma": NARROW,
        "norm/beta": NARROW,
        "mlp/fc1/kernel": (None, "model"),
        "mlp/fc1/bias": ("model",),
        "mlp/fc2/kernel": ("model", None),
        "mlp/fc2/bias": NARROW,
    },
    "TokenMixing": {
        "fc1/kernel": (None, "model"),
        "fc1/bias": ("model",),
        "fc2/kernel": ("model", None),
        "fc2/bias": SHARED,
    },
    "ChannelMixing": {
        "fc1/kernel": (None, "model"),
        "fc1/bias": ("model",),
        "fc2/kernel": ("model", None),
        "fc2/bias": NARROW,
    },
    "ChannelMixing gated": {
        "fc1/kernel": ("model", None),
        "fc1/bias": FUSED,
        "fc2/kernel": ("model", None),
        "fc2/bias": NARROW,
        "norm/gamma": ALL_UNITS,
    },
    "RMSNormalization": {"gamma": NARROW},
    "SpatialGating": {
        "fc1/kernel": ("model", None),
        "fc1/bias": FUSED,
        "norm/gamma": NARROW,
        "norm/beta": NARROW,
        "spatial/kernel": SHARED,
        "spatial/bias": SHARED,
        "fc2/kernel": ("model", None),
        "fc2/bias": NARROW,
    },
    "ConvMixerBlock": {
        "depthwise/kernel": (None, None, "model", None),
        "depthwise/bias": ("model",),
        **{f"norm1/{name}": ("model",) for name in ("gamma", "beta")},
        **{f"norm1/moving_{name}": ("model",) for name in ("mean", "variance")},
        "pointwise/kernel": (None, None, "model", None),
        "pointwise/bias": NARROW,
        **{f"norm2/{name}": NARROW for name in ("gamma", "beta")},
        **{f"norm2/moving_{name}": NARROW for name in ("mean", "variance")},
    },
    "Residual": {
        "norm/gamma": NARROW,
        "norm/beta": NARROW,
        "layer_scale/gamma": NARROW,
        "mixer/fc1/kernel": (None, "model"),
        "mixer/fc1/bias": ("model",),
        "mixer/fc2/kernel": ("model", None),
        "mixer/fc2/bias": NARROW,
    },
    "LayerScale": {"gamma": NARROW},
}


def mesh(*shape, names=AXES):
    """A mesh of devices that need not exist, because no weight is put on them."""
    names = names[: len(shape)]
    return keras.distribution.DeviceMesh(
        shape, names, [f"cpu:{i}" for i in range(math.prod(shape))]
    )


def vit(**more):
    sizes = {"input_shape": (16, 16, 3), "patch_size": 4, "hidden_dim": 24, "num_heads": 3}
    return km.ViT("Ti/16", **{**sizes, "depth": 1, "mlp_dim": 48, "num_classes": 8, **more})


def axes(layouts, path):
    return layouts[path] and layouts[path].axes


@pytest.mark.parametrize("case", LAYERS, ids=lambda case: case.id)
def test_layout_map_has_a_rule_for_each_weight(case):
    def build():
        image = keras.Input(case.shape[1:])
        return keras.Model(image, case.make(name="layer")(image))

    layouts = km.training.layout_map(mesh(1, 1), build, model_axis="model")
    gated = " gated" if case.arguments.get("gated") else ""
    for weight in build().weights:
        expected = EXPECTED[case.layer.__name__ + gated][weight.path.removeprefix("layer/")]
        if isinstance(expected, str):
            expected = None
        elif ... in expected:
            expected = (*expected[:-1], *[None] * (len(weight.shape) - 1))
        assert axes(layouts, weight.path) == expected, weight.path


def test_layout_map_splits_parts_of_fused_kernels():
    layouts = km.training.layout_map(mesh(2, 3), vit, model_axis="model")
    parts = {path for path in layouts if path.endswith("/parts")}
    assert parts == {"block_0_attention/attention/qkv/parts"}
    assert layouts[parts.pop()].axes == (None, None, "model")


def test_layout_map_splits_longest_axis_over_the_batch_axis():
    layouts = km.training.layout_map(mesh(4, names=("batch",)), vit, fsdp_axis="batch")
    found = {path: axes(layouts, path) for path in layouts if not path.endswith("/output")}
    assert found == {
        "patch_embed/projection/kernel": (None, None, None, "batch"),  # (4, 4, 3, 24)
        "position_embedding/table": (None, None, "batch"),  # (1, 17, 24)
        "block_0_attention/attention/qkv/kernel": (None, "batch"),  # (24, 72)
        "block_0_attention/attention/out/kernel": ("batch", None),  # (24, 24)
        "block_0_channel_mixing/channel_mixing/fc1/kernel": (None, "batch"),  # (24, 48)
        "block_0_channel_mixing/channel_mixing/fc2/kernel": ("batch", None),  # (48, 24)
        "head/kernel": ("batch", None),  # (24, 8)
    }


def test_layout_map_keeps_outputs_split_by_images():
    layouts = km.training.layout_map(mesh(4, names=("batch",)), vit, fsdp_axis="batch")
    outputs = {path for path in layouts if path.endswith("/output")}
    names = {layer.name for layer in vit().layers} - {"images"}
    assert outputs == {f"{name}/output" for name in names}
    assert {layouts[path].axes for path in outputs} == {("batch",)}


def test_layout_map_keeps_depthwise_kernels_and_odd_sizes_whole():
    def build():
        sizes = {"hidden_dim": 8, "depth": 1, "kernel_size": 4, "patch_size": 2, "num_classes": 5}
        return km.ConvMixer("768/32", input_shape=(8, 8, 3), **sizes)

    layouts = km.training.layout_map(mesh(4, names=("batch",)), build, fsdp_axis="batch")
    assert layouts["block_0_conv_mixer/depthwise/kernel"] is None
    assert layouts["block_0_conv_mixer/norm1/gamma"] is None
    assert axes(layouts, "block_0_conv_mixer/pointwise/kernel") == (None, None, "batch", None)
    assert axes(layouts, "head/kernel") == ("batch", None)  # (8, 5)
    odd = km.training.layout_map(mesh(3, names=("batch",)), build, fsdp_axis="batch")
    assert odd["head/kernel"] is None


def test_layout_map_combines_both_axes():
    layouts = km.training.layout_map(mesh(2, 3), vit, model_axis="model", fsdp_axis="batch")
    assert axes(layouts, "block_0_attention/attention/qkv/kernel") == ("model", "batch")
    assert axes(layouts, "block_0_attention/attention/out/kernel") == ("model", "batch")
    assert axes(layouts, "patch_embed/projection/kernel") == (None, None, None, "batch")


@pytest.mark.parametrize(
    "arguments, words",
    [
        ({}, "must be two axes of the mesh.*Received: model_axis=None, fsdp_axis=None"),
        ({"model_axis": "batch", "fsdp_axis": "batch"}, "must be two axes of the mesh"),
        ({"model_axis": "heads"}, "`model_axis` must be one of 'batch', 'model', None.*'heads'"),
        ({"fsdp_axis": "data"}, "`fsdp_axis` must be one of 'batch', 'model', None.*'data'"),
    ],
)
def test_layout_map_checks_axes(arguments, words):
    with pytest.raises(ValueError, match=words):
        km.training.layout_map(mesh(1, 2), vit, **arguments)


def test_layout_map_names_the_layer_with_too_few_heads():
    words = (
        "`mesh` must have a number of devices along 'model'.*Received: 4 devices for layer"
        " 'block_0_attention/attention' with num_heads=3; the nearest divisors: 1, 3.*`fsdp_axis`"
    )
    with pytest.raises(ValueError, match=words):
        km.training.layout_map(mesh(1, 4), vit, model_axis="model")


def test_layout_map_checks_halves_of_a_gate():
    def build():
        return km.Hybrid("G", input_shape=(8, 8, 3), patch_size=4, hidden_dim=8, mlp_dim=12)

    with pytest.raises(
        ValueError, match=r"4 devices .*fc2/kernel.shape\[0\]=6; .*divisors: 2, 3, 6"
    ):
        km.training.layout_map(mesh(1, 4), build, model_axis="model")


@pytest.mark.parametrize(
    "build, error, words",
    [
        ("B/16", TypeError, "`build` must be a function that returns the model"),
        (lambda: 3, ValueError, "`build` must return a functional or Sequential model.*returns 3"),
    ],
)
def test_layout_map_checks_build(build, error, words):
    with pytest.raises(error, match=words):
        km.training.layout_map(mesh(1, 2), build, model_axis="model")


def test_layout_map_checks_mesh():
    with pytest.raises(TypeError, match="`mesh` must be a keras.distribution.DeviceMesh"):
        km.training.layout_map((1, 2), vit, model_axis="model")


class Foreign(keras.layers.Layer):
    """A user's layer with the names of ours."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.fc1 = keras.layers.Dense(8, name="fc1")
        self.fc2 = keras.layers.Dense(8, name="fc2")

    def call(self, x):
        return self.fc2(self.fc1(x))


class Declared(Foreign):
    """A user's layer that takes part."""

    def split_axes(self):
        return {"fc1/kernel": 1, "fc2/kernel": 0}


@pytest.mark.parametrize(
    "layer, expected", [(Foreign, (None, None)), (Declared, ((None, "model"), ("model", None)))]
)
def test_layout_map_reads_the_declaration_of_a_users_layer(layer, expected):
    def build():
        image = keras.Input((4, 8))
        return keras.Model(image, layer()(image))  # unnamed, so Keras numbers it

    layouts = km.training.layout_map(mesh(1, 2), build, model_axis="model")
    fc1, fc2 = (weight.path for weight in build().weights if weight.path.endswith("kernel"))
    assert (axes(layouts, fc1), axes(layouts, fc2)) == expected


def test_layout_map_leaves_names_and_seeds_alone():
    def build():
        return keras.Sequential([keras.Input((4,)), keras.layers.Dense(4)])

    name, state = keras.layers.Dense(1).name, random.getstate()
    km.training.layout_map(mesh(1, 2), build, fsdp_axis="batch")
    assert random.getstate() == state
    number = int(re.search(r"\d+$", "0" if name == "dense" else name)[0])
    assert keras.layers.Dense(1).name == f"dense_{number + 1}"


def test_layout_map_refuses_one_name_for_two_weights():
    def build():
        image, other = keras.Input((4,)), keras.Input((4,))
        nested = keras.Model(other, keras.layers.Dense(4, name="same")(other), name="nested")
        return keras.Model(image, keras.layers.Dense(5, name="same")(nested(image)))

    with pytest.raises(ValueError, match="`build` must give each layer.*'same/kernel'"):
        km.training.layout_map(mesh(1, 2), build, model_axis="model")


def bytes_per_device(model, layouts, sizes, copies=3):
    """Bytes of the weights and of AdamW's two moments on one device, in float32."""
    total = 0
    for weight in model.weights:
        split = layouts[weight.path].axes if layouts[weight.path] else ()
        devices = math.prod(sizes[axis] for axis in split if axis)
        total += 4 * copies * math.prod(weight.shape) // devices
    return total


def test_layout_map_divides_a_model_of_two_billion_weights(abstract_weights):
    """ViT-G/14 has 1.8 billion weights: 22 GB with AdamW on one device."""

    def build():
        return km.ViT("G/14", num_classes=1000)

    model = build()
    whole = bytes_per_device(model, collections.defaultdict(lambda: None), {})
    assert whole == 12 * model.count_params() > 22e9
    fsdp = km.training.layout_map(mesh(8, names=("batch",)), build, fsdp_axis="batch")
    assert bytes_per_device(model, fsdp, {"batch": 8}) == pytest.approx(whole / 8, rel=0.01)
    for devices in (4, 8):
        layouts = km.training.layout_map(mesh(8 // devices, devices), build, model_axis="model")
        found = bytes_per_device(model, layouts, {"model": devices})
        assert found == pytest.approx(whole / devices, rel=0.03)


@pytest.mark.backends
@pytest.mark.slow
def test_sharded_training_has_the_losses_of_one_device():
    """With the whole optimizer of this package."""
    if keras.backend.backend() != "jax":
        pytest.skip(reason="keras.distribution shards weights on JAX")
    program = pathlib.Path(__file__).with_name("sharded_training.py")
    finished = subprocess.run(
        [sys.executable, program],
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr[-3000:]
    found = json.loads(finished.stdout.splitlines()[-1])
    losses = found["losses"]
    for way in ("fsdp", "model"):
        np.testing.assert_allclose(losses[way], losses["one"], rtol=1e-5)
    assert np.ptp(losses["one"]) > 1e-3, "the weights change"

    # XLA exchanges weights, and no images except the sums that model parallelism needs.
    fsdp, split = (found["collectives"][way] for way in ("fsdp", "model"))
    assert fsdp.get("collective-permute", 0) + fsdp.get("all-to-all", 0) == 0
    assert fsdp["all-gather"] < 1.1 * found["bytes"]
    assert split.get("collective-permute", 0) == 0
    assert split["all-to-all"] < found["bytes"] / 4

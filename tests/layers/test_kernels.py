"""Fused kernels: they equal the reference implementation, and layers use them where they may."""

import concurrent.futures
import functools
import os
import subprocess
import sys

import keras
import numpy as np
import pytest
from cases import LayerCase, random_weights

from keras_mixers import layers
from keras_mixers.graph import all_layers, float32_inside
from keras_mixers.layers import kernels
from keras_mixers.layers.activation import Activation
from keras_mixers.layers.norms import BatchNormalization, LayerNormalization

pytestmark = [
    pytest.mark.one_backend("the fused kernels are TensorFlow's"),
    pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="TensorFlow only"),
]
HAS_ONEDNN = kernels.has_onednn()  # before a test pretends that it is there
LARGE = (3, 96, 128)  # because some fused kernels are not used for small inputs
CASES = [
    LayerCase(layers.ChannelMixing, {"mlp_dim": 12}, (3, 6, 8), "gelu"),
    LayerCase(layers.ChannelMixing, {"mlp_dim": 12}, (1, 33, 8), "halves"),
    LayerCase(layers.ChannelMixing, {"mlp_dim": 12}, LARGE, "large"),
    LayerCase(layers.ChannelMixing, {"mlp_dim": 12, "activation": "gelu_tanh"}, (3, 6, 8), "tanh"),
    LayerCase(layers.ChannelMixing, {"mlp_dim": 12, "activation": "silu"}, (3, 2, 3, 8), "silu"),
    LayerCase(layers.ChannelMixing, {"mlp_dim": 12, "gated": True}, (3, 6, 8), "gated"),
    LayerCase(
        layers.ChannelMixing, {"mlp_dim": 12, "activation": "quick_gelu"}, (3, 6, 8), "quick"
    ),
    LayerCase(
        layers.ChannelMixing,
        {"mlp_dim": 12, "inner_norm": True, "use_bias": False},
        (3, 6, 8),
        "norm",
    ),
    LayerCase(layers.RMSNormalization, {"epsilon": 1e-3}, (3, 6, 8)),
    LayerCase(layers.TokenMixing, {"tokens_mlp_dim": 5}, (3, 6, 8)),
    LayerCase(layers.TokenMixing, {"tokens_mlp_dim": 5}, (1, 6, 8), "one image"),
    LayerCase(layers.SpatialGating, {"mlp_dim": 12}, (3, 6, 8)),
    LayerCase(layers.MultiHeadSelfAttention, {"num_heads": 2}, (3, 6, 8)),
    LayerCase(layers.MultiHeadSelfAttention, {"num_heads": 2, "head_dim": 3}, (3, 6, 8), "narrow"),
    LayerCase(layers.MultiHeadSelfAttention, {"num_heads": 2, "qk_norm": True}, (3, 6, 8), "norm"),
    LayerCase(
        layers.MultiHeadSelfAttention,
        {"num_heads": 2, "key_bias": False, "rotary": layers.Rotary(), "grid": (2, 3)},
        (3, 6, 8),
        "rotary",
    ),
    LayerCase(
        layers.MultiHeadSelfAttention,
        {
            "num_heads": 2,
            "rotary": layers.Rotary("index", base=10_000, interleaved=True),
            "grid": (2, 3),
            "num_prefix": 1,
        },
        (3, 7, 8),
        "interleaved",
    ),
    LayerCase(layers.AttentionPooling, {"num_heads": 2, "mlp_dim": 12}, (3, 6, 8)),
    LayerCase(layers.ConvMixerBlock, {"kernel_size": 5}, (3, 6, 7, 8)),
    LayerCase(layers.ConvMixerBlock, {"kernel_size": (2, 4)}, (3, 6, 7, 8), "even"),
    LayerCase(layers.PatchEmbed, {"hidden_dim": 8, "patch_size": (2, 3)}, (3, 4, 6, 2)),
    LayerCase(
        layers.PatchEmbed,
        {"hidden_dim": 8, "patch_size": 2, "use_bias": False},
        (3, 4, 6, 2),
        "no bias",
    ),
    LayerCase(
        layers.PatchEmbed, {"hidden_dim": 8, "patch_size": (2, 3)}, (1, 4, 6, 2), "one image"
    ),
    LayerCase(LayerNormalization, {"epsilon": 1e-3}, (3, 6, 8)),
    LayerCase(LayerNormalization, {"epsilon": 1e-6}, LARGE, "large"),
    LayerCase(BatchNormalization, {"momentum": 0.7, "epsilon": 1e-3}, (3, 6, 7, 8)),
    LayerCase(layers.ConvMixerBlock, {"kernel_size": 5}, (3, 24, 24, 20), "large"),
]
CASE = {case.id: case for case in CASES}
cases = pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
modes = pytest.mark.parametrize("training", [True, False], ids=["training", "inference"])


def model_of(case, dtype, weights=None):
    """A model of one layer with the given weights, or with random ones."""
    inputs = keras.Input(case.shape[1:], dtype=keras.DTypePolicy(dtype).compute_dtype)
    model = keras.Model(inputs, case.make(dtype=dtype, name="it")(inputs))
    random_weights(model)
    if weights:
        model.set_weights(weights)
    return model


def evaluated(model, training):
    """A function that computes the output and the gradients for the input and each weight."""
    import tensorflow as tf

    def run(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = model(x, training=training)
            uneven = tf.sin(tf.reshape(tf.range(1.0, tf.size(y, tf.float32) + 1), tf.shape(y)))
            uneven = tf.cast(uneven, "bfloat16")  # the same numbers in each dtype
            loss = tf.reduce_sum(y * tf.cast(uneven, y.dtype))
        return [y, *tape.gradient(loss, [x, *(v.value for v in model.trainable_variables)])]

    return run


def traced(model, training):
    """The same in a graph, which uses fused kernels."""
    import tensorflow as tf

    return tf.function(evaluated(model, training))


def relative_error(found, exact):
    """The largest difference, divided by the largest number in its array (at least 0.1)."""
    return max(
        np.abs(a - b).max() / max(np.abs(b).max(), 0.1) for a, b in zip(found, exact, strict=True)
    )


def to_float64(tensors):
    return [np.asarray(tensor).astype("float64") for tensor in tensors]


@pytest.fixture
def fast_bfloat16(monkeypatch):
    """Use the fused kernels for bfloat16 on every processor; TensorFlow computes them anywhere."""
    monkeypatch.setattr(kernels, "has_fast_bfloat16", lambda: True)
    monkeypatch.setattr(kernels, "has_onednn", lambda: True)


@cases
@modes
def test_fused_kernels_equal_reference_in_float64(case, training):
    """Outputs, gradients and the updated moving averages are equal."""
    model = model_of(case, "float32")
    exact = model_of(case, "float64", model.get_weights())
    x = case.inputs()
    found = to_float64(traced(model, training)(x))
    expected = to_float64(traced(exact, training)(x.astype("float64")))
    assert relative_error(found, expected) < 1e-5
    found = to_float64(weight.value for weight in model.weights)
    expected = to_float64(weight.value for weight in exact.weights)
    assert relative_error(found, expected) < 1e-6


# Cases that are computed in bfloat16 too: one or two for each kernel.
IN_BFLOAT16 = [
    (LayerCase(layers.ChannelMixing, {"mlp_dim": 12}, LARGE, "large"), True),
    (LayerCase(layers.ChannelMixing, {"mlp_dim": 12}, LARGE, "large"), False),
    (CASE["ChannelMixing-gated"], True),
    (CASE["TokenMixing"], True),
    (LayerCase(layers.TokenMixing, {"tokens_mlp_dim": 5}, LARGE, "large"), False),
    (CASE["SpatialGating"], True),
    (CASE["MultiHeadSelfAttention-norm"], True),
    (CASE["AttentionPooling"], True),
    (CASE["MultiHeadSelfAttention"], False),
    (CASE["ConvMixerBlock-even"], False),
    (CASE["LayerNormalization-large"], True),
    (CASE["LayerNormalization-large"], False),
    (CASE["RMSNormalization"], True),
    (LayerCase(layers.Residual, {"mixer": lambda: layers.ChannelMixing(12)}, LARGE), True),
]


@pytest.mark.parametrize(
    ("case", "training"),
    IN_BFLOAT16,
    ids=lambda value: value.id if isinstance(value, LayerCase) else f"training={value}",
)
def test_fused_kernels_in_bfloat16_are_as_exact_as_the_reference(case, training, fast_bfloat16):
    """Outputs and gradients are near float64, and not farther than the reference in bfloat16."""
    import tensorflow as tf

    model = model_of(case, "mixed_bfloat16")
    exact = model_of(case, "float64", model.get_weights())
    x = tf.cast(case.inputs(), "bfloat16")
    fused = traced(model, training)
    assert "XLA" in node_types(fused, x)
    found = to_float64(fused(x))
    reference = to_float64(evaluated(model, training)(x))  # because an eager call uses no kernels
    expected = to_float64(evaluated(exact, training)(tf.cast(x, "float64")))
    # A rounding changes a number by at most 2^-9 of it, and here are fewer than 16 in a row.
    # Without oneDNN, TensorFlow's softmax rounds each of its steps.
    rounds_steps = not HAS_ONEDNN and "Softmax" in node_types(fused, x)
    assert relative_error(found, expected) < (32 if rounds_steps else 16) * 2**-9
    limit = 1.5 if rounds_steps else 1.2
    assert rms_error(found, expected) < limit * rms_error(reference, expected)


SMALL = [
    CASE["ChannelMixing-halves"],
    CASE["TokenMixing-one image"],
    CASE["ConvMixerBlock-even"],
    CASE["PatchEmbed-one image"],
    CASE["BatchNormalization"],
    LayerCase(Activation, {"activation": "gelu"}, (3, 6, 7, 8)),
]


@pytest.mark.parametrize("case", SMALL, ids=lambda case: case.id)
def test_small_inputs_in_bfloat16_are_computed_in_float32(case, fast_bfloat16):
    """Only the output is rounded, so it is the output in float32, rounded."""
    import tensorflow as tf

    model = model_of(case, "mixed_bfloat16")
    exact = model_of(case, "float32", model.get_weights())
    x = tf.cast(case.inputs(), "bfloat16")
    (found,) = to_float64([tf.function(model)(x)])
    (expected,) = to_float64([tf.cast(tf.function(exact)(tf.cast(x, "float32")), "bfloat16")])
    assert np.mean(found == expected) > 0.98  # because sums in another order may round differently


def test_residual_of_few_tokens_in_bfloat16_is_computed_in_float32(fast_bfloat16):
    """The whole branch is, and its sum with the input; the layers keep their dtype policies."""
    import tensorflow as tf

    def residual(dtype, weights=None):
        mixer = functools.partial(layers.MultiHeadSelfAttention, 2, dtype=dtype)
        return model_of(LayerCase(layers.Residual, {"mixer": mixer}, (1, 6, 8)), dtype, weights)

    model = residual("mixed_bfloat16")
    exact = residual("float32", model.get_weights())
    x = tf.cast(np.random.default_rng(7).normal(size=(1, 6, 8)), "bfloat16")
    y, *gradients = traced(model, False)(x)
    expected, *exact_gradients = to_float64(traced(exact, False)(tf.cast(x, "float32")))
    assert y.dtype == "bfloat16"
    assert relative_error(to_float64([y]), [expected]) <= 2**-8  # one rounding
    d_x, *d_weights = to_float64(gradients)
    assert relative_error([d_x], exact_gradients[:1]) <= 2**-8
    assert relative_error(d_weights, exact_gradients[1:]) < 1e-5
    assert {layer.compute_dtype for layer in all_layers(model.get_layer("it"))} == {"bfloat16"}


def test_float32_inside_is_a_scope_of_one_thread():
    layer = layers.Residual(layers.ChannelMixing(12, dtype="mixed_bfloat16"))
    inside = [each for each in all_layers(layer) if each.compute_dtype == "bfloat16"]
    policies = [each.dtype_policy for each in inside]
    saved = keras.saving.serialize_keras_object(layer)

    def dtypes():
        return {each.compute_dtype for each in inside}

    with concurrent.futures.ThreadPoolExecutor(1) as other:
        theirs = float32_inside(layer)
        with float32_inside(layer), float32_inside(layer):
            assert (dtypes(), other.submit(dtypes).result()) == ({"float32"}, {"bfloat16"})
            assert other.submit(keras.saving.serialize_keras_object, layer).result() == saved
            assert [each.dtype_policy for each in inside] == policies, "Keras compares them"
            other.submit(theirs.__enter__).result()
        assert (dtypes(), other.submit(dtypes).result()) == ({"bfloat16"}, {"float32"})
        other.submit(theirs.__exit__, None, None, None).result()
    assert all(a is each.dtype_policy for a, each in zip(policies, inside, strict=True))


def rms_error(found, exact):
    """The norm of the differences of each array, relative to its norm; then the norm of these."""
    norm = np.linalg.norm
    # Because the gradient for a bias of keys is 0, and has only errors.
    return norm([norm(a - b) / max(norm(b), 0.1) for a, b in zip(found, exact, strict=True)])


def test_every_fused_kernel_has_a_case(monkeypatch, fast_bfloat16):
    import tensorflow as tf

    from keras_mixers.layers.kernels import tensorflow_cpu

    used = set()

    class Recorder:
        """The module of fused kernels; it records which kernels the layers call."""

        ACTIVATIONS = tensorflow_cpu.ACTIVATIONS

        def __getattr__(self, name):
            kernel = getattr(tensorflow_cpu, name)

            def recorded(*arguments):
                used.add(name)
                return kernel(*arguments)

            return recorded

    monkeypatch.setattr(kernels, "tensorflow_cpu", Recorder())
    for case in CASES:
        model = model_of(case, "float32")
        for training in (True, False):
            run = tf.function(model).get_concrete_function
            run(tf.constant(case.inputs()), training=training)
    for case, training in IN_BFLOAT16:
        run = tf.function(model_of(case, "mixed_bfloat16")).get_concrete_function
        run(tf.cast(case.inputs(), "bfloat16"), training=training)
    assert used == set(tensorflow_cpu.__all__) - {"ACTIVATIONS"}


@modes
def test_attention_of_long_sequences_loops_over_images(training, monkeypatch):
    from keras_mixers.layers.kernels.tensorflow_cpu import softmax_attention

    monkeypatch.setattr(softmax_attention, "LONG", 7)
    monkeypatch.setattr(kernels, "is_small", lambda x: False)  # or one kernel computes few tokens
    test_fused_kernels_equal_reference_in_float64(
        CASE["MultiHeadSelfAttention-interleaved"], training
    )
    case = LayerCase(layers.MultiHeadSelfAttention, {"num_heads": 2}, (3, 7, 8))
    test_fused_kernels_equal_reference_in_float64(case, training)
    graph = traced(model_of(case, "float32"), training).get_concrete_function(case.inputs()).graph
    weights = [t for op in graph.get_operations() for t in op.outputs if t.shape[-2:] == (7, 7)]
    assert not weights  # because only the body of the loop, another graph, has them


def node_types(function, x):
    """The types of the nodes in a graph and its functions, and "XLA" if XLA compiles any node."""
    graph = function.get_concrete_function(x).graph.as_graph_def()
    nodes = [*graph.node, *(node for f in graph.library.function for node in f.node_def)]
    compiled = [each for each in nodes if "_XlaCompile" in each.attr]
    compiled += [each for each in graph.library.function if "_XlaMustCompile" in each.attr]
    return {node.op for node in nodes} | ({"XLA"} if compiled else set())


# (case, training, the type of a node that only the graph of the fused kernel has).
FUSED_NODES = [
    ("ChannelMixing-gelu", True, "XLA"),
    ("MultiHeadSelfAttention", False, "Unpack"),
    ("ChannelMixing-halves", False, "ConcatV2"),
    ("PatchEmbed", True, "MatMul"),
    ("ConvMixerBlock", True, "FusedBatchNormV3"),
    ("ConvMixerBlock-large", False, "XLA"),
    ("LayerNormalization", True, "XLA"),
    ("BatchNormalization", True, "FusedBatchNormV3"),
]
if kernels.has_onednn():
    FUSED_NODES += [("LayerNormalization-large", False, "PlaceholderWithDefault")]


@pytest.mark.parametrize(("label", "training", "node"), FUSED_NODES)
def test_reference_kernels_switches_fused_kernels_off(label, training, node):
    import tensorflow as tf

    case = CASE[label]
    x = tf.constant(case.inputs())
    model = model_of(case, "float32")
    assert node in node_types(traced(model, training), x)
    with kernels.reference_kernels():
        assert node not in node_types(traced(model, training), x)


@cases
@modes
def test_graph_of_unknown_batch_takes_any_batch(case, training):
    assert_takes_any_batch(case, training, "float32", 1e-4)


@pytest.mark.parametrize(("case", "training"), IN_BFLOAT16[-4:] + IN_BFLOAT16[:3])
def test_graph_of_unknown_batch_takes_any_batch_in_bfloat16(case, training, fast_bfloat16):
    assert_takes_any_batch(case, training, "mixed_bfloat16", 2**-5)


def assert_takes_any_batch(case, training, dtype, tolerance):
    """A graph for any number of images computes the same as the reference implementation."""
    import tensorflow as tf

    model = model_of(case, dtype)
    run = tf.function(
        lambda x: model(x, training=training),
        input_signature=[tf.TensorSpec((None, *case.shape[1:]), model.input.dtype)],
    )
    before = model.get_weights()
    for batch in (0, 1, 5):
        if training and batch == 0 and case.layer in (layers.ConvMixerBlock, BatchNormalization):
            continue  # because the mean over an empty batch is NaN
        x = tf.cast(case.inputs(batch), model.input.dtype)
        (found,) = to_float64([run(x)])
        if batch == 0:  # only the shape, because an eager convolution of oneDNN fails here
            assert found.shape == (0, *model.output_shape[1:])
            continue
        model.set_weights(before)
        (expected,) = to_float64([model(x, training=training)])
        np.testing.assert_allclose(found, expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize(
    ("change", "dtype"),
    [
        *((change, "float32") for change in ("lora", "int8", "call", "activation", "regularizer")),
        ("lora", "mixed_bfloat16"),
    ],
)
def test_mlp_respects_changes_to_dense_layers(change, dtype, fast_bfloat16):
    import tensorflow as tf

    case = CASE["ChannelMixing-gelu"]
    model = model_of(case, dtype)
    fc1 = model.get_layer("it").fc1
    x = tf.cast(case.inputs(), model.input.dtype)
    tolerance = 1e-5 if dtype == "float32" else 2**-5

    def run():
        return tf.function(lambda x: [model(x, training=True), *model.losses])(x)

    before = to_float64(run())
    if change == "lora":
        fc1.enable_lora(2)
        fc1.lora_kernel_b.assign(np.ones((2, 12)))
    elif change == "int8":
        fc1.quantize("int8")
    elif change == "call":
        fc1.call = lambda x, training=None: keras.ops.zeros((*x.shape[:-1], 12))
    elif change == "activation":
        fc1.activation = keras.activations.relu
    else:
        fc1.activity_regularizer = keras.regularizers.L2(0.1)

    with kernels.reference_kernels():
        reference = to_float64(run())
    assert len(reference) > len(before) or relative_error(before, reference) > 10 * tolerance
    assert relative_error(to_float64(run()), reference) < tolerance


def test_frozen_batch_norm_keeps_its_moving_averages():
    """In training too it normalizes by them and does not update them."""
    case = LayerCase(BatchNormalization, {}, (3, 6, 7, 8))
    model = model_of(case, "float32")
    model.trainable = False
    before = model.get_weights()
    x = case.inputs()
    found = traced(model, True)(x)[0]
    np.testing.assert_allclose(found, model(x, training=False), rtol=1e-5, atol=1e-5)
    for weight, value in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(weight, value)


def test_fused_kernels_need_a_float32_graph():
    import tensorflow as tf

    assert kernels.find("dense", tf.zeros(1)) is None  # an eager call
    found = []

    @tf.function
    def ask(x):
        found.append(kernels.find("dense", x) is not None)
        return x

    for dtype in ("float32", "float64", "bfloat16"):
        ask(tf.zeros(1, dtype))
    assert found == [True, False, False]


@pytest.mark.parametrize(
    ("label", "dtype", "tolerance"),
    [
        ("ChannelMixing-gelu", "float32", 1e-5),
        ("MultiHeadSelfAttention", "float32", 1e-5),
        ("MultiHeadSelfAttention-rotary", "float32", 1e-5),
        ("LayerNormalization", "float32", 1e-5),
        ("RMSNormalization", "float32", 1e-5),
        ("ChannelMixing-gelu", "mixed_bfloat16", 2**-3),
        ("LayerNormalization", "mixed_bfloat16", 2**-3),
        ("RMSNormalization", "mixed_bfloat16", 2**-3),
    ],
)
def test_second_derivatives_are_correct(label, dtype, tolerance, fast_bfloat16):
    """A gradient penalty, for example, differentiates the gradient of the input."""
    import tensorflow as tf

    case = CASE[label]

    def penalty(model, x):
        with tf.GradientTape() as outer:
            outer.watch(x)
            with tf.GradientTape() as inner:
                inner.watch(x)
                loss = tf.reduce_sum(model(x, training=True) ** 3)
            size = tf.reduce_sum(tf.cast(inner.gradient(loss, x), "float64") ** 2)
        return [size, outer.gradient(size, x)]

    model = model_of(case, dtype)
    exact = model_of(case, "float64", model.get_weights())
    x = tf.cast(case.inputs(), model.input.dtype)
    found = to_float64(tf.function(lambda x: penalty(model, x))(x))
    expected = to_float64(penalty(exact, tf.cast(x, "float64")))
    assert relative_error(found, expected) < tolerance


@pytest.mark.parametrize(
    ("label", "training"),
    [
        ("LayerNormalization", True),
        ("RMSNormalization", True),
        ("ConvMixerBlock", True),
        ("ConvMixerBlock-even", False),
        ("ConvMixerBlock-large", False),
    ],
)
def test_fused_kernels_take_weights_in_bfloat16(label, training, fast_bfloat16):
    """Those of the policy `"bfloat16"`, which has no float32 weights."""
    model = model_of(CASE[label], "bfloat16")
    exact = model_of(CASE[label], "float64", model.get_weights())
    x = CASE[label].inputs()
    found = traced(model, training)(x.astype(model.input.dtype))
    assert {tensor.dtype.name for tensor in found} == {"bfloat16"}
    expected = to_float64(traced(exact, training)(x.astype("float64")))
    assert relative_error(to_float64(found), expected) < 2**-4


def test_recomputed_branch_in_bfloat16_has_the_same_gradients(fast_bfloat16):
    """The backward pass recomputes the branch by the same kernels."""
    import tensorflow as tf

    (case,) = (case for case, _ in IN_BFLOAT16 if case.layer is layers.Residual)
    stored = model_of(case, "mixed_bfloat16")
    again = LayerCase(case.layer, {**case.arguments, "gradient_checkpointing": True}, case.shape)
    recomputed = model_of(again, "mixed_bfloat16", stored.get_weights())
    x = tf.cast(case.inputs(), "bfloat16")
    found, expected = (to_float64(traced(model, True)(x)) for model in (recomputed, stored))
    assert relative_error(found, expected) < 2**-9


WITH_ONEDNN = [
    *("ChannelMixing-gelu", "ChannelMixing-large", "ChannelMixing-gated", "TokenMixing"),
    *("SpatialGating", "MultiHeadSelfAttention", "MultiHeadSelfAttention-rotary"),
    *("ConvMixerBlock-even", "ConvMixerBlock-large", "PatchEmbed", "BatchNormalization"),
]


@pytest.mark.skipif(kernels.has_onednn(), reason="this is the process with oneDNN")
@pytest.mark.slow
def test_fused_kernels_with_onednn():
    """Run these tests in a process with oneDNN, which the suite switches off and users have."""
    assert CASE.keys() >= set(WITH_ONEDNN)
    # One fused kernel needs oneDNN: LayerNormalization at inference. Of the others, one case each.
    inference = " or ".join(f"any_batch[inference-{label}]" for label in WITH_ONEDNN)
    chosen = f"LayerNormalization or {inference}"
    command = [sys.executable, "-m", "pytest", "-q", __file__, "-k", chosen]
    env = {**os.environ, "TF_ENABLE_ONEDNN_OPTS": "1"}
    env.pop("XLA_FLAGS", None)  # because tests/run.sh reduces XLA's optimization
    ended = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout


CONVOLUTIONS = [
    (CASE["ConvMixerBlock"], True),
    (CASE["ConvMixerBlock-even"], True),
    (CASE["ConvMixerBlock-large"], False),
    (LayerCase(Activation, {"activation": "gelu"}, (3, 24, 24, 20)), True),
    (LayerCase(Activation, {"activation": "gelu"}, (3, 24, 24, 20)), False),
]


@pytest.mark.parametrize(
    ("case", "training"),
    CONVOLUTIONS,
    ids=lambda value: value.id if isinstance(value, LayerCase) else f"training={value}",
)
def test_convolution_kernels_in_bfloat16_are_near_float64(case, training, fast_bfloat16):
    """The inputs are numbers of bfloat16; the parameters are in float32."""
    model = model_of(case, "mixed_bfloat16")
    exact = model_of(case, "float64", model.get_weights())
    x = keras.ops.cast(case.inputs(), "bfloat16")
    found = to_float64(traced(model, training)(x))
    expected = to_float64(traced(exact, training)(keras.ops.cast(x, "float64")))
    # Numbers have 8 significant bits. Without oneDNN, TensorFlow also rounds the partial sums of
    # convolutions.
    assert relative_error(found, expected) < 2**-3
    assert rms_error(found, expected) < 2**-4
    for weight, other in zip(model.weights, exact.weights, strict=True):
        # Statistics are in float32.
        np.testing.assert_allclose(weight.numpy(), other.numpy(), rtol=2**-8, atol=2**-10)


def test_inference_of_activation_without_kernel_is_fused():
    case = LayerCase(
        layers.ConvMixerBlock, {"kernel_size": 5, "activation": "relu"}, (3, 24, 24, 20)
    )
    test_fused_kernels_equal_reference_in_float64(case, training=False)
    assert "XLA" in node_types(traced(model_of(case, "float32"), False), case.inputs())

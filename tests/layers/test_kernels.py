"""TensorFlow's faster forms: they compute what the plain ones do, and stand in where they may."""

import os
import subprocess
import sys

import keras
import numpy as np
import pytest
from cases import LayerCase, random_weights

from keras_mixers import layers
from keras_mixers.layers import kernels
from keras_mixers.layers.norms import BatchNormalization, LayerNormalization

pytestmark = pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="TensorFlow only")
LARGE = (3, 96, 128)  # for the forms that small inputs are not worth
CASES = [
    LayerCase(layers.ChannelMixing, {"mlp_dim": 12}, (3, 6, 8), "gelu"),
    LayerCase(layers.ChannelMixing, {"mlp_dim": 12, "activation": "gelu_tanh"}, (3, 6, 8), "tanh"),
    LayerCase(layers.ChannelMixing, {"mlp_dim": 12, "activation": "silu"}, (3, 2, 3, 8), "silu"),
    LayerCase(layers.ChannelMixing, {"mlp_dim": 12, "gated": True}, (3, 6, 8), "gated"),
    LayerCase(layers.TokenMixing, {"tokens_mlp_dim": 5}, (3, 6, 8)),
    LayerCase(layers.SpatialGating, {"mlp_dim": 12}, (3, 6, 8)),
    LayerCase(layers.MultiHeadSelfAttention, {"num_heads": 2}, (3, 6, 8)),
    LayerCase(layers.MultiHeadSelfAttention, {"num_heads": 2, "head_dim": 3}, (3, 6, 8), "narrow"),
    LayerCase(layers.MultiHeadSelfAttention, {"num_heads": 2, "qk_norm": True}, (3, 6, 8), "norm"),
    LayerCase(layers.AttentionPooling, {"num_heads": 2, "mlp_dim": 12}, (3, 6, 8)),
    LayerCase(layers.ConvMixerBlock, {"kernel_size": 5}, (3, 6, 7, 8)),
    LayerCase(layers.ConvMixerBlock, {"kernel_size": (2, 4)}, (3, 6, 7, 8), "even"),
    LayerCase(LayerNormalization, {"epsilon": 1e-3}, (3, 6, 8)),
    LayerCase(LayerNormalization, {"epsilon": 1e-6}, LARGE, "large"),
    LayerCase(BatchNormalization, {"momentum": 0.7, "epsilon": 1e-3}, (3, 6, 7, 8)),
    LayerCase(layers.ConvMixerBlock, {"kernel_size": 5}, (3, 24, 24, 20), "large"),
]
cases = pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
learning = pytest.mark.parametrize("training", [True, False], ids=["training", "inference"])


def made(case, dtype, weights=None):
    """A model of one layer with random weights, or given ones."""
    inputs = keras.Input(case.shape[1:], dtype=dtype)
    model = keras.Model(inputs, case.make(dtype=dtype, name="it")(inputs))
    random_weights(model)
    if weights:
        model.set_weights(weights)
    return model


def traced(model, training):
    """A graph of outputs and of gradients for inputs and weights."""
    import tensorflow as tf

    @tf.function
    def run(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = model(x, training=training)
            uneven = tf.sin(tf.reshape(tf.range(1.0, tf.size(y, "float32") + 1), tf.shape(y)))
            loss = tf.reduce_sum(y * tf.cast(uneven, y.dtype))
        return [y, *tape.gradient(loss, [x, *(v.value for v in model.trainable_variables)])]

    return run


def relative(found, exact):
    """The largest difference, as a share of the largest number in its array or of 0.1."""
    return max(
        np.abs(a - b).max() / max(np.abs(b).max(), 0.1) for a, b in zip(found, exact, strict=True)
    )


def numbers(tensors):
    return [np.asarray(tensor, "float64") for tensor in tensors]


@cases
@learning
def test_values_and_gradients_are_those_of_the_plain_form_in_float64(case, training):
    model = made(case, "float32")
    exact = made(case, "float64", model.get_weights())
    x = case.inputs()
    found = numbers(traced(model, training)(x))
    assert relative(found, numbers(traced(exact, training)(x.astype("float64")))) < 1e-5
    left_behind = numbers(weight.value for weight in model.weights)
    assert relative(left_behind, numbers(weight.value for weight in exact.weights)) < 1e-6


@learning
def test_long_sequences_take_one_image_at_a_time(training, monkeypatch):
    from keras_mixers.layers.kernels.tensorflow_cpu import softmax_attention

    monkeypatch.setattr(softmax_attention, "LONG", 7)
    case = LayerCase(layers.MultiHeadSelfAttention, {"num_heads": 2}, (3, 7, 8))
    test_values_and_gradients_are_those_of_the_plain_form_in_float64(case, training)
    graph = traced(made(case, "float32"), training).get_concrete_function(case.inputs()).graph
    weights = [t for op in graph.get_operations() for t in op.outputs if t.shape[-2:] == (7, 7)]
    assert not weights  # not in the graph, but inside the loop that it calls


def kinds(function, x):
    """The kinds of nodes in a graph and its functions, and "XLA" if that compiles any of them."""
    graph = function.get_concrete_function(x).graph.as_graph_def()
    nodes = [*graph.node, *(node for f in graph.library.function for node in f.node_def)]
    compiled = [each for each in nodes if "_XlaCompile" in each.attr]
    compiled += [each for each in graph.library.function if "_XlaMustCompile" in each.attr]
    return {node.op for node in nodes} | ({"XLA"} if compiled else set())


# What a graph has that was made by a fast form: a kind of node, or a part that XLA compiles.
SIGNS = [
    (CASES[0], True, "XLA"),
    (CASES[6], False, "Unpack"),
    (CASES[10], True, "FusedBatchNormV3"),
    (CASES[15], False, "XLA"),
    (CASES[12], True, "XLA"),
    *([(CASES[13], False, "PlaceholderWithDefault")] if kernels.has_onednn() else []),
    (CASES[14], True, "FusedBatchNormV3"),
]


@pytest.mark.parametrize(
    "case, training, sign", SIGNS, ids=lambda each: getattr(each, "id", f"{each}")
)
def test_the_fast_form_stands_in_and_the_plain_one_when_asked(case, training, sign):
    import tensorflow as tf

    x = tf.constant(case.inputs())
    model = made(case, "float32")
    assert sign in kinds(traced(model, training), x)
    with kernels.reference_kernels():
        assert sign not in kinds(traced(model, training), x)


@cases
@learning
def test_any_batch_of_a_graph_that_knows_none(case, training):
    import tensorflow as tf

    model = made(case, "float32")
    run = tf.function(
        lambda x: model(x, training=training),
        input_signature=[tf.TensorSpec((None, *case.shape[1:]))],
    )
    before = model.get_weights()
    for batch in (0, 1, 5):
        if training and batch == 0 and case.layer in (layers.ConvMixerBlock, BatchNormalization):
            continue  # the mean of nothing
        x = case.inputs(batch)
        found = np.asarray(run(x))
        model.set_weights(before)
        np.testing.assert_allclose(
            found, np.asarray(model(x, training=training)), rtol=1e-4, atol=1e-4
        )


@pytest.mark.parametrize("change", ["lora", "int8", "call", "activation", "regularizer"])
def test_a_dense_layer_that_a_user_has_changed_stays_changed(change):
    import tensorflow as tf

    case = LayerCase(layers.ChannelMixing, {"mlp_dim": 12}, (3, 6, 8))
    model = made(case, "float32")
    fc1 = model.get_layer("it").fc1
    x = tf.constant(case.inputs())

    def run():
        return tf.function(lambda x: [model(x, training=True), *model.losses])(x)

    before = numbers(run())
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
        plain = numbers(run())
    assert len(plain) > len(before) or relative(before, plain) > 1e-4
    assert relative(numbers(run()), plain) < 1e-5


def test_frozen_batch_norms_use_and_keep_their_averages():
    case = LayerCase(BatchNormalization, {}, (3, 6, 7, 8))
    model = made(case, "float32")
    model.trainable = False
    before = model.get_weights()
    x = case.inputs()
    found = traced(model, True)(x)[0]
    np.testing.assert_allclose(found, model(x, training=False), rtol=1e-5, atol=1e-5)
    for weight, value in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(weight, value)


def test_other_dtypes_and_eager_calls_are_plain():
    import tensorflow as tf

    assert kernels.fused_kernels(tf.zeros(1)) is None  # eagerly
    seen = []

    @tf.function
    def look(x):
        seen.append(kernels.fused_kernels(x) is not None)
        return x

    for dtype in ("float32", "float64", "bfloat16"):
        look(tf.zeros(1, dtype))
    assert seen == [True, False, False]


@pytest.mark.parametrize("case", [CASES[i] for i in (0, 6, 12)], ids=lambda case: case.id)
def test_gradients_have_gradients(case):
    """As a penalty on gradients asks for."""
    import tensorflow as tf

    def penalty(model, x):
        with tf.GradientTape() as outer:
            outer.watch(x)
            with tf.GradientTape() as inner:
                inner.watch(x)
                loss = tf.reduce_sum(model(x, training=True) ** 3)
            size = tf.reduce_sum(inner.gradient(loss, x) ** 2)
        return [size, outer.gradient(size, x)]

    model = made(case, "float32")
    exact = made(case, "float64", model.get_weights())
    x = tf.constant(case.inputs())
    found = numbers(tf.function(lambda x: penalty(model, x))(x))
    assert relative(found, numbers(penalty(exact, tf.cast(x, "float64")))) < 1e-5


@pytest.mark.skipif(kernels.has_onednn(), reason="this is the process with oneDNN")
def test_the_same_with_kernels_of_onednn():
    """The suite does without them elsewhere; here a process has them, as users do."""
    chosen = "LayerNormalization or (any_batch and inference)"  # the form that is oneDNN's alone
    command = [sys.executable, "-m", "pytest", "-q", __file__, "-k", chosen]
    env = {**os.environ, "TF_ENABLE_ONEDNN_OPTS": "1"}
    ended = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout

"""What every layer owes Keras: configs, shapes, dtypes, compilation, gradients, seeds."""

import inspect
import json

import backends
import keras
import numpy as np
import pytest
from cases import FULL, LAYERS
from keras import ops

from keras_mixers import layers

ids = pytest.mark.parametrize("case", LAYERS, ids=lambda case: case.id)
full = pytest.mark.parametrize("case", FULL, ids=lambda case: case.id)


def rebuilt(layer):
    return type(layer).from_config(json.loads(json.dumps(layer.get_config())))


def parameters(layer):
    signature = inspect.signature(layer.__init__).parameters.values()
    return {p.name: p for p in signature if p.name != "self" and p.kind is not p.VAR_KEYWORD}


def as_numpy(x):
    return np.asarray(ops.convert_to_numpy(x), "float64")


def test_every_layer_has_a_case():
    exported = {getattr(layers, name) for name in layers.__all__}
    exported = {thing for thing in exported if inspect.isclass(thing)}
    assert exported == {case.layer for case in LAYERS}


@ids
def test_config_round_trip(case):
    layer = case.make(name="some_name", trainable=False)
    again = rebuilt(layer)
    assert again.get_config() == layer.get_config()
    assert again.name == "some_name"
    assert not again.trainable


@full
def test_config_is_complete_and_minimal(case):
    layer = case.make()
    wanted = parameters(case.layer)
    assert set(layer.get_config()) == {*wanted, "name", "trainable", "dtype"}
    assert set(case.arguments) == set(wanted), "the first case of a layer sets every argument"
    again = rebuilt(layer)
    for name, parameter in wanted.items():
        kept = getattr(layer, name)
        assert kept != parameter.default, f"{name} is at its default: the case shows nothing"
        if isinstance(kept, keras.layers.Layer):
            assert getattr(again, name).get_config() == kept.get_config()
        else:
            assert getattr(again, name) == kept
            assert type(getattr(again, name)) is type(kept)


@ids
def test_symbolic_eager_and_inferred_agree(case):
    x = case.inputs()
    eager = case.make()(x)
    symbolic = case.make()(keras.Input(batch_shape=case.shape))
    inferred = case.make().compute_output_spec(keras.KerasTensor(case.shape))
    assert tuple(eager.shape) == tuple(symbolic.shape) == tuple(inferred.shape)
    assert keras.backend.standardize_dtype(eager.dtype) == symbolic.dtype == inferred.dtype


@ids
@pytest.mark.parametrize("batch", [0, 1, 3])
def test_any_batch(case, batch):
    inputs = keras.Input(case.shape[1:])
    model = keras.Model(inputs, case.make()(inputs))
    assert model.output.shape[0] is None
    x = case.inputs(batch)
    y = as_numpy(model(x))
    assert y.shape == (batch, *model.output.shape[1:])
    if batch:  # a sample's answer does not depend on its neighbours
        alone = as_numpy(model(x[:1]))
        np.testing.assert_allclose(y[:1], alone, atol=1e-6)


@pytest.mark.parametrize(
    "case", [c for c in LAYERS if c.layer is layers.MultiHeadSelfAttention], ids=lambda c: c.id
)
def test_attention_takes_an_unknown_number_of_tokens(case):
    inputs = keras.Input((None, case.shape[-1]))
    model = keras.Model(inputs, case.make()(inputs))
    for tokens in (3, 5):
        x = np.random.default_rng(0).normal(size=(2, tokens, case.shape[-1])).astype("float32")
        np.testing.assert_allclose(
            as_numpy(model(x)), as_numpy(model.layers[1](ops.convert_to_tensor(x))), atol=1e-6
        )


@pytest.mark.parametrize("layer", [layers.TokenMixing(4), layers.SpatialGating(4)])
def test_an_unknown_number_of_tokens_is_refused(layer):
    with pytest.raises(ValueError, match="one weight for each token.*input_shape"):
        layer(keras.Input((None, 8)))


POLICIES = {
    "mixed_float16": 2e-2,
    "mixed_bfloat16": 2e-1,
    "bfloat16": 2e-1,
}


@ids
@pytest.mark.parametrize(
    ("policy", "given"),
    [
        ("mixed_float16", "global"),
        ("mixed_float16", "string"),
        ("mixed_bfloat16", "object"),
        ("bfloat16", "string"),
    ],
)
def test_dtype_policies(case, policy, given):
    x = case.inputs()
    reference = case.make()
    expected = as_numpy(reference(x))

    if given == "global":
        keras.config.set_dtype_policy(policy)
        layer = case.make()
    else:
        dtype = policy if given == "string" else keras.DTypePolicy(policy)
        more = {}
        if case.layer is layers.Residual:
            more["mixer"] = layers.ChannelMixing(12, name="mixer", dtype=dtype)
        layer = case.make(dtype=dtype, **more)
    y = layer(x)
    compute, variable = layer.compute_dtype, layer.variable_dtype
    assert keras.backend.standardize_dtype(y.dtype) == compute != "float32"
    layers_inside = layer._flatten_layers()
    assert {inner.dtype_policy.name for inner in layers_inside} == {policy}
    assert {weight.dtype for weight in layer.trainable_weights} <= {variable}

    layer.set_weights(reference.get_weights())
    y = as_numpy(ops.cast(layer(x), "float32"))
    scale = max(1.0, np.abs(expected).max())
    np.testing.assert_allclose(y, expected, atol=POLICIES[policy] * scale)
    # and through a file's config, where the sub-layers are made anew
    again = rebuilt(layer)
    again(x)
    assert {inner.dtype_policy.name for inner in again._flatten_layers()} == {policy}


@ids
def test_compiled_equals_eager(case):
    inputs = keras.Input(case.shape[1:])
    layer = case.make()
    layer.supports_jit = True  # slow is no excuse for wrong
    model = keras.Model(inputs, layer(inputs))
    x = case.inputs()
    answers = {}
    for how in ({"jit_compile": True}, {"jit_compile": False}, {"run_eagerly": True}):
        model.compile(**how)
        answers[str(how)] = model.predict(x, verbose=0)
    first, *others = answers.values()
    for other in others:
        np.testing.assert_allclose(first, other, atol=2e-6)


@ids
def test_gradients_reach_every_weight(case):
    found = backends.gradients(case.make(), ops.convert_to_tensor(case.inputs()))
    for path, gradient in found.items():
        assert gradient is not None, path
        assert np.isfinite(gradient).all(), path
        assert np.abs(gradient).max() > 0, path


@ids
@pytest.mark.skipif(keras.backend.backend() == "jax", reason="JAX has no float64 by default")
def test_gradients_equal_finite_differences(case):
    more = {"dtype": "float64"}
    if case.layer is layers.Residual:
        more["mixer"] = layers.ChannelMixing(12, name="mixer", dtype="float64")
    layer = case.make(**more)
    x = ops.convert_to_tensor(case.inputs(dtype="float64"))
    found = backends.gradients(layer, x)
    generator = np.random.default_rng(1)
    count = int(np.prod(layer(x).shape))
    uneven = np.sin(np.arange(1, 1 + count, dtype="float64")).reshape(layer(x).shape)

    def loss():
        return float(np.sum(as_numpy(layer(x)) ** 2 * uneven))

    for variable in layer.trainable_variables:
        before = variable.numpy()
        direction = generator.normal(size=before.shape)
        step = 1e-6
        variable.assign(before + step * direction)
        above = loss()
        variable.assign(before - step * direction)
        below = loss()
        variable.assign(before)
        expected = np.sum(found[variable.path] * direction)
        np.testing.assert_allclose((above - below) / (2 * step), expected, rtol=1e-5, atol=1e-7)


@ids
def test_no_two_kernels_are_born_equal(case):
    layer = case.make()
    layer(case.inputs())
    kernels = [w for w in layer.weights if w.dtype.startswith("float") and np.ptp(w.numpy()) > 0]
    for i, one in enumerate(kernels):
        for other in kernels[i + 1 :]:
            small = min(one.numpy().size, other.numpy().size)
            assert not np.array_equal(one.numpy().ravel()[:small], other.numpy().ravel()[:small]), (
                one.path,
                other.path,
            )


@ids
def test_same_seed_same_weights_and_drops(case):
    runs = []
    for _ in range(2):
        keras.utils.set_random_seed(5)
        layer = case.make()
        y = as_numpy(layer(case.inputs(), training=True))
        runs.append((layer.get_weights(), y))
    for one, other in zip(runs[0][0], runs[1][0], strict=True):
        np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(runs[0][1], runs[1][1])


@ids
def test_masks_are_refused(case):
    layer = case.make()
    x = ops.convert_to_tensor(case.inputs())
    keras.src.backend.set_keras_mask(x, ops.ones(case.shape[:2], "bool"))
    with pytest.raises(ValueError, match=f"'{layer.name}'.*takes no mask"):
        layer(x)


@ids
def test_unknown_argument_is_refused(case):
    with pytest.raises(ValueError, match="hiden_dim"):
        case.make(hiden_dim=3)

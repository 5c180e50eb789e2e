"""What Keras expects of every layer: config, shapes, dtypes, compilation, gradients, seeds."""

import functools
import inspect
import json

import keras
import numpy as np
import pytest
from backends import ON_JAX, ON_TORCH, WAYS, compute, gradients
from cases import FULL, LAYERS
from keras import ops

from keras_mixers import layers

# JAX and torch run one case of each layer, because the layers consist of the same operations of
# Keras. There test_meaning.py computes every score, and the tests of goldens the kinds of rotary.
CASES = FULL if ON_JAX or ON_TORCH else LAYERS
cases = pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
attentions = pytest.mark.parametrize(
    "case", [c for c in CASES if c.layer is layers.MultiHeadSelfAttention], ids=lambda c: c.id
)
full = pytest.mark.parametrize("case", FULL, ids=lambda case: case.id)


def from_json(layer):
    return type(layer).from_config(json.loads(json.dumps(layer.get_config())))


def constructor_arguments(layer):
    signature = inspect.signature(layer.__init__).parameters.values()
    return {p.name: p for p in signature if p.name != "self" and p.kind is not p.VAR_KEYWORD}


def as_numpy(x):
    return ops.convert_to_numpy(x).astype("float64")


def test_every_layer_has_a_case():
    exported = {getattr(layers, name) for name in layers.__all__}
    exported = {each for each in exported if inspect.isclass(each)} - {layers.Rotary}
    assert exported == {case.layer for case in LAYERS}


@cases
def test_config_round_trip(case):
    layer = case.make(name="some_name", trainable=False)
    loaded = from_json(layer)
    assert loaded.get_config() == layer.get_config()
    assert loaded.name == "some_name"
    assert not loaded.trainable


@full
def test_config_is_complete_and_minimal(case):
    layer = case.make()
    arguments = constructor_arguments(case.layer)
    assert set(layer.get_config()) == {*arguments, "name", "trainable", "dtype"}
    assert set(case.arguments) == set(arguments), "the first case of a layer sets every argument"
    loaded = from_json(layer)
    for name, argument in arguments.items():
        value = getattr(layer, name)
        assert value != argument.default, f"{name} has its default value, which tests nothing"
        if isinstance(value, keras.layers.Layer):
            assert getattr(loaded, name).get_config() == value.get_config()
        else:
            assert getattr(loaded, name) == value
            assert type(getattr(loaded, name)) is type(value)


@cases
def test_symbolic_eager_and_inferred_outputs_agree(case):
    x = case.inputs()
    eager = case.make()(x)
    symbolic = case.make()(keras.Input(batch_shape=case.shape))
    inferred = case.make().compute_output_spec(keras.KerasTensor(case.shape))
    assert tuple(eager.shape) == tuple(symbolic.shape) == tuple(inferred.shape)
    assert keras.backend.standardize_dtype(eager.dtype) == symbolic.dtype == inferred.dtype


@attentions
def test_symbolic_eager_and_inferred_scores_agree(case):
    eager = case.make()(case.inputs(), return_attention_scores=True)
    symbolic = case.make()(keras.Input(batch_shape=case.shape), return_attention_scores=True)
    inferred = case.make().compute_output_spec(
        keras.KerasTensor(case.shape), return_attention_scores=True
    )
    for one, two, three in zip(eager, symbolic, inferred, strict=True):
        assert tuple(one.shape) == tuple(two.shape) == tuple(three.shape)
        assert keras.backend.standardize_dtype(one.dtype) == two.dtype == three.dtype


@cases
@pytest.mark.parametrize("batch", [0, 3])
def test_layer_takes_any_batch_size(case, batch):
    """The output for a sample does not depend on the other samples of the batch."""
    inputs = keras.Input(case.shape[1:])
    model = keras.Model(inputs, case.make()(inputs))
    assert model.output.shape[0] is None
    x = case.inputs(batch)
    if not batch and ON_TORCH and case.layer is layers.FourierMixing:
        pytest.skip(reason="torch has no Fourier transform of an empty batch")
    y = as_numpy(compute(model, x))
    assert y.shape == (batch, *model.output.shape[1:])
    if batch:
        np.testing.assert_allclose(y[:1], as_numpy(compute(model, x[:1])), atol=1e-6)


# These layers have a weight or a position for each token, or need the size of the image.
FIXED = {"TokenMixing", "SpatialGating", "PositionEmbedding", "PoolMixing", "PatchEmbed"}
ANY_TOKENS = [
    case
    for case in CASES
    if case.layer.__name__ not in FIXED | {"ConvMixerBlock"} and "rotary" not in case.arguments
]


@pytest.mark.parametrize("case", ANY_TOKENS, ids=lambda case: case.id)
def test_layer_takes_unknown_number_of_tokens(case):
    inputs = keras.Input((None, case.shape[-1]))
    model = keras.Model(inputs, case.make()(inputs))
    for tokens in (3,) if ON_JAX else (3, 5):  # because JAX compiles for each number
        x = np.random.default_rng(0).normal(size=(2, tokens, case.shape[-1])).astype("float32")
        np.testing.assert_allclose(
            as_numpy(compute(model, x)), as_numpy(compute(model.layers[1], x)), atol=1e-6
        )


@pytest.mark.parametrize("layer", [layers.TokenMixing(4), layers.SpatialGating(4)])
def test_unknown_number_of_tokens_raises(layer):
    with pytest.raises(ValueError, match="one weight for each token.*input_shape"):
        layer(keras.Input((None, 8)))


@pytest.mark.parametrize(
    "case", [c for c in FULL if c.layer.__name__ in FIXED - {"PatchEmbed"}], ids=lambda c: c.id
)
def test_built_layer_rejects_other_token_counts(case):
    layer = case.make(name="mine")
    layer(case.inputs())
    fewer = case.inputs()[:, :-1]
    with pytest.raises(ValueError, match="mine.*axis 1.*value"):
        layer(fewer)


def test_conv_mixer_block_takes_any_grid():
    inputs = keras.Input((None, None, 8))
    model = keras.Model(inputs, layers.ConvMixerBlock(3)(inputs))
    for grid in ((3, 5), (4, 2)):
        assert model(np.zeros((2, *grid, 8), "float32")).shape == (2, *grid, 8)


def test_select_token_checks_index_in_eager_calls():
    layer = layers.SelectToken(3)
    layer(np.zeros((2, 6, 8), "float32"))
    with pytest.raises(ValueError, match="index=3 for an input of 3 tokens"):
        layer(np.zeros((2, 3, 8), "float32"))


POLICIES = {
    "mixed_float16": 2e-2,
    "mixed_bfloat16": 2e-1,
    "bfloat16": 2e-1,
}
GIVEN = [
    ("mixed_float16", "global"),
    ("mixed_bfloat16", "object"),
    ("bfloat16", "string"),
    ("mixed_float16", "string"),
]


@functools.cache
def reference_of(case_id):
    """The weights and the output of a case in float32, which each policy is compared with."""
    (case,) = (case for case in LAYERS if case.id == case_id)
    layer = case.make()
    output = as_numpy(compute(layer, case.inputs()))
    return layer.get_weights(), output


@cases
# On JAX one policy, to save time; TensorFlow runs all.
@pytest.mark.parametrize(("policy", "given"), GIVEN[1:2] if ON_JAX else GIVEN)
def test_dtype_policies(case, policy, given):
    x = case.inputs()
    weights, expected = reference_of(case.id)
    if given == "global":
        keras.config.set_dtype_policy(policy)
        layer = case.make()
    else:
        dtype = policy if given == "string" else keras.DTypePolicy(policy)
        more = {}
        if case.layer is layers.Residual:
            more["mixer"] = layers.ChannelMixing(12, name="mixer", dtype=dtype)
        layer = case.make(dtype=dtype, **more)
    layer(keras.Input(batch_shape=case.shape))
    layers_inside = layer._flatten_layers()
    assert {inner.dtype_policy.name for inner in layers_inside} == {policy}
    assert {weight.dtype for weight in layer.trainable_weights} <= {layer.variable_dtype}

    layer.set_weights(weights)
    y = compute(layer, x)
    assert keras.backend.standardize_dtype(y.dtype) == layer.compute_dtype != "float32"
    y = as_numpy(ops.cast(y, "float32"))
    scale = max(1.0, np.abs(expected).max())
    np.testing.assert_allclose(y, expected, atol=POLICIES[policy] * scale)
    # The config keeps the policy of the sublayers too.
    loaded = from_json(layer)
    loaded(keras.Input(batch_shape=case.shape))
    assert {inner.dtype_policy.name for inner in loaded._flatten_layers()} == {policy}


@cases
def test_compiled_layer_equals_eager_layer(case):
    inputs = keras.Input(case.shape[1:])
    layer = case.make()
    layer.supports_jit = True  # because XLA must be right even where it is slow
    model = keras.Model(inputs, layer(inputs))
    x = case.inputs()
    outputs = []
    for mode in WAYS:
        model.compile(**mode)
        outputs.append(model.predict(x, verbose=0))
    first, *others = outputs
    for other in others:
        np.testing.assert_allclose(first, other, atol=2e-6)


FUSED = {"qkv": "query key value", "key_value": "key value"}
# The key's bias adds one number to all scores of a query, which does not change their softmax.
WITHOUT_GRADIENT = {"qkv/bias key", "key_value/bias key"}


def parts(path, gradient):
    """Yield (name, gradient) of each part of a weight that joins several matrices."""
    layer, kind = path.split("/")[-2:] if "/" in path else ("", path)
    names = "query value" if kind == "query_value_bias" else FUSED.get(layer, "")
    names = names.split()
    if layer == "fc1" and gradient.shape[-1] % 2 == 0:  # gated; halving a plain one does no harm
        names = ["gate", "value"]
    for name, part in zip(names or [""], np.split(gradient, len(names) or 1, axis=-1), strict=True):
        yield f"{layer}/{kind} {name}".strip(), part


@cases
def test_gradients_reach_every_weight(case):
    found = gradients(case.make(), ops.convert_to_tensor(case.inputs()))
    for path, gradient in found.items():
        assert gradient is not None, path
        assert np.isfinite(gradient).all(), path
        # Each part separately, because one part's gradient could hide that another has none.
        for name, part in parts(path, gradient):
            if name not in WITHOUT_GRADIENT:
                assert np.abs(part).max() > 1e-7, (path, name)


@cases
@pytest.mark.skipif(ON_JAX, reason="JAX has no float64 by default")
@pytest.mark.skipif(ON_TORCH, reason="Keras computes products in float32 on torch")
def test_gradients_equal_finite_differences(case):
    more = {"dtype": "float64"}
    if case.layer is layers.Residual:
        more["mixer"] = layers.ChannelMixing(12, name="mixer", dtype="float64")
    layer = case.make(**more)
    x = ops.convert_to_tensor(case.inputs(dtype="float64"))
    found = gradients(layer, x)
    generator = np.random.default_rng(1)
    count = int(np.prod(layer(x).shape))
    factors = np.sin(np.arange(1, 1 + count, dtype="float64")).reshape(layer(x).shape)

    def loss():
        return float(np.sum(as_numpy(layer(x)) ** 2 * factors))

    for variable in layer.trainable_variables:
        before = np.array(variable.numpy())  # a copy, because torch shares the memory
        direction = generator.normal(size=before.shape)
        step = 1e-6
        variable.assign(before + step * direction)
        above = loss()
        variable.assign(before - step * direction)
        below = loss()
        variable.assign(before)
        expected = np.sum(found[variable.path] * direction)
        np.testing.assert_allclose((above - below) / (2 * step), expected, rtol=1e-5, atol=1e-7)


@pytest.mark.one_backend("Keras gives each initializer its seed on every backend alike")
@cases
def test_no_two_kernels_start_equal(case):
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


@cases
def test_same_seed_gives_same_weights_and_dropout(case):
    runs = []
    for _ in range(2):
        keras.utils.set_random_seed(5)
        layer = case.make()
        y = as_numpy(compute(layer, case.inputs(), training=True))
        runs.append((layer.get_weights(), y))
    for one, other in zip(runs[0][0], runs[1][0], strict=True):
        np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(runs[0][1], runs[1][1])


@pytest.mark.one_backend("Keras warns before it asks the backend")
@cases
def test_masked_input_warns(case):
    """Keras warns by itself, because no layer declares `supports_masking`."""
    layer = case.make()
    x = keras.Input(batch_shape=case.shape)
    keras.src.backend.set_keras_mask(x, keras.KerasTensor(case.shape[:2], dtype="bool"))
    with pytest.warns(UserWarning, match=f"'{layer.name}'.*does not support masking"):
        y = layer(x)
    assert keras.src.backend.get_keras_mask(y) is None


def test_masking_layer_changes_no_value():
    x = np.random.default_rng(0).normal(size=(2, 3, 8)).astype("float32")
    x[:, 1] = 0
    layer = layers.MultiHeadSelfAttention(2)
    expected = as_numpy(layer(x))
    with pytest.warns(UserWarning, match="does not support masking"):
        found = layer(keras.layers.Masking()(x))
    np.testing.assert_allclose(as_numpy(found), expected, atol=1e-6)


@cases
def test_unknown_argument_raises(case):
    with pytest.raises(ValueError, match="hiden_dim"):
        case.make(hiden_dim=3)

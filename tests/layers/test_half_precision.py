"""Half precision on CPUs: the choice of kernels, the warnings, and the change of the dtype."""

import warnings

import keras
import numpy as np
import pytest

from keras_mixers import layers
from keras_mixers.layers import kernels
from keras_mixers.layers.kernels import half_precision, processor

ON_TENSORFLOW = keras.backend.backend() == "tensorflow"
on_tensorflow = pytest.mark.skipif(not ON_TENSORFLOW, reason="the kernels are TensorFlow's")


@pytest.fixture(autouse=True)
def nothing_asked_before():
    """Let each test read the features of the processor and see its warnings."""
    processor.has_bfloat16.cache_clear()
    half_precision.warn_once.cache_clear()
    yield
    processor.has_bfloat16.cache_clear()
    half_precision.warn_once.cache_clear()


@pytest.fixture
def without_bfloat16(monkeypatch):
    monkeypatch.setattr(processor, "has_bfloat16", lambda: False)


@pytest.mark.one_backend("it reads a file")
@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("processor\t: 0\nflags\t\t: fpu avx512_bf16 avx512_vnni\nbugs\t\t: bf16", True),
        ("flags\t\t: fpu amx_bf16 amx_tile", True),
        ("Features\t: fp asimd bf16 i8mm", True),
        ("flags\t\t: fpu avx512f avx512_vnni\nbugs\t\t: bf16", False),
        (None, False),
    ],
)
def test_has_bfloat16_reads_the_features_of_the_processor(text, answer, tmp_path, monkeypatch):
    path = tmp_path / "cpuinfo"
    if text is not None:
        path.write_text(text)
    monkeypatch.setattr(processor, "CPU_INFO", path)
    assert processor.has_bfloat16() is answer


@on_tensorflow
@pytest.mark.one_backend("the fused kernels are TensorFlow's")
@pytest.mark.parametrize(
    ("onednn", "instructions", "chosen"),
    [(True, True, True), (True, False, False), (False, True, False)],
)
def test_fused_kernels_for_bfloat16_need_instructions_and_onednn(
    onednn, instructions, chosen, monkeypatch
):
    import tensorflow as tf

    monkeypatch.setattr(kernels, "has_onednn", lambda: onednn)
    monkeypatch.setattr(processor, "has_bfloat16", lambda: instructions)
    found = {}

    @tf.function
    def ask(x):
        found[x.dtype.name] = kernels.find("dense", x) is not None
        return x

    for dtype in ("float32", "bfloat16"):
        ask(tf.zeros(1, dtype))
    assert found == {"float32": True, "bfloat16": chosen}


def model_of(dtype):
    x = keras.Input((4, 8))
    return keras.Model(x, layers.ChannelMixing(8, dtype=dtype, name="it")(x))


def warnings_of(function):
    """The warnings about half precision that a call issues."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        function()
    return [str(each.message) for each in caught if "A layer computes" in str(each.message)]


def test_float16_on_a_cpu_warns_once_and_names_an_alternative(monkeypatch):
    monkeypatch.setattr(processor, "on_cpu", lambda x=None: True)
    model = model_of("mixed_float16")
    x = np.ones((2, 4, 8), "float32")
    for has_bfloat16, alternative in ((False, "policy 'float32'"), (True, "'mixed_bfloat16' or")):
        monkeypatch.setattr(processor, "has_bfloat16", lambda answer=has_bfloat16: answer)
        (message,) = warnings_of(lambda: model(x))
        assert alternative in message
        assert not warnings_of(lambda: model(x))


@on_tensorflow
def test_bfloat16_on_a_cpu_without_instructions_warns_once(without_bfloat16):
    import tensorflow as tf

    model = model_of("mixed_bfloat16")
    x = np.ones((2, 4, 8), "float32")
    (message,) = warnings_of(lambda: tf.function(model)(x))
    assert "mixed_bfloat16" in message
    assert "Use the dtype policy 'float32'" in message
    assert not warnings_of(lambda: tf.function(model)(x))


def test_no_warning_without_computation(without_bfloat16):
    for policy in ("mixed_float16", "mixed_bfloat16"):
        assert not warnings_of(lambda policy=policy: model_of(policy))
        with kernels.reference_kernels():
            model = model_of(policy)
            assert not warnings_of(lambda model=model: model(np.ones((2, 4, 8), "float32")))


@pytest.mark.one_backend("TensorFlow has the device")
@on_tensorflow
def test_no_warning_on_other_devices(without_bfloat16, monkeypatch):
    monkeypatch.setattr(processor, "on_cpu", lambda x=None: False)
    for policy in ("mixed_float16", "mixed_bfloat16"):
        model = model_of(policy)
        assert not warnings_of(lambda model=model: model(np.ones((2, 4, 8), "float32")))


@on_tensorflow
@pytest.mark.one_backend("the fused kernels are TensorFlow's")
def test_wide_and_narrow_equal_the_casts():
    """For every bfloat16 number, and for floats above, below and at the middle of two of them."""
    import ml_dtypes
    import tensorflow as tf

    from keras_mixers.layers.kernels.tensorflow_cpu import half

    every = np.arange(2**16, dtype="uint16").view(ml_dtypes.bfloat16)
    wide = tf.function(half.wide, jit_compile=True)
    np.testing.assert_array_equal(wide(every), every.astype("float32"))

    parts = [0x0000, 0x0001, 0x7FFF, 0x8000, 0x8001, 0xFFFF]
    bits = (np.arange(2**16, dtype="uint32") << 16)[:, None] + np.array(parts, "uint32")
    floats = bits.view("float32")
    narrow = tf.function(lambda y: half.narrow(y, tf.bfloat16), jit_compile=True)
    found = narrow(floats).numpy()
    assert found.dtype == ml_dtypes.bfloat16
    with np.errstate(invalid="ignore"):
        expected = floats.astype(ml_dtypes.bfloat16)
    nan = np.isnan(floats)
    np.testing.assert_array_equal(np.isnan(found), nan)
    np.testing.assert_array_equal(found[~nan].view("uint16"), expected[~nan].view("uint16"))


@on_tensorflow
@pytest.mark.one_backend("the fused kernels are TensorFlow's")
def test_wide_and_narrow_have_gradients():
    import tensorflow as tf

    from keras_mixers.layers.kernels.tensorflow_cpu import half

    x = tf.constant([1.5, -2.0], "bfloat16")
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = half.narrow(half.wide(x) ** 3, x.dtype)
    assert tape.gradient(y, x).dtype == "bfloat16"
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = half.narrow(half.wide(x) ** 3, x.dtype)
    np.testing.assert_array_equal(tape.gradient(y, x), [6.75, 12.0])
    assert half.wide(tf.constant(1.0)).dtype == half.narrow(tf.constant(1.0), tf.float32).dtype


# A layer, its arguments, and the shape of its input: many tokens, or many images.
WITH_VECTORS = [
    (layers.PatchEmbed, {"hidden_dim": 8, "patch_size": 2}, (4, 128, 128, 1)),
    (layers.ConvMixerBlock, {"kernel_size": 3, "activation": "relu"}, (4, 64, 64, 8)),
    (layers.ChannelMixing, {"mlp_dim": 8}, (4, 4096, 8)),
    (layers.ChannelMixing, {"mlp_dim": 8, "activation": "relu"}, (4, 4096, 8)),
    (layers.MultiHeadSelfAttention, {"num_heads": 1, "key_bias": False}, (512, 32, 8)),
    (layers.LayerScale, {"init": 1.0}, (4, 4096, 8)),
    (layers.PositionEmbedding, {"grid": 1}, (4096, 1, 8)),
    (layers.PrefixTokens, {}, (4096, 1, 8)),
]


@on_tensorflow
@pytest.mark.one_backend("TensorFlow's operator for biases adds in bfloat16")
@pytest.mark.parametrize("fused", [True, False], ids=["fused", "reference"])
@pytest.mark.parametrize(("layer", "arguments", "shape"), WITH_VECTORS)
def test_gradients_of_vectors_are_exact_for_many_tokens(
    layer, arguments, shape, fused, monkeypatch
):
    """In bfloat16 a sum of many numbers must not be rounded after each of them."""
    import tensorflow as tf

    monkeypatch.setattr(kernels, "has_fast_bfloat16", lambda: fused)
    random = np.random.default_rng(0)
    x = tf.cast(random.normal(size=shape), "bfloat16")
    made = {dtype: layer(**arguments, dtype=dtype) for dtype in ("mixed_bfloat16", "float64")}
    for each in made.values():
        each.build(shape)
        if hasattr(each, "norm1"):
            each.norm1.trainable = each.norm2.trainable = False  # or gradients of biases are 0
    made["float64"].set_weights(made["mixed_bfloat16"].get_weights())
    weights = [v.path for v in made["float64"].trainable_variables]
    vectors = [i for i, path in enumerate(weights) if not path.endswith("kernel")]
    assert vectors

    @tf.function
    def gradients(layer, x):
        with tf.GradientTape() as tape:
            y = layer(x, training=True)
        dy = tf.cast(2 + tf.sin(tf.range(tf.size(y, tf.float32))), y.dtype)
        found = tape.gradient(
            y, [layer.trainable_variables[i].value for i in vectors], tf.reshape(dy, y.shape)
        )
        return [tf.cast(each, "float64") for each in found]

    found = gradients(made["mixed_bfloat16"], x)
    exact = gradients(made["float64"], tf.cast(x, "float64"))
    for here, truth in zip(found, exact, strict=True):
        assert np.linalg.norm(here - truth) < 2**-5 * np.linalg.norm(truth)

"""Fused kernels for JAX on CPUs: they equal float64, and layers use them where they may."""

import math

import keras
import numpy as np
import pytest
from backends import ON_JAX, gradients
from keras import ops

from keras_mixers import layers
from keras_mixers.layers import kernels

pytestmark = pytest.mark.skipif(not ON_JAX, reason="JAX only")
# (height and width of the kernel, channels). More than 128 channels are computed in groups.
CONVOLUTIONS = [((5, 5), 6), ((2, 4), 6), ((1, 3), 256)]
# The largest error of one rounding, relative to the largest number.
ROUNDING = {"float32": 1e-6, "bfloat16": 2**-8}


def values(shape, seed, dtype="float32"):
    """Random numbers, rounded to a dtype, as float64 and as a tensor."""
    tensor = ops.cast(np.random.default_rng(seed).normal(size=shape), dtype)
    return np.asarray(tensor, "float64"), tensor


def shifted(x, sides):
    """Each place in a kernel, and the pixels that it multiplies: `(row, column), (N, H, W, D)`."""
    _, height, width, _ = x.shape
    pads = [((side - 1) // 2, side // 2) for side in sides]
    padded = np.pad(x, ((0, 0), *pads, (0, 0)))
    for place in np.ndindex(*sides):
        yield place, padded[:, place[0] : place[0] + height, place[1] : place[1] + width]


def convolution(x, kernel):
    return sum(part * kernel[place][:, 0] for place, part in shifted(x, kernel.shape[:2]))


def kernel_gradient(x, dy, sides):
    gradient = np.zeros((*sides, x.shape[-1], 1))
    for place, part in shifted(x, sides):
        gradient[place][:, 0] = (part * dy).sum((0, 1, 2))
    return gradient


def assert_close(found, exact, dtype):
    error = np.abs(np.asarray(found, "float64") - exact).max() / np.abs(exact).max()
    assert found.dtype == dtype and error < 2 * ROUNDING[dtype], error


@pytest.mark.parametrize("dtype", ROUNDING)
@pytest.mark.parametrize(("sides", "channels"), CONVOLUTIONS)
def test_depthwise_convolution_equals_float64(sides, channels, dtype):
    import jax

    from keras_mixers.layers.kernels import jax_cpu

    (x64, x), (dy64, dy) = (values((2, 4, 7, channels), seed, dtype) for seed in (0, 1))
    kernel64, kernel = values((*sides, channels, 1), 2, dtype)

    @jax.jit
    def run(x, kernel, dy):
        y, backward = jax.vjp(jax_cpu.depthwise_convolution, x, kernel)
        return y, *backward(dy)

    y, dx, d_kernel = run(x, kernel, dy)
    assert_close(y, convolution(x64, kernel64), dtype)
    assert_close(d_kernel, kernel_gradient(x64, dy64, sides), dtype)
    # `sum(dy * convolution(x))` is linear in x, and dx is its gradient.
    other = values(x.shape, 3)[0]
    product = (dy64 * convolution(other, kernel64)).sum()
    size = np.abs(dy64).sum() * np.abs(kernel64).max()
    assert abs((np.asarray(dx, "float64") * other).sum() - product) < ROUNDING[dtype] * size


def reference_convolution(x, kernel):
    return keras.ops.depthwise_conv(x, kernel, padding="same", data_format="channels_last")


def test_depthwise_convolution_has_second_derivatives_in_both_modes():
    import jax

    from keras_mixers.layers.kernels import jax_cpu

    (_, x), (_, kernel) = values((2, 3, 4, 2), 0), values((3, 2, 2, 1), 1)

    def second(function, outer, inner):
        def loss(*inputs):
            return ops.sum(ops.sin(function(*inputs)))

        found = jax.jit(outer(inner(loss, (0, 1)), (0, 1)))(x, kernel)
        return [np.asarray(part) for part in jax.tree.leaves(found)]

    expected = second(reference_convolution, jax.jacfwd, jax.jacrev)
    for outer, inner in ((jax.jacfwd, jax.jacrev), (jax.jacrev, jax.jacrev)):
        found = second(jax_cpu.depthwise_convolution, outer, inner)
        for part, exact in zip(found, expected, strict=True):
            np.testing.assert_allclose(part, exact, atol=1e-5)


@pytest.mark.parametrize("axes", [(0, None), (None, 3), (2, 1)])
def test_depthwise_convolution_has_a_gradient_for_each_example(axes):
    import jax

    from keras_mixers.layers.kernels import jax_cpu

    (_, x), (_, kernel) = values((2, 3, 4, 2), 0), values((3, 2, 2, 1), 1)
    x, kernel = (
        each if axis is None else ops.stack([each, 2 * each, -each], axis)
        for each, axis in zip((x, kernel), axes, strict=True)
    )

    def run(function):
        def loss(x, kernel):
            return ops.sum(ops.sin(function(x, kernel)))

        return jax.jit(jax.vmap(jax.grad(loss, (0, 1)), axes))(x, kernel)

    found, expected = run(jax_cpu.depthwise_convolution), run(reference_convolution)
    for part, exact in zip(found, expected, strict=True):
        np.testing.assert_allclose(part, exact, atol=1e-5)


@pytest.mark.parametrize("dtype", ROUNDING)
def test_gelu_equals_float64(dtype):
    import jax

    from keras_mixers.layers.kernels import jax_cpu

    gelu = jax_cpu.ACTIVATIONS[keras.activations.gelu].training
    x = ops.cast(np.concatenate([[-40, 0, 40], np.linspace(-4, 4, 50)]), dtype)
    x64 = np.asarray(x, "float64")
    below = np.array([0.5 + 0.5 * math.erf(each * 0.5**0.5) for each in x64])
    slope = below + x64 * np.exp(-0.5 * x64**2) / (2 * math.pi) ** 0.5
    y, backward = jax.vjp(gelu, x)
    np.testing.assert_allclose(np.asarray(y, "float64"), x64 * below, 2 * ROUNDING[dtype], 1e-6)
    (dx,) = backward(ops.ones_like(x))
    assert_close(dx, slope, dtype)


def normalization(x, gamma, beta, bias=None):
    if bias is not None:
        x = (x + bias) * (0.5 + 0.5 * np.vectorize(math.erf)((x + bias) * 0.5**0.5))
    mean, variance = x.mean((0, 1, 2)), x.var((0, 1, 2))
    return (x - mean) / np.sqrt(variance + 1e-3) * gamma + beta, mean, variance


@pytest.mark.parametrize(
    ("dtype", "activated"), [("float32", False), ("float32", True), ("bfloat16", True)]
)
def test_batch_normalization_equals_float64(dtype, activated):
    import jax

    from keras_mixers.layers.kernels import jax_cpu

    arrays = [((2, 3, 4, 5), 0), ((5,), 1), ((5,), 2), ((5,), 3)][: 3 + activated]
    exact, given = zip(*(values(shape, seed, dtype) for shape, seed in arrays), strict=True)
    steps = [values(shape, seed + 4, dtype) for shape, seed in arrays]

    def run(x, gamma, beta, *bias):
        activation = (*bias, jax_cpu.ACTIVATIONS[keras.activations.gelu].training)
        return jax_cpu.batch_normalization(x, gamma, beta, 1e-3, *(activation if bias else ()))

    found, change = jax.jit(lambda a, b: jax.jvp(run, a, b))(given, tuple(s for _, s in steps))
    above, below = (
        normalization(*(x + side * step for x, (step, _) in zip(exact, steps, strict=True)))
        for side in (1e-5, -1e-5)
    )
    for part, precise in zip(found, normalization(*exact), strict=True):
        assert_close(part, precise, str(part.dtype))
    for part, first, second in zip(change, above, below, strict=True):
        error = np.abs(np.asarray(part, "float64") - (first - second) / 2e-5).max()
        assert error < 10 * ROUNDING[dtype] * np.abs(first - second).max() / 2e-5


def test_batch_normalization_has_second_derivatives_in_both_modes():
    import jax

    from keras_mixers.layers.kernels import jax_cpu

    inputs = [values(shape, seed)[1] for seed, shape in enumerate([(2, 2, 3, 2), *[(2,)] * 3])]

    def reference(x, gamma, beta, bias):
        x = ops.tanh(x + bias)
        mean, variance = ops.moments(x, (0, 1, 2))
        return ops.batch_normalization(x, mean, variance, -1, beta, gamma, 0.1), mean, variance

    def second(function, outer):
        def loss(*inputs):
            return sum(ops.sum(ops.sin(part)) for part in function(*inputs))

        return jax.tree.leaves(jax.jit(outer(jax.jacrev(loss, range(4)), range(4)))(*inputs))

    def kernel(x, gamma, beta, bias):
        return jax_cpu.batch_normalization(x, gamma, beta, 0.1, bias, ops.tanh)

    expected = second(reference, jax.jacfwd)
    for outer in (jax.jacfwd, jax.jacrev):
        found = second(kernel, outer)
        for part, exact in zip(found, expected, strict=True):
            np.testing.assert_allclose(part, exact, atol=1e-4)


BLOCKS = [
    (layers.ConvMixerBlock, {"kernel_size": 5}, (4, 6, 7, 8)),
    (layers.ChannelMixing, {"mlp_dim": 12}, (2, 6, 8)),
]


@pytest.mark.parametrize(("layer", "arguments", "shape"), BLOCKS)
def test_layers_with_fused_kernels_equal_reference(layer, arguments, shape):
    block = layer(**arguments)
    x = values(shape, 0)[1]
    found = gradients(block, x, training=True)
    with kernels.reference_kernels():
        expected = gradients(block, x, training=True)
    for path, gradient in expected.items():
        np.testing.assert_allclose(found[path], gradient, rtol=1e-3, atol=1e-4)


def test_fused_kernels_are_used_on_cpus_only(monkeypatch):
    import jax

    block = layers.ConvMixerBlock(5)
    block.build((None, 6, 7, 8))
    x = values((2, 6, 7, 8), 0)[1]

    def program():
        return str(jax.make_jaxpr(lambda x: block(x))(x))

    fused = program()
    assert all(word in fused for word in ("depthwise_convolution", "dot_general", "erf "))
    assert "conv_general_dilated" not in fused
    # Because XLA would otherwise compute the convolution again in each loop that uses its result.
    assert 'inlineable = "false"' in jax.jit(lambda x: block(x)).lower(x).as_text()
    with kernels.reference_kernels():
        reference = program()
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert "depthwise_convolution" not in reference and program() == reference

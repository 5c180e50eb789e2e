"""Depthwise convolution with stride 1 and padding `"same"`, as sums of shifted products.

On CPUs XLA computes a depthwise convolution in one slow loop without vector instructions. It
vectorizes a sum of shifted products over the channels, which are the last axis:

    y[p] = sum over t: x[p + t - before] * kernel[t]

The sum is linear in x and in the kernel. So are its derivatives, which are this sum again and the
gradient for the kernel. Both are primitives of JAX, so that JAX knows their derivatives of any
order, in forward and in reverse mode.
"""

import functools

import jax
import keras
from jax import lax, numpy as jnp
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

from keras_mixers.layers.kernels.jax_cpu.separate import separate

# At most so many channels in one loop, because the pixels below a kernel of 9 x 9 must fit into the
# fastest cache; and at least so many, because XLA vectorizes over them.
MOST_CHANNELS, LEAST_CHANNELS = 128, 32


def depthwise_convolution(x, kernel):
    """The convolution of each channel with its kernel: `(N, H, W, D), (h, w, D, 1) -> x.shape`."""
    sides = kernel.shape[:2]
    before = tuple((side - 1) // 2 for side in sides)
    kernel = jnp.reshape(kernel, (1, *kernel.shape[:3]))
    return _separate_convolution(x, kernel, sides, before)


@functools.partial(separate, static=("sides", "before"))
def _separate_convolution(x, kernel, sides, before):
    return _convolution.bind(x, kernel, sides=sides, before=before)


def _convolve(x, kernel, sides, before):
    """`(N, H, W, D), (1, h, w, D) -> (N, H, W, D)`; `before` counts the zeros before the image."""

    def convolve(x, kernel):
        height, width = x.shape[1:3]
        padded, y = _pad(x, sides, before), 0.0
        for row in range(sides[0]):
            for column in range(sides[1]):
                shifted = padded[:, row : row + height, column : column + width]
                y = y + shifted * kernel[:, row : row + 1, column : column + 1]
        return y

    return _by_channels(convolve, x, kernel)


def _differentiate(x, dy, sides, before):
    """The gradient for the kernel: at each place t, the sum over p of `x[p + t - before] * dy[p]`.

    A loop over the rows of the images adds to one such sum for each image. For each column it adds
    a window of x times a pixel of dy, so that XLA vectorizes over the channels.
    """

    def differentiate(x, dy):
        padded = _pad(x, sides, before)

        def add_row(row, total):
            rows = lax.dynamic_slice_in_dim(padded, row, sides[0], 1)
            dy_row = lax.dynamic_slice_in_dim(dy, row, 1, 1)
            for column in range(dy.shape[2]):
                window = rows[:, :, column : column + sides[1]]
                total = total + window * dy_row[:, :, column : column + 1]
            return total

        zero = jnp.zeros((x.shape[0], *sides, x.shape[3]), x.dtype)
        return jnp.sum(lax.fori_loop(0, x.shape[1], add_row, zero), 0, keepdims=True)

    return _by_channels(differentiate, x, dy)


def _pad(x, sides, before):
    """Images with zeros around them, so that a kernel of these sides fits at each pixel."""
    pads = [(first, side - 1 - first) for side, first in zip(sides, before, strict=True)]
    return jnp.pad(x, ((0, 0), *pads, (0, 0)))


def _by_channels(function, *arrays):
    """`function(*arrays)` in at least 32 bits, for some channels (the last axis) at a time."""
    dtype = arrays[0].dtype
    arrays = [a.astype(jnp.promote_types(dtype, jnp.float32)) for a in arrays]
    count = _group_count(arrays[0].shape[-1])
    if count == 1:
        return function(*arrays).astype(dtype)
    groups = [
        jnp.moveaxis(a.reshape(*a.shape[:-1], count, a.shape[-1] // count), -2, 0) for a in arrays
    ]
    y = jnp.moveaxis(lax.map(lambda group: function(*group).astype(dtype), groups), 0, -2)
    return y.reshape(*y.shape[:-2], -1)


def _group_count(channels):
    """The number of groups of channels that `_by_channels` computes one after the other."""
    # Because a loop over channels that are split over devices would gather all of them.
    if isinstance(keras.distribution.distribution(), keras.distribution.ModelParallel):
        return 1
    size = max(size for size in range(1, MOST_CHANNELS + 1) if channels % size == 0)
    return channels // size if size >= LEAST_CHANNELS else 1


def _bilinear(name, function, shape):
    """A primitive of JAX for a function of two arrays, which is linear in each of them."""
    primitive = Primitive(name)

    def infer(first, second, sides, before):
        return first.update(shape=shape(first, second, sides), weak_type=False)

    def batch(arrays, axes, **parameters):
        """Let the axis that `jax.vmap` adds join the channels."""
        (size,) = {a.shape[i] for a, i in zip(arrays, axes, strict=True) if i is not None}
        arrays = [_last_but_one(*each, size) for each in zip(arrays, axes, strict=True)]
        y = primitive.bind(*(a.reshape(*a.shape[:-2], -1) for a in arrays), **parameters)
        return y.reshape(*y.shape[:-1], size, -1), y.ndim - 1

    primitive.def_impl(jax.jit(function, static_argnames=("sides", "before")))
    primitive.def_abstract_eval(infer)
    mlir.register_lowering(primitive, mlir.lower_fun(function, multiple_results=False))
    batching.primitive_batchers[primitive] = batch
    return primitive


def _last_but_one(x, axis, size):
    """X with an axis moved to the last place but one, or with a new one there if it is None."""
    if axis is None:
        return jnp.broadcast_to(x[..., None, :], (*x.shape[:-1], size, x.shape[-1]))
    return jnp.moveaxis(x, axis, -2)


_convolution = _bilinear("depthwise_convolution", _convolve, lambda x, kernel, sides: x.shape)
_derivative = _bilinear(
    "depthwise_convolution_kernel_gradient",
    _differentiate,
    lambda x, dy, sides: (1, *sides, x.shape[-1]),
)


def _transpose_for_x(dy, _, kernel, sides, before):
    """The gradient for x is a convolution with the turned kernel, by either primitive."""
    before = tuple(side - 1 - first for side, first in zip(sides, before, strict=True))
    return _convolution.bind(dy, lax.rev(kernel, (1, 2)), sides=sides, before=before)


def _transpose_for_kernel(dy, x, _, **parameters):
    return _derivative.bind(x, dy, **parameters)


ad.defbilinear(_convolution, _transpose_for_x, _transpose_for_kernel)
ad.defbilinear(
    _derivative,
    lambda gradient, _, dy, **parameters: _transpose_for_x(dy, _, gradient, **parameters),
    lambda gradient, x, _, **parameters: _convolution.bind(x, gradient, **parameters),
)

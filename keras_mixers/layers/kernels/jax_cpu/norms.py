"""Batch normalization in training, with its derivative in closed form."""

import functools

import jax
from jax import lax, numpy as jnp


def batch_normalization(x, gamma, beta, epsilon):
    """Batch normalization in training, over all axes except the last.

    Returns:
        The output, and the mean and variance of each channel, in at least 32 bits.
    """
    precise = jnp.promote_types(x.dtype, jnp.float32)
    arrays = (each.astype(precise) for each in (x, gamma, beta))
    y, mean, variance = _normalize(*arrays, epsilon)
    return y.astype(x.dtype), mean, variance


@functools.partial(jax.custom_jvp, nondiff_argnums=(3,))
def _normalize(x, gamma, beta, epsilon):
    axes = tuple(range(x.ndim - 1))
    mean = jnp.mean(x, axes)
    variance = jnp.mean(jnp.square(x - mean), axes)
    scale = gamma * lax.rsqrt(variance + epsilon)
    return x * scale + (beta - mean * scale), mean, variance


@_normalize.defjvp
def _normalize_jvp(epsilon, arrays, tangents):
    """The derivative: when transposed, it needs two sums over the pixels, of dy and of x dy.

    It uses x itself and no `x - mean`, because XLA would store the difference.
    """
    (x, gamma, beta), (dx, d_gamma, d_beta) = arrays, tangents
    y, mean, variance = _normalize(x, gamma, beta, epsilon)
    axes = tuple(range(x.ndim - 1))
    d_mean = jnp.mean(dx, axes)
    half_d_variance = jnp.mean(x * dx, axes) - mean * d_mean
    reciprocal = lax.rsqrt(variance + epsilon)
    scale = gamma * reciprocal
    d_scale = reciprocal * (d_gamma - scale * reciprocal * half_d_variance)
    dy = dx * scale + x * d_scale + (d_beta - scale * d_mean - mean * d_scale)
    return (y, mean, variance), (dy, d_mean, 2 * half_d_variance)

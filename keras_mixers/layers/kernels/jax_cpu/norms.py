"""Batch normalization of an activation in training, with its derivative in closed form."""

import functools

import jax
from jax import lax, numpy as jnp

from keras_mixers.layers.kernels.jax_cpu.separate import separate


def batch_normalization(x, gamma, beta, epsilon, bias=None, activation=None):
    """Batch normalization in training, over all axes except the last.

    Its input is x, or `activation(x + bias)`. For the gradient, this function stores only x.

    Returns:
        The output, and the mean and variance of each channel, in at least 32 bits.
    """
    return _normalize(x, bias, gamma, beta, activation, epsilon)


@functools.partial(jax.custom_jvp, nondiff_argnums=(4, 5))
def _normalize(x, bias, gamma, beta, activation, epsilon):
    dtype = x.dtype
    x, gamma, beta = _activated(activation, x, bias), _precise(gamma), _precise(beta)
    axes = tuple(range(x.ndim - 1))
    mean = jnp.mean(x, axes)
    variance = jnp.mean(jnp.square(x - mean), axes)
    scale = gamma * lax.rsqrt(variance + epsilon)
    return (x * scale + (beta - mean * scale)).astype(dtype), mean, variance


@_normalize.defjvp
def _normalize_jvp(activation, epsilon, arrays, tangents):
    x, bias, gamma, _ = arrays
    y, mean, variance = _normalize(*arrays, activation, epsilon)
    derivative = _derivative if activation is None else _derivative_from_inputs
    statistics = gamma, mean, variance
    return (y, mean, variance), derivative((x, bias), statistics, tangents, activation, epsilon)


@functools.partial(separate, static=("activation", "epsilon"))
def _derivative_from_inputs(inputs, statistics, tangents, activation, epsilon):
    """The derivative, which computes the activation again in the backward pass."""
    derivative = jax.checkpoint(_derivative, static_argnums=(3, 4))
    return derivative(inputs, statistics, tangents, activation, epsilon)


def _derivative(inputs, statistics, tangents, activation, epsilon):
    """The derivative: when transposed, it needs two sums over the pixels, of dy and of x dy.

    It uses x itself and no `x - mean`, because XLA would store the difference.
    """
    (gamma, mean, variance), (*d_inputs, d_gamma, d_beta) = statistics, tangents
    dtype, activated = inputs[0].dtype, functools.partial(_activated, activation)
    x, dx = jax.jvp(activated, inputs, tuple(d_inputs))
    gamma, d_gamma, d_beta = (_precise(each) for each in (gamma, d_gamma, d_beta))
    axes = tuple(range(x.ndim - 1))
    d_mean = jnp.mean(dx, axes)
    half_d_variance = jnp.mean(x * dx, axes) - mean * d_mean
    reciprocal = lax.rsqrt(variance + epsilon)
    scale = gamma * reciprocal
    d_scale = reciprocal * (d_gamma - scale * reciprocal * half_d_variance)
    dy = dx * scale + x * d_scale + (d_beta - scale * d_mean - mean * d_scale)
    return dy.astype(dtype), d_mean, 2 * half_d_variance


def _activated(activation, x, bias):
    x = _precise(x)
    x = x if bias is None else x + _precise(bias)
    return x if activation is None else activation(x)


def _precise(x):
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))

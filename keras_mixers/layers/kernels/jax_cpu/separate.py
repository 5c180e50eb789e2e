"""Keep XLA from merging a part of a program with the rest of it."""

import functools

import jax
import keras
from jax.experimental.xla_metadata import set_xla_metadata


def separate(function, static=()):
    """The function as a call that XLA does not inline; `static` names constants.

    On CPUs, XLA repeats a cheap loop in each loop that uses its result, and it counts a sum of 25
    products as cheap. It also replaces a result that the backward pass computes again by the stored
    result of the forward pass. It removes `lax.optimization_barrier` before it decides about both.
    """
    compiled = jax.jit(function, static_argnames=static)

    @functools.wraps(function)
    def call(*arguments):
        # Because XLA would gather arrays that are split over devices before such a call.
        if keras.distribution.distribution():
            return function(*arguments)
        with set_xla_metadata(inlineable="false"):
            return compiled(*arguments)

    return call

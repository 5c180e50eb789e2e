"""Fused kernels for JAX on CPUs: formulas that XLA compiles into fast loops.

Each kernel computes the values and gradients of the reference implementation next to its caller.
"""

from keras_mixers.layers.kernels.jax_cpu.activations import ACTIVATIONS
from keras_mixers.layers.kernels.jax_cpu.depthwise import depthwise_convolution
from keras_mixers.layers.kernels.jax_cpu.norms import batch_normalization
from keras_mixers.layers.kernels.jax_cpu.products import pointwise_product

__all__ = ["ACTIVATIONS", "batch_normalization", "depthwise_convolution", "pointwise_product"]

"""Fused kernels for float32 and bfloat16 in TensorFlow graphs on CPUs.

Each kernel computes the values and gradients of the reference implementation next to its caller.
Four techniques make them faster:

- XLA compiles elementwise parts only, because its convolutions and its products with a transposed
  matrix are slower than TensorFlow's.
- Gradients have a closed form, so that the backward pass keeps fewer tensors.
- In bfloat16, oneDNN computes the products, and the rest computes in float32 inside each kernel,
  with conversions on the bits (`half`).
- Inference uses the patterns that TensorFlow replaces by one oneDNN kernel.
"""

from keras_mixers.layers.kernels.tensorflow_cpu.activations import ACTIVATIONS
from keras_mixers.layers.kernels.tensorflow_cpu.conv_mixer import conv_mixer_block
from keras_mixers.layers.kernels.tensorflow_cpu.depthwise import depthwise_convolution
from keras_mixers.layers.kernels.tensorflow_cpu.few_tokens import (
    dense_of_few_tokens,
    mlp_of_few_tokens,
    mlp_of_one_image,
    product_of_patches,
)
from keras_mixers.layers.kernels.tensorflow_cpu.norms import (
    activated_normalization,
    batch_normalization,
    layer_normalization,
    layer_normalization_inference,
    rms_normalization,
)
from keras_mixers.layers.kernels.tensorflow_cpu.products import (
    activated_dense,
    dense,
    mlp,
    mlp_across_tokens,
    on_rows,
)
from keras_mixers.layers.kernels.tensorflow_cpu.residual import add, fork
from keras_mixers.layers.kernels.tensorflow_cpu.softmax_attention import (
    attention,
    attention_of_few_tokens,
    attention_of_parts,
)

__all__ = [
    "ACTIVATIONS",
    "activated_dense",
    "activated_normalization",
    "add",
    "attention",
    "attention_of_few_tokens",
    "attention_of_parts",
    "batch_normalization",
    "conv_mixer_block",
    "dense",
    "dense_of_few_tokens",
    "depthwise_convolution",
    "fork",
    "layer_normalization",
    "layer_normalization_inference",
    "mlp",
    "mlp_across_tokens",
    "mlp_of_few_tokens",
    "mlp_of_one_image",
    "on_rows",
    "product_of_patches",
    "rms_normalization",
]

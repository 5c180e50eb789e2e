"""Keras's Dense for tokens, with a variant for attention, and the MLP of two Dense layers."""

import keras
from keras import ops

from keras_mixers.graph import uncast_weights
from keras_mixers.layers import kernels


class Dense(keras.layers.Dense):
    """Keras's Dense, computed by a fused kernel where that is faster."""

    def call(self, x, training=None):
        if self.activation is not keras.activations.linear:
            return super().call(x, training=training)
        fused = self.fused_call(x, training)
        if fused is not None:
            return fused
        if x.dtype == "bfloat16" and self.bias is not None:
            return kernels.plus_bias(ops.matmul(x, self.kernel), self.bias)
        return super().call(x, training=training)

    def fused_call(self, x, training):
        """`x kernel + bias` by a fused kernel, or None if there is none."""
        if not training and kernels.is_small(x) and kernels.find("dense_of_few_tokens", x):
            return kernels.find("dense_of_few_tokens", x)(x, *exact_weights(self))
        dense = kernels.find("dense", x)
        return dense and dense(x, *weights(self))

    def bias_tensor(self):
        """The bias as a tensor, or None."""
        return None if self.bias is None else ops.convert_to_tensor(self.bias)

    def quantize(self, mode=None, type_check=True, **more):
        # Keras refuses to quantize a subclass, because a quantized layer no longer runs `call`.
        # That is safe for this subclass, because Keras's `call` computes the same.
        return super().quantize(mode, type_check=False, **more)


class QueryKeyValue(Dense):
    """Queries, keys and values side by side, of which only queries and values have a bias.

    Shapes: `(..., D) -> (..., 3 U)`. BEiT, EVA and DINOv3 train without a bias of the keys, because
    it adds the same number to all scores of a query if keys are not rotated.
    """

    def __init__(self, units, **kwargs):
        super().__init__(units, use_bias=False, **kwargs)

    def build(self, x_shape):
        super().build(x_shape)
        self.query_value_bias = self.add_weight(
            shape=(2 * self.units // 3,), initializer="zeros", name="query_value_bias"
        )

    def call(self, x, training=None):
        fused = self.fused_call(x, training)
        if fused is not None:
            return fused
        return kernels.plus_bias(super().call(x), self.bias_tensor())

    def quantized_call(self, *args, **kwargs):
        y = super().quantized_call(*args, **kwargs)
        return y + ops.cast(self.bias_tensor(), y.dtype)

    @property
    def variable_serialization_spec(self):
        """The weights that Keras saves in files, by quantization mode."""
        spec = super().variable_serialization_spec
        return {mode: [*names, "query_value_bias"] for mode, names in spec.items()}

    def bias_tensor(self):
        query, value = ops.split(ops.convert_to_tensor(self.query_value_bias), 2)
        return ops.concatenate([query, ops.zeros_like(query), value])


def mlp(x, fc1, activation, dropout, fc2, training):
    """`fc2(dropout(activation(fc1(x))))`: `(..., D) -> (..., E)`."""

    def reference(x):
        hidden = kernels.activate(activation, fc1(x), training)
        return fc2(dropout(hidden, training=training))

    fused, on_rows = kernels.find("mlp", x), kernels.find("on_rows", x)
    if not (fused and _is_plain_mlp(fc1, fc2)):
        return reference(x)
    kernel = kernels.activation(activation, x)
    drops = training and dropout.rate
    if kernel and not training and kernels.is_small(x):
        few = kernels.find("mlp_of_few_tokens", x)
        return few(x, *exact_weights(fc1), *exact_weights(fc2), kernel)
    if kernel and not drops and _is_faster_fused(x, training):
        return fused(x, *weights(fc1), *weights(fc2), kernel)
    return on_rows(reference, x)  # because oneDNN fuses only products of matrices


def mlp_across_tokens(x, fc1, activation, dropout, fc2, training):
    """The MLP of the columns of each image: `(N, T, D) -> (N, S, D)`."""
    name, tensors = "mlp_across_tokens", weights
    if not _is_faster_fused(x, training):
        name, tensors = ("mlp_of_one_image" if x.shape[0] == 1 else None), exact_weights
    fused = name and kernels.find(name, x)
    kernel = kernels.activation(activation, x)
    drops = training and dropout.rate
    if fused and kernel and not drops and _is_plain_mlp(fc1, fc2):
        return fused(x, *tensors(fc1), *tensors(fc2), kernel)
    x = ops.transpose(x, (0, 2, 1))
    x = mlp(x, fc1, activation, dropout, fc2, training)
    return ops.transpose(x, (0, 2, 1))


def _is_plain_mlp(fc1, fc2):
    biases = fc1.bias is not None and fc2.bias is not None
    return biases and _is_plain(fc1) and _is_plain(fc2)


def _is_faster_fused(x, training):
    """Whether one fused kernel computes an MLP faster than products that oneDNN fuses."""
    return training or (x.dtype == "bfloat16" and not kernels.is_small(x))


def parts(dense, x, count, activation=lambda units: units):
    """`split(activation(dense(x)), count)`, for a kernel that holds several matrices side by side.

    Shapes: `(..., D) -> count x (..., U)`.

    If a layout map splits the units of each matrix over devices, the devices exchange pieces of the
    kernel here. Otherwise they would exchange the output, which is much larger: their pieces of the
    kernel are neighbouring columns, but they need the same units of each matrix.
    """
    layout = parts_layout(dense)
    if layout is None or not _is_plain(dense):
        return ops.split(activation(dense(x)), count, axis=-1)
    kernel, bias = weights(dense)
    kernel = ops.reshape(kernel, (kernel.shape[0], count, dense.units // count))
    kernel = keras.distribution.distribute_tensor(kernel, layout)
    units = ops.einsum("...d,dcu->...cu", x, kernel)
    if bias is not None:
        units = units + ops.reshape(bias, (count, -1))
    units = activation(units)
    return [units[..., i, :] for i in range(count)]


def parts_layout(dense):
    """The layout of a kernel `(D, count, U)` in `parts`, or None if no layout map has one."""
    distribution = keras.distribution.distribution()
    return distribution and distribution.get_tensor_layout(f"{dense.path}/parts")


def _is_plain(dense):
    """Whether a call of the layer computes `x kernel + bias` and nothing that a user added."""
    changed = "call" in vars(dense) or dense.quantization_mode or dense.activity_regularizer
    linear = isinstance(dense, Dense) and dense.activation is keras.activations.linear
    return linear and not changed


def weights(dense):
    """Kernel and bias of a Dense layer as tensors; the kernel includes the LoRA update."""
    return ops.convert_to_tensor(dense.kernel), dense.bias_tensor()


def exact_weights(dense):
    """`weights` in their dtype, not in that of the computation."""
    with uncast_weights():
        found = weights(dense)
        return [each.value if isinstance(each, keras.Variable) else each for each in found]

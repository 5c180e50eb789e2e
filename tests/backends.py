"""Functions of a backend that keras.ops does not have: gradients, and modes of execution."""

import keras
from keras import ops

ON_JAX = keras.backend.backend() == "jax"
ON_TORCH = keras.backend.backend() == "torch"
WAYS = [{"jit_compile": True}, {"jit_compile": False}, {"run_eagerly": True}]
if ON_JAX:
    WAYS.remove({"jit_compile": False})  # because it is the same as "run_eagerly" on JAX
if ON_TORCH:
    WAYS = [{"run_eagerly": True}]  # because torch.compile needs a C++ compiler and much time


def compute(layer, inputs, **options):
    """`layer(inputs)`; on JAX in one program, because eager operations are compiled one by one."""
    # On CPUs a compiled program has no attention in float16.
    if not ON_JAX or layer.compute_dtype == "float16":
        return layer(inputs, **options)
    import jax

    if not layer.built:
        layer(keras.Input(batch_shape=inputs.shape, dtype=inputs.dtype))
    variables = layer.variables

    def program(values, inputs):
        with keras.StatelessScope(list(zip(variables, values, strict=True))):
            return layer(inputs, **options)

    values = [variable.value for variable in variables]
    return jax.jit(program)(values, ops.convert_to_tensor(inputs))


def gradients(layer, inputs, training=False):
    """The gradients of `sum(layer(x)^2 * w)` with fixed, unequal w: `{weight path: array}`."""

    def loss_of(outputs):
        outputs = ops.cast(outputs, keras.backend.result_type(outputs.dtype, "float32"))
        uneven = ops.reshape(ops.arange(1, 1 + _size(outputs), dtype=outputs.dtype), outputs.shape)
        return ops.sum(ops.square(outputs) * ops.sin(uneven))

    if not isinstance(layer, keras.Model):  # because any model takes the argument `training`
        image = keras.Input(batch_shape=inputs.shape, dtype=inputs.dtype)
        layer = keras.Model(image, layer(image))
    variables = layer.trainable_variables
    if ON_TORCH:
        import torch

        loss = loss_of(layer(inputs, training=training))
        values = [variable.value for variable in variables]
        found = torch.autograd.grad(loss, values, allow_unused=True) if values else []
    elif not ON_JAX:
        import tensorflow as tf

        with tf.GradientTape() as tape:
            loss = loss_of(layer(inputs, training=training))
        found = tape.gradient(loss, [variable.value for variable in variables])
    else:
        import jax

        def loss(values):
            outputs, _ = layer.stateless_call(
                values,
                [variable.value for variable in layer.non_trainable_variables],
                inputs,
                training=training,
            )
            return loss_of(outputs)

        found = jax.jit(jax.grad(loss))([variable.value for variable in variables])
    return {
        variable.path: None if gradient is None else ops.convert_to_numpy(gradient)
        for variable, gradient in zip(variables, found, strict=True)
    }


def _size(x):
    size = 1
    for side in x.shape:
        size *= side
    return size

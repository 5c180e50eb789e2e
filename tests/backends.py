"""What the tests need of a backend beyond keras.ops: gradients, and the ways it computes."""

import keras
from keras import ops

ON_JAX = keras.backend.backend() == "jax"
WAYS = [{"jit_compile": True}, {"jit_compile": False}, {"run_eagerly": True}]
if ON_JAX:
    WAYS.remove({"jit_compile": False})  # which is to run eagerly there


def gradients(layer, inputs, training=False):
    """d sum(layer(x)^2 . w) / d weights, w fixed and uneven: `{path: array}`."""

    def loss_of(outputs):
        outputs = ops.cast(outputs, "float32" if outputs.dtype != "float64" else "float64")
        uneven = ops.reshape(ops.arange(1, 1 + _size(outputs), dtype=outputs.dtype), outputs.shape)
        return ops.sum(ops.square(outputs) * ops.sin(uneven))

    if not isinstance(layer, keras.Model):  # a model takes `training` whatever its layers do
        image = keras.Input(batch_shape=inputs.shape, dtype=inputs.dtype)
        layer = keras.Model(image, layer(image))
    variables = layer.trainable_variables
    if not ON_JAX:
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

        found = jax.grad(loss)([variable.value for variable in variables])
    return {
        variable.path: None if gradient is None else ops.convert_to_numpy(gradient)
        for variable, gradient in zip(variables, found, strict=True)
    }


def _size(x):
    size = 1
    for side in x.shape:
        size *= side
    return size

"""Keep rarely used operators out of a TensorFlow graph."""

import functools


def outlined(function, *args):
    """`function(*args, string)` of a scalar string, as one operator of the graph.

    In a branch that is not taken, TensorFlow visits each operator. That takes 0.2 ms for a loop.
    """
    import tensorflow as tf

    return tf.function(
        functools.partial(function, *args),
        input_signature=[tf.TensorSpec([], tf.string)],
        autograph=False,
        experimental_attributes={"_noinline": True},
    )

"""Custom gradients that TensorFlow forgets together with their graph."""

import tensorflow as tf
from tensorflow.python.eager import forwardprop_util, record


def custom_gradient(function):
    """Like `tf.custom_gradient`, for a function of tensors in a graph.

    `tf.custom_gradient` registers each gradient for the rest of the process, and each gradient
    refers to tensors. So it would keep the graph of each model that was ever trained. Here the
    graph keeps the gradient instead.
    """

    def call(*inputs):
        inputs = [tf.convert_to_tensor(value) for value in inputs]  # reads variables
        output, gradient = function(*inputs)
        tensors = [output, *inputs]

        def gradients(d_output, *_):
            # The gradient that would flow into `output` itself is the one that this one replaces.
            flat = gradient(d_output)
            return [None, *(flat if isinstance(flat, (list, tuple)) else [flat])]

        graph = tf.compat.v1.get_default_graph()
        # For `tf.gradients`, which reads a graph, and then for tapes, which record it.
        with graph._override_gradient_function({"IdentityN": lambda _, *dy: gradients(*dy)}):
            results = tf.identity_n(tensors)
        record.record_operation(function.__name__, results, tensors, gradients)
        return results[0]

    return call


def has_tangent(x):
    """Whether a `tf.autodiff.ForwardAccumulator` differentiates with respect to x."""
    return bool(forwardprop_util.pack_tangents([x]).tangents)

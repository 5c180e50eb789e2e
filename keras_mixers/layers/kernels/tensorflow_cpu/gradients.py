"""Let TensorFlow forget the custom gradients of a graph together with the graph.

`tf.custom_gradient` registers each gradient for the rest of the process, and the gradient refers to
tensors of its graph. So each graph that was ever differentiated would stay in memory. Our kernels,
`keras.remat` and Keras's optimizers all use `tf.custom_gradient`.
"""

import weakref

import tensorflow as tf
from tensorflow.python.framework import ops

_graphs = weakref.WeakSet()
_released = set()


def trace_in(graph):
    """Note that layers are traced in a graph; release the gradients of the graphs before it."""
    if graph in _graphs:
        return
    release_gradients()
    while graph is not None:
        _graphs.add(graph)
        graph = getattr(graph, "outer_graph", None)


def release_gradients():
    """Let each noted graph own its gradients, so that the registry does not keep the graph."""
    # A copy in one step, because Python may free a graph, and so call `_remove`, at any time.
    for name, entry in _registry().copy().items():
        if name in _released or not name.startswith("CustomGradient-"):
            continue
        gradient = entry["type"]
        graph = _graph_of(gradient)
        if graph in _graphs:
            graph.owned_gradients = [*getattr(graph, "owned_gradients", ()), gradient]
            entry["type"] = _weak(gradient)
            _released.add(name)
            weakref.finalize(graph, _remove, name)


def _registry():
    """TensorFlow's registry of gradients, `{name: entry}`; empty if a later release has none."""
    return getattr(getattr(ops, "gradient_registry", None), "_registry", {})


def _graph_of(gradient):
    """The graph of the tensors that a function made by `tf.custom_gradient` differentiates."""
    for _ in range(2):  # the registered function calls the one that refers to the tensors
        names = gradient.__code__.co_freevars
        closure = dict(zip(names, gradient.__closure__ or (), strict=True))
        if "result" in closure:
            return getattr(tf.nest.flatten(closure["result"].cell_contents)[0], "graph", None)
        if "tape_grad_fn" not in closure:
            return None
        gradient = closure["tape_grad_fn"].cell_contents
    return None


def _weak(gradient):
    """A function that calls `gradient`, without keeping it."""
    reference = weakref.ref(gradient)
    return lambda *arguments: reference()(*arguments)


def _remove(name):
    """Remove a gradient from TensorFlow's registry."""
    _registry().pop(name, None)
    _released.discard(name)

"""The graph of a functional model: its calls of layers, in the order in which they compute."""

import keras


def functional(model):
    """The functional model that a Sequential keeps inside; a functional one as it is.

    Raises:
        ValueError: the model is neither, or not built.
    """
    if isinstance(model, keras.Sequential) and model.built:
        return model._functional
    if not is_functional(model):
        raise ValueError(
            "`model` must be a functional or Sequential model that is built. Received:"
            f" model={model!r}"
        )
    return model


def is_functional(operation):
    """Whether an operation is a model that has a graph of its own."""
    built = isinstance(operation, keras.Sequential) and operation.built
    return built or (isinstance(operation, keras.Model) and hasattr(operation, "_nodes_by_depth"))


def nodes(model):
    """The calls in a model's graph, inputs left out: Keras's nodes, first to last."""
    by_depth = functional(model)._nodes_by_depth
    ordered = (node for depth in sorted(by_depth, reverse=True) for node in by_depth[depth])
    return [node for node in ordered if not node.is_input]

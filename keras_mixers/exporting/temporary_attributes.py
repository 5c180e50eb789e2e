"""Replace an attribute of layers, such as `call`, inside a `with` statement."""

import contextlib


@contextlib.contextmanager
def temporary_attribute(name, values):
    """Inside the `with` statement the attribute `name` of each layer has another value.

    Args:
        name: the attribute's name. It is set on the layer, and hides the attribute of the class.
        values: pairs of a layer and the value for it.
    """
    # Change `vars(layer)`, because Keras's `setattr` would track the values and wrap lists.
    values = [(vars(layer), value) for layer, value in values]
    originals = [(attributes, dict(attributes)) for attributes, _ in values]
    try:
        for attributes, value in values:
            attributes[name] = value
        yield
    finally:
        for attributes, original in originals:
            attributes.pop(name, None)
            if name in original:
                attributes[name] = original[name]

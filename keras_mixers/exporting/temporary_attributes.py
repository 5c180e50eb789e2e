"""Give layers other attributes, such as `call`, inside a `with` statement."""

import contextlib


@contextlib.contextmanager
def temporary_attribute(name, values):
    """Inside the `with` statement each layer has another attribute `name`.

    Args:
        name: of the attribute. It is set on the layer object, and hides the class's.
        values: pairs of a layer and its value.
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

"""Change attributes of layers for a while."""

import contextlib


@contextlib.contextmanager
def replaced(attribute, values):
    """While this lasts, each layer has another `attribute`: pairs of a layer and a value."""
    values = [(vars(layer), value) for layer, value in values]
    before = [(own, attribute in own, own.get(attribute)) for own, _ in values]
    try:
        for own, value in values:
            own[attribute] = value
        yield
    finally:
        for own, had, value in before:
            own.pop(attribute, None)
            if had:
                own[attribute] = value

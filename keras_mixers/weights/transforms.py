"""How the arrays of a file become one weight of a model, and back."""

import dataclasses
from collections.abc import Callable

import numpy as np


@dataclasses.dataclass(frozen=True)
class Transform:
    """How the arrays of a file become one array of a model, and back.

    The two functions are inverses. Both receive the `WeightRole`, because its layer knows facts
    that shapes do not show, such as the number of heads.

    Attributes:
        to_model: (arrays, weight) -> array. It raises a ValueError if the values do not fit.
        to_file: (array, weight) -> arrays.
    """

    to_model: Callable
    to_file: Callable

    def expected_shapes(self, weight):
        """The shapes that a file's arrays must have to fill a weight."""
        array = np.broadcast_to(np.float32(0), weight.shape)  # takes no memory
        return [array.shape for array in self.to_file(array, weight)]


def permuted(*axes):
    """Transpose one array; `axes` is the order from the file to the model."""
    back = tuple(np.argsort(axes))
    return Transform(
        lambda arrays, _: arrays[0].transpose(axes), lambda array, _: [array.transpose(back)]
    )


same = Transform(lambda arrays, _: arrays[0], lambda array, _: [array])
linear = permuted(1, 0)  # (out, in) -> (in, out)
conv = permuted(2, 3, 1, 0)  # (out, in, h, w) -> (h, w, in, out)
depthwise = permuted(2, 3, 0, 1)  # (channels, 1, h, w) -> (h, w, channels, 1)

# For a bias that the file lacks because the original computes without it.
zeros = Transform(lambda _, weight: np.zeros(weight.shape, "float32"), lambda array, _: [])


def head_shape(weight):
    """(H, d): the number of heads and their width in the attention layer of a weight."""
    layer = weight.layer
    if hasattr(layer, "head_shape"):
        return layer.head_shape
    return layer.num_heads, layer.probe.shape[-1] // layer.num_heads


def split_heads(count):
    """Fuse a file's `count` kernels (D, H, d) into (D, count H d), or biases (H, d) likewise."""

    def to_model(arrays, _):
        lead = arrays[0].shape[:-2]
        return np.concatenate([array.reshape(*lead, -1) for array in arrays], axis=-1)

    def to_file(array, weight):
        parts = np.split(array, count, axis=-1)
        return [part.reshape(*array.shape[:-1], *head_shape(weight)) for part in parts]

    return Transform(to_model, to_file)


joined_heads = Transform(  # (H, d, D) -> (H d, D)
    lambda arrays, _: arrays[0].reshape(-1, arrays[0].shape[-1]),
    lambda array, weight: [array.reshape(*head_shape(weight), array.shape[-1])],
)


def stacked(count, transform):
    """Transform `count` arrays each by `transform` and concatenate them on the last axis."""
    return Transform(
        lambda arrays, weight: np.concatenate(
            [transform.to_model([array], weight) for array in arrays], axis=-1
        ),
        # The parts are equal, except for an array that cannot be the sum of equal ones.
        lambda array, weight: [
            transform.to_file(part, weight)[0] for part in np.array_split(array, count, axis=-1)
        ],
    )


def with_key_bias(arrays, _):
    """Biases of queries and of values -> biases of queries, keys (zero) and values."""
    query, value = arrays
    return np.concatenate([query, np.zeros_like(query), value])


def without_key_bias(array):
    """Biases of queries, keys and values -> those of queries and of values.

    Raises:
        ValueError: if the biases of keys are not zero.
    """
    query, key, value = np.split(array, 3)
    if key.any():
        raise ValueError(
            "must have zero biases of keys, because the model has none. Received:"
            f" {np.count_nonzero(key)} that are not zero"
        )
    return np.concatenate([query, value])


# Each name says what the file has; the model has what the comment says.
query_value = Transform(  # biases of queries, keys and values
    with_key_bias, lambda array, _: np.split(array, 3)[::2]
)
query_key_value = Transform(  # biases of queries and of values
    lambda arrays, _: without_key_bias(arrays[0]),
    lambda array, weight: [with_key_bias(np.split(array, 2), weight)],
)
masked = Transform(  # biases of queries, keys and values
    lambda arrays, _: arrays[0] * arrays[1], lambda array, _: [array, np.ones_like(array)]
)
masked_query_key_value = Transform(  # biases of queries and of values
    lambda arrays, _: without_key_bias(arrays[0] * arrays[1]),
    lambda array, weight: masked.to_file(*query_key_value.to_file(array, weight), weight),
)

"""Follow the order of the patches through slices and concatenations.

A slice or a concatenation computes nothing, but it can move a token to the place of another one:
`concatenate([x[:, 1:], x[:, :1]], axis=1)` shifts all tokens.
"""

import math

import keras

from keras_mixers.layers import PrefixTokens


def disordered_calls(calls, patches, followed):
    """Find the calls that combine different tokens, and attention over tokens in another order.

    Args:
        calls: `{name: node}` between the patches and the head, in order of execution.
        patches: number of patches, or None if it is unknown.
        followed: names of the attention layers.

    Returns:
        A set of names.
    """
    found, orders = set(), {}
    if patches is None:
        return found
    expected = tuple(range(patches))
    for name, node in calls.items():
        before = [
            orders.get(id(x), order_of_length(tokens_in(x), patches))
            for x in node.input_tensors
            if len(x.shape) > 2
        ]
        output = node.output_tensors[0]
        joins = bool(before) and is_concatenation(node.operation)
        joins = joins and tokens_in(output) > len(before[0])
        if len(set(before)) > 1 and not joins:
            found.add(name)
        if name in followed and before[0][-patches:] != expected:
            found.add(name)
        if len(output.shape) > 2:
            after = sum(before, ()) if joins else order_after(node, before)
            matches = after is not None and len(after) == tokens_in(output)
            orders[id(output)] = after if matches else order_of_length(tokens_in(output), patches)
    return found


def order_after(node, before):
    """The order of the tokens in the output of a call; None if it is unknown."""
    operation, order = node.operation, before[0] if before else None
    if isinstance(operation, PrefixTokens):
        return (None,) * operation.num_prefix + order
    if isinstance(operation, keras.layers.Cropping1D):
        start, end = operation.cropping
        return order[start : len(order) - end]
    if type(operation).__name__ == "GetItem" and len(node.input_tensors[0].shape) == 3:
        return order[token_slice(node.arguments.args[1])]
    return order


def token_slice(key):
    """The slice of the tokens in the key of `x[key]`, for x of shape `(N, T, D)`."""
    key = key if isinstance(key, tuple) else (key,)
    if any(part is Ellipsis for part in key):
        at = [part is Ellipsis for part in key].index(True)
        key = key[:at] + (slice(None),) * (4 - len(key)) + key[at + 1 :]
    tokens = key[1] if len(key) > 1 else None
    return tokens if isinstance(tokens, slice) else slice(None)


def is_concatenation(operation):
    """Whether a layer or operation concatenates its inputs."""
    return type(operation).__name__ == "Concatenate"


def tokens_in(tensor):
    """The number of tokens in a sequence `(N, T, D)` or a grid `(N, rows, columns, D)`."""
    sides = tensor.shape[1:-1]
    return 0 if None in sides else math.prod(sides)


def order_of_length(tokens, patches):
    """The order of a sequence of which only the length is known: the prefix, then the patches."""
    return (None,) * (tokens - patches) + tuple(range(patches)) if tokens >= patches else (None,)

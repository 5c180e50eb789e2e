"""Rules that several formats share: names in torch, and the layer of queries, keys and values."""

from keras_mixers.weights.rules import pairs, rule
from keras_mixers.weights.transforms import linear, query_value, same, stacked

DENSE = {"kernel": "weight", "bias": "bias"}
NORM = {"gamma": "weight", "beta": "bias"}

FC1 = "blocks.{i}.channel_mixing.fc1"
QKV = "blocks.{i}.attention.qkv"
# A model has the first of these roles, or the second if its keys have no bias, or none.
QKV_BIASES = frozenset({f"{QKV}.bias", f"{QKV}.query_value_bias"})
NO_KEY_BIAS = "zero for the keys, which have no bias in the file"


def separate_kernels(key, parts):
    """The rule for matrices of queries, keys and values that are separate arrays."""
    return rule(f"{QKV}.kernel", [f"{key}.{part}.weight" for part in parts], stacked(3, linear))


def separate_biases(key, parts):
    """The rule for biases of queries, keys and values that are separate arrays."""
    return rule(f"{QKV}.bias", [f"{key}.{part}.bias" for part in parts], stacked(3, same))


def query_value_biases(query, value):
    """Rules for two arrays, the biases of queries and of values; the keys have no bias."""
    return (
        rule(f"{QKV}.query_value_bias", [query, value], stacked(2, same)),
        rule(f"{QKV}.bias", [query, value], query_value, NO_KEY_BIAS),
    )


def gated_fc1(gate, other):
    """Rules for the first layer of a gated MLP whose halves are two layers with these keys."""
    halves = zip(pairs(FC1, gate, DENSE, linear), pairs(FC1, other, DENSE, linear), strict=True)
    return tuple(
        rule(one.role, one.keys + two.keys, stacked(2, one.transform)) for one, two in halves
    )

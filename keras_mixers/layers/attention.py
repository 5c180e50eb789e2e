"""Mix tokens by attention: each token averages all tokens, weighted by query and keys."""

import functools
from typing import Any

import keras
from keras import ops

from keras_mixers import arguments
from keras_mixers.layers import kernels
from keras_mixers.layers.base import Layer
from keras_mixers.layers.dense import Dense, QueryKeyValue, parts
from keras_mixers.layers.dropout import Dropout
from keras_mixers.layers.norms import NORMALIZATIONS
from keras_mixers.layers.rotary import (
    Rotary,
    check_rotary,
    learned_tables,
    random_frequencies,
    rotate,
    tables,
)
from keras_mixers.serialization import registered

SCORES = ("scaled_dot", "dot", "bilinear", "additive")


@registered
class MultiHeadSelfAttention(Layer):
    """Multi-head self-attention: `softmax(score(q, k)) v` in each head; a matrix joins the heads.

    Shapes: `(N, T, D) -> (N, T, D)`. With `return_attention_scores=True`, a call also returns the
    attention weights `(N, num_heads, T, T)`. They have one row for each query, which sums to 1.
    Without it, `score="scaled_dot"` uses the backend's fused attention, which need not store these
    weights. Training with `attention_dropout_rate` above 0 always stores them.

    Args:
        num_heads: H, the number of heads.
        head_dim: d, the width of a head; `None` for D / H.
        qkv_bias: whether queries, keys and values have biases.
        qk_norm: whether to normalize each query and key over its d channels first
            ("Scaling Vision Transformers to 22 Billion Parameters", arXiv 2302.05442).
        score: the function that compares query q with key k:
            `"scaled_dot"`: `q . k / sqrt(d)` ("Attention Is All You Need", arXiv 1706.03762), the
            only one with fused kernels;
            `"dot"`: `q . k` and `"bilinear"`: `q . W k` (Luong et al., arXiv 1508.04025);
            `"additive"`: `w . tanh(q + k)` (Bahdanau et al., arXiv 1409.0473), which stores
            T x T x d values for each head.
        attention_dropout_rate: fraction of the attention weights to drop in training.
        dropout_rate: fraction of the outputs to drop in training.
        epsilon: added to the variance in the norms of `qk_norm` and `inner_norm`.
        key_bias: whether keys have a bias if `qkv_bias` is True. Without `rotary` it does not
            change the output, because it adds the same number to all scores of a query.
        out_bias: whether the output projection has a bias.
        inner_norm: whether to normalize the joined heads before the output projection (sub-LN:
            "Foundation Transformers", arXiv 2210.06423).
        normalization: the kind of these norms, `"layer"` or `"rms"`.
        rotary: a `Rotary`, which rotates queries and keys by their places; `None` for no rotation.
        grid: (rows, columns) of the patches, or an int for a square; only with `rotary`.
        num_prefix: number of tokens before the patches, which `rotary` does not rotate.

    Raises:
        ValueError: if `head_dim` is `None` and `num_heads` does not divide D.
        ValueError: if `rotary` is given and there is no `grid`, the input does not have
            `num_prefix + rows * columns` tokens, or d is not a multiple of 4.

    Example:
        >>> attention = MultiHeadSelfAttention(num_heads=3)
        >>> y, weights = attention(keras.Input((10, 48)), return_attention_scores=True)
        >>> y.shape, weights.shape
        ((None, 10, 48), (None, 3, 10, 10))
    """

    rank = 3
    mixes = frozenset(["tokens"])
    role = "attention"
    split_by = "num_heads"

    def __init__(
        self,
        num_heads: int,
        head_dim: int | None = None,
        qkv_bias: bool = True,
        qk_norm: bool = False,
        score: str = "scaled_dot",
        attention_dropout_rate: float = 0.0,
        dropout_rate: float = 0.0,
        epsilon: float = 1e-6,
        key_bias: bool = True,
        out_bias: bool = True,
        inner_norm: bool = False,
        normalization: str = "layer",
        rotary: Rotary | None = None,
        grid: int | tuple[int, int] | None = None,
        num_prefix: int = 0,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.num_heads = arguments.integer("num_heads", num_heads)
        self.head_dim = None if head_dim is None else arguments.integer("head_dim", head_dim)
        self.qkv_bias = arguments.flag("qkv_bias", qkv_bias)
        self.qk_norm = arguments.flag("qk_norm", qk_norm)
        self.score = arguments.choice("score", score, SCORES)
        self.attention_dropout_rate = arguments.rate(
            "attention_dropout_rate", attention_dropout_rate
        )
        self.dropout_rate = arguments.rate("dropout_rate", dropout_rate)
        self.epsilon = arguments.real("epsilon", epsilon, 0.0)
        self.key_bias = arguments.flag("key_bias", key_bias)
        self.out_bias = arguments.flag("out_bias", out_bias)
        self.inner_norm = arguments.flag("inner_norm", inner_norm)
        self.normalization = arguments.choice("normalization", normalization, NORMALIZATIONS)
        self.rotary = check_rotary("rotary", rotary)
        self.grid = None if grid is None else arguments.pair("grid", grid)
        self.num_prefix = arguments.integer("num_prefix", num_prefix, minimum=0)

        dtype = self.dtype_policy
        norm = functools.partial(
            NORMALIZATIONS[self.normalization], epsilon=self.epsilon, dtype=dtype
        )
        if self.qk_norm:
            self.query_norm, self.key_norm = norm(name="query_norm"), norm(name="key_norm")
        if self.inner_norm:
            self.norm = norm(name="norm")
        self.attention_dropout = Dropout(
            self.attention_dropout_rate, dtype=dtype, name="attention_dropout"
        )
        self.dropout = Dropout(self.dropout_rate, dtype=dtype, name="dropout")

    def build(self, x_shape):
        width = x_shape[-1]
        if self.head_dim is None:
            arguments.divides("num_heads", self.num_heads, "D", width)
        head_dim = self.head_dim or width // self.num_heads
        self.head_shape = (self.num_heads, head_dim)
        heads = (None, None, *self.head_shape)

        if self.rotary:
            self.check_rotary_sizes(x_shape[1], head_dim)

        # Glorot's limit for each of three matrices, because Keras would treat them as one.
        limit = (6.0 / (width + self.num_heads * head_dim)) ** 0.5
        without_key_bias = self.qkv_bias and not self.key_bias
        dense = (
            QueryKeyValue if without_key_bias else functools.partial(Dense, use_bias=self.qkv_bias)
        )
        self.qkv = dense(
            3 * self.num_heads * head_dim,
            kernel_initializer=keras.initializers.RandomUniform(-limit, limit),
            dtype=self.dtype_policy,
            name="qkv",
        )
        self.qkv.build(x_shape)
        joined = (None, None, self.num_heads * head_dim)
        self.out = Dense(width, use_bias=self.out_bias, dtype=self.dtype_policy, name="out")
        self.out.build(joined)
        if self.inner_norm:
            self.norm.build(joined)
        if self.rotary and self.rotary.learned:
            self.rotary_frequencies = self.add_weight(
                shape=(2, self.num_heads, head_dim // 2),
                initializer=random_frequencies(self.rotary),
                autocast=False,  # because half precision would change the angles
                name="rotary_frequencies",
            )
        if self.qk_norm:
            self.query_norm.build(heads)
            self.key_norm.build(heads)
        if self.score == "bilinear":
            self.score_kernel = self.add_weight(
                shape=(self.num_heads, head_dim, head_dim),
                initializer=keras.initializers.RandomNormal(stddev=1 / head_dim),
                name="score_kernel",
            )
        elif self.score == "additive":
            self.score_kernel = self.add_weight(
                shape=self.head_shape,
                initializer=keras.initializers.RandomNormal(stddev=head_dim**-0.5),
                name="score_kernel",
            )

    def check_rotary_sizes(self, tokens, head_dim):
        """Raise a ValueError if `rotary` cannot rotate these heads of these tokens."""
        rows, columns = self.grid or (0, 0)
        if not self.grid or tokens != self.num_prefix + rows * columns:
            raise ValueError(
                "With `rotary`, `num_prefix` + rows * columns of `grid` must be the number of"
                " tokens."
                f" {arguments.received(grid=self.grid, num_prefix=self.num_prefix)} for an input of"
                f" {tokens} tokens"
            )
        if head_dim % 4:
            raise ValueError(
                "The width of a head must be a multiple of 4 with `rotary`, which splits it into"
                f" pairs for two axes. Received: d={head_dim}"
            )
        self.fix_token_count(tokens)

    def rotary_tables(self):
        """(sine, cosine) of the angles of each token, as `rotate` takes them."""
        if self.rotary.learned:
            frequencies = ops.convert_to_tensor(self.rotary_frequencies)
            return learned_tables(self.rotary, frequencies, self.grid, self.num_prefix)
        return tables(self.rotary, self.grid, self.num_prefix, self.head_shape[1])

    def compute_output_spec(self, x, training=None, return_attention_scores=False):
        y = keras.KerasTensor(x.shape, dtype=self.compute_dtype)
        if not return_attention_scores:
            return y
        batch, tokens, _ = x.shape
        scores = (batch, self.num_heads, tokens, tokens)
        return y, keras.KerasTensor(scores, dtype=self.compute_dtype)

    def split_axes(self):
        return {
            "qkv/kernel": 0,
            "qkv/parts": 2,
            "score_kernel": 0,
            "rotary_frequencies": 1,
            "out/kernel": 0,
        }

    def multiply_adds(self, x_shape):
        _, tokens, width = x_shape
        heads, head_dim = self.head_shape
        projections = 4 * tokens * width * heads * head_dim  # queries, keys, values, output
        bilinear = tokens * heads * head_dim**2 if self.score == "bilinear" else 0
        return projections + bilinear + 2 * tokens**2 * heads * head_dim

    def call(self, x, training=None, return_attention_scores=False):
        drops_weights = training and self.attention_dropout_rate > 0
        if self.score == "scaled_dot" and not (drops_weights or return_attention_scores):
            y = self.project_out(self.attend(x, training), training)
        else:
            drop = functools.partial(self.attention_dropout, training=training)
            y, scores = self.with_weights(x, drop, training)

        y = self.dropout(y, training=training)
        return (y, ops.cast(scores, y.dtype)) if return_attention_scores else y

    def with_weights(self, x, edit=lambda weights: weights, training=None):
        """The output computed with `edit(weights)`, and the attention weights before the edit.

        Shapes: `(N, T, D) -> (N, T, D), (N, H, T, T)`. The weights have at least 32 bits. `edit`
        keeps their shape.
        """
        weights, value = self.weights_and_values(x)
        mixed = self.weighted(ops.cast(edit(weights), value.dtype), value)
        return self.project_out(mixed, training), weights

    def weights_and_values(self, x):
        """The attention weights, and the values that they weight.

        Shapes: `(N, T, D) -> (N, H, T, T), (N, T, H, d)`. The weights have at least 32 bits.
        """
        query, key, value = self.project(x)
        return self.attention_scores(query, key), value

    def attend(self, x, training=None):
        """`softmax(q . k / sqrt(d)) v` by a fused kernel: `(N, T, D) -> (N, T, H d)`."""
        attention = kernels.find("attention", x)
        learned = bool(self.rotary and self.rotary.learned)  # a kernel needs constant angles
        if attention and not (self.qk_norm or learned) and x.shape[1] is not None:
            few = kernels.find("attention_of_few_tokens", x)
            if few and not (training or self.rotary) and kernels.is_small(x):
                return few(self.qkv(x), self.num_heads)
            angles = self.rotary and self.rotary_tables()
            return attention(self.qkv(x), self.num_heads, self.rotary, angles)
        return self.join_heads(attend_heads(*self.project(x)))

    def project_out(self, mixed, training=None):
        """The output projection of the joined heads: `(N, T, H d) -> (N, T, D)`."""
        return self.out(self.norm(mixed, training=training) if self.inner_norm else mixed)

    def weighted(self, weights, value):
        """Sum the values, each times its weight: `(N, H, T, T), (N, T, H, d) -> (N, T, H d)`."""
        return self.join_heads(ops.einsum("nhqk,nkhd->nqhd", weights, value))

    def join_heads(self, mixed):
        """Concatenate the heads: `(N, T, H, d) -> (N, T, H d)`."""
        batch, tokens = sequence_shape(mixed)
        return ops.reshape(mixed, (batch, tokens, self.num_heads * self.head_shape[1]))

    def project(self, x):
        """Queries, keys and values, from one product: `(N, T, D) -> 3 x (N, T, H, d)`."""
        batch, tokens = sequence_shape(x)
        query, key, value = (
            ops.reshape(part, (batch, tokens, *self.head_shape)) for part in parts(self.qkv, x, 3)
        )
        if self.qk_norm:
            query, key = self.query_norm(query), self.key_norm(key)
        if self.rotary:
            angles = self.rotary_tables()
            query, key = (rotate(self.rotary, part, *angles) for part in (query, key))
        return query, key, value

    def attention_scores(self, query, key):
        """Weights whose rows sum to 1: `2 x (N, T, H, d) -> (N, H, T, T)`, in 32 bits or more."""
        logits = self.attention_logits(query, key)
        # Not in half precision, because it rounds the small weights of a long row to 0.
        logits = ops.cast(logits, keras.backend.result_type(logits.dtype, "float32"))
        return ops.softmax(logits, axis=-1)

    def attention_logits(self, query, key):
        """Scores before the softmax: `2 x (N, T, H, d) -> (N, H, T, T)`."""
        if self.score == "additive":
            # (N, query, 1, H, d) + (N, 1, key, H, d)
            hidden = ops.tanh(query[:, :, None] + key[:, None])
            return ops.einsum("nqkhd,hd->nhqk", hidden, ops.cast(self.score_kernel, hidden.dtype))
        if self.score == "bilinear":
            kernel = ops.cast(self.score_kernel, key.dtype)
            key = ops.einsum("hde,nkhe->nkhd", kernel, key)
        elif self.score == "scaled_dot":
            query = query * self.head_shape[1] ** -0.5
        return ops.einsum("nqhd,nkhd->nhqk", query, key)


def attend_heads(query, key, value):
    """`softmax(q . k / sqrt(d)) v` by a fused kernel.

    Shapes: `(N, Q, H, d), 2 x (N, T, H, d) -> (N, Q, H, d)`.
    """
    attention = kernels.find("attention_of_parts", query)
    if attention and None not in (query.shape[1], key.shape[1]):
        return ops.reshape(attention(query, key, value), (-1, *query.shape[1:]))
    return ops.dot_product_attention(query, key, value, scale=query.shape[-1] ** -0.5)


def sequence_shape(x):
    """(N, T) for a reshape; N is -1 if T is known, because the shape then stays static."""
    return (-1, x.shape[1]) if x.shape[1] is not None else ops.shape(x)[:2]

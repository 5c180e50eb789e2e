"""A model as checked data: all arguments are validated here, before any weight is allocated."""

import dataclasses
import math

from keras_mixers import arguments
from keras_mixers.arguments import CheckedDataclass, checked, count, non_negative, one_of
from keras_mixers.layers import activations
from keras_mixers.layers.attention import SCORES
from keras_mixers.layers.norms import NORMALIZATIONS
from keras_mixers.layers.patches import patch_grid
from keras_mixers.layers.position_embedding import KINDS
from keras_mixers.layers.rotary import Rotary, check_rotary

POOLS = ("token", "gap", "map", None)
# Where a model may have more norms than those of its branches, and where it may lack biases.
EXTRA_NORMS = ("patches", "embeddings", "attention", "mlp")
BIASES = ("patches", "key", "out", "mlp")

MOST_WEIGHTS = 100_000_000_000  # 400 GB in float32


def image_shape(name, value):
    """Check (height, width, channels), and return it as a tuple."""
    return arguments.integers(name, value, ("height", "width", "channels"))


def block_sequence(_, value):
    """Return the blocks as a tuple, because a caller could still change a list."""
    return tuple(value)


def some_of(*choices):
    """A check that the value is a sequence of `choices`; the result is a tuple in their order."""

    def check(name, value):
        expected = f"`{name}` must be a tuple of some of {', '.join(map(repr, choices))}"
        given = arguments.sequence(name, value, len(choices), expected)
        unknown = [each for each in given if each not in choices]
        if unknown or len(given) > len(choices):
            hint = arguments.nearest(unknown[0], choices) if unknown else ""
            raise ValueError(f"{expected}. {arguments.received(**{name: value})}{hint}")
        return tuple(choice for choice in choices if choice in given)

    return check


def activation(_, value):
    """Check that `activations.get` accepts a name or a function, and return it."""
    activations.get(value)
    return value


@dataclasses.dataclass(frozen=True, kw_only=True)
class Architecture(CheckedDataclass):
    """The blocks of a model and the sizes of all its layers.

    `blocks` has a `Block` for each block of the model, in order. The docstrings of the builders
    describe the other fields.

    Raises:
        ValueError, TypeError: if an argument is invalid; the message names it.
    """

    blocks: tuple = checked(block_sequence)
    input_shape: tuple = checked(image_shape)
    num_classes: int = checked(count)
    patch_size: tuple = checked(arguments.pair)
    hidden_dim: int = checked(arguments.integer)
    pool: str | None = checked(one_of(*POOLS))
    pool_num_heads: int | None = checked(arguments.integer, None)
    pool_mlp_dim: int | None = checked(arguments.integer, None)
    pool_prefix: bool = checked(arguments.flag, False)
    final_norm: bool = checked(arguments.flag, True)
    norm_after_pool: bool = checked(arguments.flag, False)
    representation_size: int | None = checked(arguments.integer, None)
    # The tokens.
    position_embedding: str | None = checked(one_of(*KINDS, None), None)
    position_prefix: bool = checked(arguments.flag, True)
    class_token: bool = checked(arguments.flag, False)
    distillation_token: bool = checked(arguments.flag, False)
    num_registers: int = checked(count, 0)
    rotary: Rotary | None = checked(check_rotary, None)
    # The mixers. A width of None follows from hidden_dim.
    num_heads: int | None = checked(arguments.integer, None)
    head_dim: int | None = checked(arguments.integer, None)
    qkv_bias: bool = checked(arguments.flag, True)
    qk_norm: bool = checked(arguments.flag, False)
    score: str = checked(one_of(*SCORES), "scaled_dot")
    mlp_dim: int | None = checked(arguments.integer, None)
    gated_mlp: bool = checked(arguments.flag, False)
    tokens_mlp_dim: int | None = checked(arguments.integer, None)
    kernel_size: tuple = checked(arguments.pair, 5)
    # All layers.
    activation: str = checked(activation, "gelu")
    normalization: str = checked(one_of(*NORMALIZATIONS), "layer")
    epsilon: float = checked(non_negative, 1e-6)
    extra_norms: tuple = checked(some_of(*EXTRA_NORMS), ())
    without_bias: tuple = checked(some_of(*BIASES), ())
    layer_scale_init: float | None = checked(non_negative, None)
    dropout_rate: float = checked(arguments.rate, 0.0)
    attention_dropout_rate: float = checked(arguments.rate, 0.0)
    stochastic_depth_rate: float = checked(arguments.rate, 0.0)
    gradient_checkpointing: bool = checked(arguments.flag, False)

    def __post_init__(self):
        super().__post_init__()
        self._check_size()  # before defaults are set, because its error names what the user gave
        self._fill(self._default_widths())
        self._fill({"pool_num_heads": self.num_heads, "pool_mlp_dim": self.mlp_dim})
        for block in dict.fromkeys(self.blocks):
            if block.check:
                block.check(self)
        self._check_widths()
        self._check_checkpointing()
        self._check_pooling()

    @property
    def grid(self):
        """(rows, columns) of the patches."""
        return patch_grid(self.input_shape[:2], self.patch_size)

    @property
    def num_prefix(self):
        """The number of tokens before the patches."""
        return self.class_token + self.distillation_token + self.num_registers

    @property
    def num_tokens(self):
        """The number of all tokens."""
        return self.num_prefix + self.grid[0] * self.grid[1]

    def _fill(self, defaults):
        """Replace None by a default."""
        for name, default in defaults.items():
            if getattr(self, name) is None:
                object.__setattr__(self, name, default)  # because the dataclass is frozen

    def _default_widths(self):
        """The widths in most published variants, as parts or multiples of `hidden_dim`."""
        most_heads = max(1, self.hidden_dim // 64)
        return {
            "num_heads": next(h for h in range(most_heads, 0, -1) if self.hidden_dim % h == 0),
            "mlp_dim": 4 * self.hidden_dim,
            "tokens_mlp_dim": max(1, self.hidden_dim // 2),
        }

    def _check_widths(self):
        if self.pool == "map":
            heads = "num_heads" if self.pool_num_heads == self.num_heads else "pool_num_heads"
            arguments.divides(heads, self.pool_num_heads, "hidden_dim", self.hidden_dim)
        if self.position_embedding == "sincos2d" and (self.hidden_dim % 4 or self.hidden_dim < 8):
            raise ValueError(
                "`hidden_dim` must be a multiple of 4, at least 8, for position_embedding="
                f"'sincos2d'. Received: hidden_dim={self.hidden_dim}"
            )

    def _check_checkpointing(self):
        rates = {name: getattr(self, name) for name in ("dropout_rate", "attention_dropout_rate")}
        if self.gradient_checkpointing and any(rates.values()):
            raise ValueError(
                "`gradient_checkpointing` must be False with dropout, because the backward pass"
                " would draw other numbers. Received: gradient_checkpointing=True with"
                f" {rates}"
            )

    def _check_pooling(self):
        if self.norm_after_pool and self.pool != "gap":
            raise ValueError(
                "`norm_after_pool` must be False unless `pool` is 'gap'. Received:"
                f" norm_after_pool=True and pool={self.pool!r}"
            )
        if self.norm_after_pool and not self.final_norm:
            raise ValueError(
                "`final_norm` must be True with norm_after_pool=True, which only moves this norm."
                " Received: final_norm=False and norm_after_pool=True"
            )
        if self.representation_size and (self.distillation_token or self.pool is None):
            raise ValueError(
                "`representation_size` must be None unless one pooled vector reaches one"
                f" classifier. Received: representation_size={self.representation_size} with"
                f" pool={self.pool!r}, distillation_token={self.distillation_token}"
            )
        if self.pool == "token" and not self.class_token:
            raise ValueError(
                "`pool` must not be 'token' without a class token; pool='gap' averages the patches."
                " Received: pool='token' and class_token=False"
            )
        if self.distillation_token and self.pool != "token":
            raise ValueError(
                "`pool` must be 'token' with a distillation token, because the model averages its"
                f" logits with those of the class token. Received: pool={self.pool!r}"
            )

    def _check_size(self):
        """Raise an error if a typing error makes a matrix that is too large for any machine.

        The sides of a weight matrix are two of these sizes. So no matrix has more weights than the
        product of the two largest sizes.
        """
        sizes = [
            ("hidden_dim", self.hidden_dim),
            ("hidden_dim", self.hidden_dim),  # twice, because it can be both sides
            ("MLP width", (self.mlp_dim or 0) * (2 if self.gated_mlp else 1)),
            ("MLP width of the pooling", self.pool_mlp_dim or 0),
            ("MLP width across tokens", self.tokens_mlp_dim or 0),
            ("width of all heads", (self.num_heads or 1) * (self.head_dim or 0)),
            ("places in kernel_size", math.prod(self.kernel_size)),
            ("values in a patch", math.prod(self.patch_size) * self.input_shape[2]),
            ("tokens", self.num_tokens),
            ("representation_size", self.representation_size or 0),
            ("num_classes", self.num_classes),
        ]
        self.check_product(*sorted(sizes, key=lambda named: named[1])[-2:])

    def check_product(self, *sizes):
        """Raise an error if the matrices of all blocks together have too many weights.

        Each block has a matrix with these sides. A side is a pair (name, size).
        """
        blocks = len(self.blocks)
        if blocks * math.prod(size for _, size in sizes) > MOST_WEIGHTS:
            received = " * ".join(f"{size} ({name})" for name, size in sizes)
            raise ValueError(
                "The sides of a weight matrix times the number of blocks must be at most"
                f" {MOST_WEIGHTS:,}. Received: {received} * {blocks} blocks"
            )

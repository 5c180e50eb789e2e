"""What a model is, as checked data: every argument is judged here, before any weight is made."""

import dataclasses
import math

from keras_mixers import arguments
from keras_mixers.arguments import (
    CheckedDataclass,
    checked,
    count,
    non_negative,
    one_of,
)
from keras_mixers.layers import activations
from keras_mixers.layers.attention import SCORES
from keras_mixers.layers.patch_embed import patch_grid
from keras_mixers.layers.position_embedding import KINDS

POOLS = ("token", "gap", "map", None)

MOST_WEIGHTS = 100_000_000_000  # they take 400 GB in float32


def image_shape(name, value):
    """(height, width, channels), channels last."""
    return arguments.integers(name, value, ("height", "width", "channels"))


def block_sequence(_, value):
    """The blocks as a tuple."""
    return tuple(value)


def activation(_, value):
    """The name or function, which `activations.get` accepts."""
    activations.get(value)
    return value


@dataclasses.dataclass(frozen=True, kw_only=True)
class Architecture(CheckedDataclass):
    """The blocks of a model, and what their layers need; the builders document the fields."""

    blocks: tuple = checked(block_sequence)  # a `Block` for each block, in order
    input_shape: tuple = checked(image_shape)
    num_classes: int = checked(count)
    patch_size: tuple = checked(arguments.pair)
    hidden_dim: int = checked(arguments.integer)
    pool: str | None = checked(one_of(*POOLS))
    norm_after_pool: bool = checked(arguments.flag, False)
    representation_size: int | None = checked(arguments.integer, None)
    # the tokens
    position_embedding: str | None = checked(one_of(*KINDS, None), None)
    position_prefix: bool = checked(arguments.flag, True)
    class_token: bool = checked(arguments.flag, False)
    distillation_token: bool = checked(arguments.flag, False)
    num_registers: int = checked(count, 0)
    # the mixers; a width that is None takes its usual share of hidden_dim
    num_heads: int | None = checked(arguments.integer, None)
    head_dim: int | None = checked(arguments.integer, None)
    qkv_bias: bool = checked(arguments.flag, True)
    qk_norm: bool = checked(arguments.flag, False)
    score: str = checked(one_of(*SCORES), "scaled_dot")
    mlp_dim: int | None = checked(arguments.integer, None)
    tokens_mlp_dim: int | None = checked(arguments.integer, None)
    kernel_size: tuple = checked(arguments.pair, 5)
    # all of them
    activation: str = checked(activation, "gelu")
    epsilon: float = checked(non_negative, 1e-6)
    layer_scale_init: float | None = checked(non_negative, None)
    dropout_rate: float = checked(arguments.rate, 0.0)
    attention_dropout_rate: float = checked(arguments.rate, 0.0)
    stochastic_depth_rate: float = checked(arguments.rate, 0.0)
    gradient_checkpointing: bool = checked(arguments.flag, False)

    def __post_init__(self):
        super().__post_init__()
        self._check_size()  # before defaults are set, because it names what the user gave
        for name, usual in self._usual_widths().items():
            if getattr(self, name) is None:
                object.__setattr__(self, name, usual)
        for block in dict.fromkeys(self.blocks):
            if block.check:
                block.check(self)
        self._check_widths()
        self._check_checkpointing()
        self._check_tokens()

    @property
    def grid(self):
        """(rows, columns) of the patches."""
        return patch_grid(self.input_shape[:2], self.patch_size)

    @property
    def num_prefix(self):
        """How many tokens come before the patches."""
        return self.class_token + self.distillation_token + self.num_registers

    @property
    def num_tokens(self):
        """How many tokens there are in all."""
        return self.num_prefix + self.grid[0] * self.grid[1]

    def _usual_widths(self):
        """What most published rows have: 64 channels a head, MLPs of 4 and of 1/2 the width."""
        most_heads = max(1, self.hidden_dim // 64)
        return {
            "num_heads": next(h for h in range(most_heads, 0, -1) if self.hidden_dim % h == 0),
            "mlp_dim": 4 * self.hidden_dim,
            "tokens_mlp_dim": max(1, self.hidden_dim // 2),
        }

    def _check_widths(self):
        if self.pool == "map":
            arguments.divides("num_heads", self.num_heads, "hidden_dim", self.hidden_dim)
        if self.position_embedding == "sincos2d" and (self.hidden_dim % 4 or self.hidden_dim < 8):
            raise ValueError(
                "`hidden_dim` must be a multiple of 4, at least 8, for position_embedding="
                f"'sincos2d'. Received: hidden_dim={self.hidden_dim}"
            )

    def _check_checkpointing(self):
        rates = {name: getattr(self, name) for name in ("dropout_rate", "attention_dropout_rate")}
        if self.gradient_checkpointing and any(rates.values()):
            raise ValueError(
                "`gradient_checkpointing` must be False with dropout, which would draw twice."
                f" Received: gradient_checkpointing=True with {rates}"
            )

    def _check_tokens(self):
        if self.norm_after_pool and self.pool != "gap":
            raise ValueError(
                "`norm_after_pool` is a choice of pool='gap' only. Received: norm_after_pool=True"
                f" and pool={self.pool!r}"
            )
        if self.representation_size and (self.distillation_token or self.pool is None):
            raise ValueError(
                "`representation_size` must be None without one pooled vector to represent."
                f" Received: representation_size={self.representation_size} with"
                f" pool={self.pool!r}, distillation_token={self.distillation_token}"
            )
        if self.pool == "token" and not self.class_token:
            raise ValueError(
                "`pool`='token' reads the class token. Received: class_token=False; pool='gap'"
                " averages the patches instead"
            )
        if self.distillation_token and self.pool != "token":
            raise ValueError(
                "`pool` must be 'token' with a distillation token, whose head is averaged with the"
                f" class token's. Received: pool={self.pool!r}"
            )

    def _check_size(self):
        """Refuse two sizes that can only be a typing error.

        A weight matrix has two of these sizes as its sides, hidden_dim perhaps as both. So a block
        has about as many weights as the product of the two largest.
        """
        sizes = [
            ("hidden_dim", self.hidden_dim),
            ("hidden_dim", self.hidden_dim),
            ("MLP width", self.mlp_dim or 0),
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
        """Refuse (name, size) pairs that multiply to too many weights in all blocks."""
        blocks = len(self.blocks)
        if blocks * math.prod(size for _, size in sizes) > MOST_WEIGHTS:
            received = " * ".join(f"{size} ({name})" for name, size in sizes)
            raise ValueError(
                "Sizes of matrices, multiplied with the number of blocks, must not be over the"
                f" limit of {MOST_WEIGHTS:,} weights. Received: {received} * {blocks} blocks"
            )

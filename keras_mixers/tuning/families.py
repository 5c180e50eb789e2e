"""The families' search spaces: the quantities of each, and what its builder takes."""

import dataclasses

from keras_mixers.deprecation import renamed_argument
from keras_mixers.models import ConvMixer, Hybrid, MLPMixer, ViT
from keras_mixers.models.mixers import LETTERS
from keras_mixers.tuning import ranges
from keras_mixers.tuning.ranges import searched
from keras_mixers.tuning.space import Range, SearchSpace


@renamed_argument("warmup_share", "warmup_fraction")
@dataclasses.dataclass(eq=False, kw_only=True)
class HyperViT(SearchSpace):
    """A search space of Vision Transformers, for any of KerasTuner's tuners.

    A quantity is what its argument says: a list is a choice of these, `(low, high)` a range, and
    anything else one fixed value. Whole numbers go from the low end, in the steps named below, as
    far as they reach; others are any number between the ends. Every point is a valid model: patches
    divide the image, heads the width. The default of each quantity is the value in its range
    nearest to a small model's that trains well.

    `tuner.search(load=..., epochs=...)` takes a function `load(batch_size=..., augmentation=...)
    -> (train, validation, ...)`, such as `functools.partial(km.data.load, "digits")`, and so
    searches all there is; `search(x, y, validation_data=...)` with arrays all but the augmentation;
    batches are taken as they are. Fix what is then not used, or it is searched for nothing. Give
    `epochs` (Hyperband does): the schedule spans them.

    A range of widths goes in steps from its low end; one narrower than a step goes in the largest
    part of a step that leads to its high end.

    A point over budget, or for which memory does not suffice, is a failed trial with the reason as
    its message; it does not end the search. See `infeasible` and `within_budget`.

    Args:
        input_shape: (height, width, channels) of the images.
        num_classes: how many classes there are.
        patch_size: pixels of a square patch's side; `None` for those that make 16 to 256 tokens. Of
            a range, the divisors of the image.
        hidden_dim: width of a token; in steps of 64.
        depth: how many blocks.
        learning_rate: the highest, on a logarithmic scale.
        weight_decay: likewise.
        warmup_fraction: share of the training in which the rate grows.
        schedule: how it falls after that; see `km.Recipe`.
        batch_size: images a step; a range doubles.
        augmentation: what training images go through; `km.data.Augmentation`s.
        recipe: what is not searched, of the training (its `epochs` and the quantities above are
            not used) and, as its `model_arguments`, of the model, such as
            `{"dtype": "mixed_bfloat16"}`; `None` for gradients clipped to a norm of 1.
        max_params: most weights of a model; `None` for any, as for the next two.
        max_flops: most multiply-adds of an image, as `km.count_flops` counts them.
        max_latency_ms: most milliseconds for one image on this machine, timed before training.
        latency_of: what is timed: `"keras"`, the model; `"onnxruntime"`, its exported file.
        head_dim: width of a head; must divide each `hidden_dim`. A range doubles; `None` for those
            of 16, 32 and 64 that divide.
        mlp_dim: hidden width of the MLP; in steps of 128.
        stochastic_depth_rate: share of samples dropped from the last block's branches.

    Raises:
        ValueError, TypeError: an argument will not do; the message says which, and what would.

    Example:
        >>> import keras_tuner
        >>> space = HyperViT((16, 16, 1), 10, depth=(2, 6), mlp_dim=[64, 128], max_params=500_000)
        >>> model = space.build(keras_tuner.HyperParameters())  # the default point
        >>> f"{model.count_params():,}"
        '408,970'

    Source: "An Image is Worth 16x16 Words", arXiv 2010.11929.
    """

    head_dim: Range | None = None
    mlp_dim: Range = searched(ranges.integers, (128, 1024), usual=256, step=128)
    stochastic_depth_rate: Range = searched(ranges.reals, (0.0, 0.2), usual=0.0, below=1.0)
    builder = staticmethod(ViT)

    def __post_init__(self):
        super().__post_init__()
        self.ranges["head_dim"] = ranges.heads("head_dim", self.head_dim, self.ranges["hidden_dim"])

    def family_arguments(self, point):
        return {
            "variant": "Ti/16",  # of which nothing is left but the way of its positions
            "depth": point["depth"],
            "num_heads": point["hidden_dim"] // point["head_dim"],
            "mlp_dim": point["mlp_dim"],
            "stochastic_depth_rate": point["stochastic_depth_rate"],
        }


@renamed_argument("warmup_share", "warmup_fraction")
@dataclasses.dataclass(eq=False, kw_only=True)
class HyperMLPMixer(SearchSpace):
    """A search space of MLP-Mixers; what every family has is told in `HyperViT`.

    Args:
        tokens_mlp_dim: hidden width of the MLP across tokens; in steps of 32.
        channels_mlp_dim: hidden width of the MLP across channels; in steps of 128.
        stochastic_depth_rate: share of samples dropped from the last block's branches.

    Raises:
        ValueError, TypeError: an argument will not do; the message says which, and what would.

    Example:
        >>> import keras_tuner
        >>> space = HyperMLPMixer((16, 16, 1), 10, hidden_dim=[32, 64], tokens_mlp_dim=(32, 96))
        >>> space.arguments_of(keras_tuner.HyperParameters())["tokens_mlp_dim"]
        64

    Source: "MLP-Mixer: An all-MLP Architecture for Vision", arXiv 2105.01601.
    """

    tokens_mlp_dim: Range = searched(ranges.integers, (32, 256), usual=64, step=32)
    channels_mlp_dim: Range = searched(ranges.integers, (128, 1024), usual=256, step=128)
    stochastic_depth_rate: Range = searched(ranges.reals, (0.0, 0.2), usual=0.0, below=1.0)
    builder = staticmethod(MLPMixer)

    def family_arguments(self, point):
        names = ("depth", "tokens_mlp_dim", "channels_mlp_dim", "stochastic_depth_rate")
        return {"variant": "S/16", **{name: point[name] for name in names}}


@renamed_argument("warmup_share", "warmup_fraction")
@dataclasses.dataclass(eq=False, kw_only=True)
class HyperConvMixer(SearchSpace):
    """A search space of ConvMixers; what every family has is told in `HyperViT`.

    Args:
        kernel_size: of the depthwise convolution, in tokens; a range has every second.

    Raises:
        ValueError, TypeError: an argument will not do; the message says which, and what would.

    Example:
        >>> import keras_tuner
        >>> space = HyperConvMixer((16, 16, 1), 10, kernel_size=(3, 7))
        >>> space.arguments_of(keras_tuner.HyperParameters())["kernel_size"]
        5

    Source: "Patches Are All You Need?", arXiv 2201.09792.
    """

    kernel_size: Range = searched(ranges.integers, (3, 9), usual=5, step=2)
    builder = staticmethod(ConvMixer)

    def family_arguments(self, point):
        names = ("depth", "kernel_size")
        return {"variant": "256/8-k5-p2", **{name: point[name] for name in names}}


@renamed_argument("warmup_share", "warmup_fraction")
@dataclasses.dataclass(eq=False, kw_only=True)
class HyperHybrid(SearchSpace):
    """A search space of hybrids, the mixer of each block too; the rest is told in `HyperViT`.

    Block `i` has the hyperparameter `letter_i`, where there are so many blocks. By default the
    letters stand in the order of the list, the last where there are more blocks than four: "CCMA",
    from neighbours to all tokens. Quantities of letters that the pattern lacks are not used.

    Args:
        depth: how many blocks, from 2 to 8.
        letters: the mixers that a block may have: `"C"` a ConvMixer block, `"M"` an MLP across
            tokens, `"A"` self-attention, `"P"` pooling, `"G"` spatial gating.
        head_dim: width of a head of `"A"`; as in `HyperViT`.
        mlp_dim: hidden width across channels; in steps of 128.
        tokens_mlp_dim: hidden width across tokens of `"M"`; in steps of 32.
        kernel_size: of `"C"`, in tokens; a range has every second.
        stochastic_depth_rate: share of samples dropped from the last block's branches.

    Raises:
        ValueError, TypeError: an argument will not do; the message says which, and what would.

    Example:
        >>> import keras_tuner
        >>> space = HyperHybrid((16, 16, 1), 10, depth=(2, 5), letters=["M", "A"])
        >>> space.arguments_of(keras_tuner.HyperParameters())["pattern"]
        'MMAA'
    """

    depth: Range = searched(ranges.integers, (2, 8), usual=4)
    letters: Range = searched(ranges.names, ["C", "M", "A"], of=LETTERS)
    head_dim: Range | None = None
    mlp_dim: Range = searched(ranges.integers, (128, 1024), usual=256, step=128)
    tokens_mlp_dim: Range = searched(ranges.integers, (32, 256), usual=64, step=32)
    kernel_size: Range = searched(ranges.integers, (3, 9), usual=5, step=2)
    stochastic_depth_rate: Range = searched(ranges.reals, (0.0, 0.2), usual=0.0, below=1.0)
    builder = staticmethod(Hybrid)

    def __post_init__(self):
        super().__post_init__()
        self.ranges["head_dim"] = ranges.heads("head_dim", self.head_dim, self.ranges["hidden_dim"])
        letters = self.ranges.pop("letters").values
        usual_depth, depths = self.ranges["depth"].default, self.ranges["depth"].values
        self.blocks = [
            ranges.Choices(letters, letters[min(i * len(letters) // usual_depth, len(letters) - 1)])
            for i in range(max(depths))
        ]

    def point(self, hp):
        point, pattern = super().point(hp), []
        # The deepest first: KerasTuner finds all letters at once by trying the first.
        depths = sorted(self.ranges["depth"].values, reverse=True)
        for i, block in enumerate(self.blocks):
            with hp.conditional_scope("depth", [depth for depth in depths if depth > i]):
                pattern.append(block.ask(hp, f"letter_{i}"))
        return {**point, "pattern": "".join(pattern[: point["depth"]])}

    def family_arguments(self, point):
        return {
            "pattern": point["pattern"],
            "num_heads": point["hidden_dim"] // point["head_dim"],
            **{
                name: point[name]
                for name in ("mlp_dim", "tokens_mlp_dim", "kernel_size", "stochastic_depth_rate")
            },
        }

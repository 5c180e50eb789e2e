"""The search space of each model family: its quantities, and the arguments of its builder."""

import dataclasses

from keras_mixers.deprecation import renamed_argument
from keras_mixers.models import ConvMixer, Hybrid, MLPMixer, ViT
from keras_mixers.models.mixers import LETTERS
from keras_mixers.tuning import ranges
from keras_mixers.tuning.family import FamilySpace
from keras_mixers.tuning.ranges import Quantity, searched

# Hidden widths of the MLPs, for the default `hidden_dim`.
CHANNELS_MLP = {"limits": (128, 1024), "default": 256}
TOKENS_MLP = {"limits": (32, 256), "default": 64}


@renamed_argument("warmup_share", "warmup_fraction")
@dataclasses.dataclass(eq=False, kw_only=True)
class HyperViT(FamilySpace):
    """A search space of Vision Transformers for KerasTuner.

    All quantities from `patch_size` to `augmentation`, and those of the family, can be searched.
    Each of them is

    - a list of choices,
    - a range `(low, high)`, or
    - one fixed value.

    A range of integers starts at `low` and takes the steps that are stated below. It contains
    `high` only if a step reaches it. If a range is narrower than its step, the step becomes the
    greatest common divisor of the step and `high - low`. A range of other numbers contains all
    numbers between its ends.

    Every configuration is a valid model: the patch size divides the image and the head width
    divides the model's width. The default of each quantity is the value nearest to that of a small
    model that trains well.

    Pass the data to `tuner.search` in one of three ways. Also pass `epochs` (Hyperband does), which
    the learning rate schedule needs.

    - `tuner.search(load=..., epochs=...)` searches all quantities. `load` is a function
      `load(batch_size=..., augmentation=...) -> (train, validation, ...)`, such as
      `functools.partial(km.data.load, "digits")`.
    - `tuner.search(x, y, validation_data=..., epochs=...)` divides arrays into batches, but does
      not augment them. Fix the augmentation: `augmentation=km.data.Augmentation()`.
    - `tuner.search(batches, validation_data=..., epochs=...)` uses the batches unchanged. Fix the
      augmentation and `batch_size`.

    Give unused quantities a fixed value, or the search wastes trials on them.

    The search tries only configurations within `max_params` and `max_flops`, if it finds them. It
    skips up to 100 others in a row. A configuration that is over budget, or for which memory runs
    out, is a failed trial. It counts as one of `max_trials`. The search prints the reason in one
    line and continues. See `infeasible` and `within_budget`.

    After an interruption, run the same program again to resume the search. The search writes its
    state atomically. If a file of the state is damaged, the search renames that file and continues
    from the trials that are intact. Another space or budget needs another `directory` of the tuner.
    `within_budget` documents several processes.

    `print(km.tuning.results(tuner))` shows all trials as a table. After the search,
    `tuner.get_best_models()` loads models as they were trained. For the `best`
    configuration of `tuner.get_best_hyperparameters()`, `space.arguments_of(best)` returns the
    arguments of the model and `space.cost_of(best)` its cost. `space.build(best)` and
    `space.recipe_of(best, epochs)` return a new model and the recipe to train it.

    Args:
        input_shape: (height, width, channels) of the images.
        num_classes: number of classes.
        patch_size: side of a square patch in pixels. A range means the values in it that divide
            the height and width of the image. `None` means those that give 16 to 256 tokens.
        hidden_dim: width of a token. A range takes steps of 64.
        depth: number of blocks.
        learning_rate: the maximum of the schedule. A range is sampled on a logarithmic scale.
        weight_decay: as in `km.Recipe`. A range is sampled on a logarithmic scale.
        warmup_fraction: fraction of the training in which the learning rate grows.
        schedule: how the learning rate falls after the warm-up, as in `km.Recipe`.
        batch_size: images in a step. A range doubles from its low end.
        augmentation: a `km.data.Augmentation` of the training images, the name of a recipe in
            `km.recipes()`, which stands for its augmentation, or a list of them.
        recipe: everything about the training that is not searched. Its `epochs` and the quantities
            above are ignored, and it must not have `head_epochs`. Its `model_arguments` go to the
            model's builder, for example `{"dtype": "mixed_bfloat16"}`. `None` clips gradients to a
            norm of 1.
        max_params: largest number of weights of a model. `None` means no limit, here and below.
        max_flops: largest number of multiply-adds for an image, as `km.count_flops` counts them.
        max_latency_ms: largest latency for one image on this machine, in milliseconds. It is
            measured before the training.
        latency_of: what is timed: `"keras"`, the model; `"onnxruntime"`, its exported file.
        head_dim: width of an attention head, which must divide each `hidden_dim`. A range doubles
            from its low end. `None` means those of 16, 32 and 64 that divide each `hidden_dim`, or
            their greatest common divisor if none of the three does.
        mlp_dim: hidden width of the MLP. A range takes steps of 128. `None` means 128 to 1024, or a
            smaller range that follows a small `hidden_dim`: from twice the smallest one to four
            times the largest one.
        stochastic_depth_rate: probability that a sample skips a branch of the last block.

    Raises:
        ValueError, TypeError: if an argument is invalid; the message names it.

    Example:
        >>> import keras_tuner
        >>> space = HyperViT((16, 16, 1), 10, depth=(2, 6), mlp_dim=[64, 128], max_params=500_000)
        >>> model = space.build(keras_tuner.HyperParameters())  # the default configuration
        >>> f"{model.count_params():,}"
        '408,970'

    Source: "An Image is Worth 16x16 Words", arXiv 2010.11929.
    """

    head_dim: Quantity | None = searched(ranges.head_dims, None, needs="hidden_dim")
    mlp_dim: Quantity | None = searched(ranges.mlp_dims, None, needs="hidden_dim", **CHANNELS_MLP)
    stochastic_depth_rate: Quantity = searched(ranges.reals, (0.0, 0.2), default=0.0, below=1.0)
    builder = staticmethod(ViT)

    def family_arguments(self, values):
        return {
            "variant": "Ti/16",  # only for its kind of positions, because all sizes are given
            "depth": values["depth"],
            "num_heads": values["hidden_dim"] // values["head_dim"],
            "mlp_dim": values["mlp_dim"],
            "stochastic_depth_rate": values["stochastic_depth_rate"],
        }


@renamed_argument("warmup_share", "warmup_fraction")
@dataclasses.dataclass(eq=False, kw_only=True)
class HyperMLPMixer(FamilySpace):
    """A search space of MLP-Mixers for KerasTuner.

    `HyperViT` documents how to search, and the arguments that all families have.

    Args:
        tokens_mlp_dim: hidden width of the MLP across tokens. A range takes steps of 32. `None`
            means 32 to 256, or a smaller range that follows a small `hidden_dim`: from half of the
            smallest one to the largest one.
        channels_mlp_dim: hidden width of the MLP across channels, as `mlp_dim` in `HyperViT`.
        stochastic_depth_rate: probability that a sample skips a branch of the last block.

    Raises:
        ValueError, TypeError: if an argument is invalid; the message names it.

    Example:
        >>> import keras_tuner
        >>> space = HyperMLPMixer((16, 16, 1), 10, hidden_dim=[32, 64], tokens_mlp_dim=(32, 96))
        >>> space.arguments_of(keras_tuner.HyperParameters())["tokens_mlp_dim"]
        32

    Source: "MLP-Mixer: An all-MLP Architecture for Vision", arXiv 2105.01601.
    """

    tokens_mlp_dim: Quantity | None = searched(
        ranges.mlp_dims, None, needs="hidden_dim", **TOKENS_MLP
    )
    channels_mlp_dim: Quantity | None = searched(
        ranges.mlp_dims, None, needs="hidden_dim", **CHANNELS_MLP
    )
    stochastic_depth_rate: Quantity = searched(ranges.reals, (0.0, 0.2), default=0.0, below=1.0)
    builder = staticmethod(MLPMixer)

    def family_arguments(self, values):
        names = ("depth", "tokens_mlp_dim", "channels_mlp_dim", "stochastic_depth_rate")
        return {"variant": "S/16", **{name: values[name] for name in names}}


@renamed_argument("warmup_share", "warmup_fraction")
@dataclasses.dataclass(eq=False, kw_only=True)
class HyperConvMixer(FamilySpace):
    """A search space of ConvMixers for KerasTuner.

    `HyperViT` documents how to search, and the arguments that all families have.

    Args:
        kernel_size: side of the depthwise convolution's kernel, in tokens. A range takes steps
            of 2.

    Raises:
        ValueError, TypeError: if an argument is invalid; the message names it.

    Example:
        >>> import keras_tuner
        >>> space = HyperConvMixer((16, 16, 1), 10, kernel_size=(3, 7))
        >>> space.arguments_of(keras_tuner.HyperParameters())["kernel_size"]
        5

    Source: "Patches Are All You Need?", arXiv 2201.09792.
    """

    kernel_size: Quantity = searched(ranges.integers, (3, 9), default=5, step=2)
    builder = staticmethod(ConvMixer)

    def family_arguments(self, values):
        names = ("depth", "kernel_size")
        return {"variant": "256/8-k5-p2", **{name: values[name] for name in names}}


@renamed_argument("warmup_share", "warmup_fraction")
@dataclasses.dataclass(eq=False, kw_only=True)
class HyperHybrid(FamilySpace):
    """A search space of hybrids for KerasTuner, which also searches the mixer of each block.

    `HyperViT` documents how to search, and the arguments that all families have.

    Block `i` has the hyperparameter `letter_i`, in configurations with more than `i` blocks. The
    default pattern spreads the letters, in the order of the list, over the default depth. Deeper
    blocks have the last letter. Without arguments the default pattern is "CCMA", from local mixing
    to global mixing. Quantities of letters that are not in the pattern have no effect.

    Args:
        depth: number of blocks, from 2 to 8 by default.
        letters: the mixers that a block can have: `"C"` a ConvMixer block, `"M"` an MLP across
            tokens, `"A"` self-attention, `"P"` pooling, `"F"` Fourier transform, `"G"` spatial
            gating.
        head_dim: width of a head of `"A"`, as in `HyperViT`.
        mlp_dim: hidden width of the MLP across channels, as in `HyperViT`.
        tokens_mlp_dim: hidden width of the MLP across tokens, of `"M"`, as in `HyperMLPMixer`.
        kernel_size: side of the kernel of `"C"`, in tokens. A range takes steps of 2.
        stochastic_depth_rate: probability that a sample skips a branch of the last block.

    Raises:
        ValueError, TypeError: if an argument is invalid; the message names it.

    Example:
        >>> import keras_tuner
        >>> space = HyperHybrid((16, 16, 1), 10, depth=(2, 5), letters=["M", "A"])
        >>> space.arguments_of(keras_tuner.HyperParameters())["pattern"]
        'MMAA'
    """

    depth: Quantity = searched(ranges.integers, (2, 8), default=4)
    letters: Quantity = searched(ranges.names, ["C", "M", "A"], allowed=LETTERS)
    head_dim: Quantity | None = searched(ranges.head_dims, None, needs="hidden_dim")
    mlp_dim: Quantity | None = searched(ranges.mlp_dims, None, needs="hidden_dim", **CHANNELS_MLP)
    tokens_mlp_dim: Quantity | None = searched(
        ranges.mlp_dims, None, needs="hidden_dim", **TOKENS_MLP
    )
    kernel_size: Quantity = searched(ranges.integers, (3, 9), default=5, step=2)
    stochastic_depth_rate: Quantity = searched(ranges.reals, (0.0, 0.2), default=0.0, below=1.0)
    builder = staticmethod(Hybrid)

    def __post_init__(self):
        super().__post_init__()
        letters = self.ranges.pop("letters").values  # not a hyperparameter: each block has one
        default_depth, depths = self.ranges["depth"].default, self.ranges["depth"].values
        self.blocks = [
            ranges.Choices(
                letters, letters[min(i * len(letters) // default_depth, len(letters) - 1)]
            )
            for i in range(max(depths))
        ]

    def configuration(self, hp):
        values, pattern = super().configuration(hp), []
        # The largest depth first, because KerasTuner tries the first one to find all letters.
        depths = sorted(self.ranges["depth"].values, reverse=True)
        for i, block in enumerate(self.blocks):
            with hp.conditional_scope("depth", [depth for depth in depths if depth > i]):
                pattern.append(block.register(hp, f"letter_{i}"))
        return {**values, "pattern": "".join(pattern[: values["depth"]])}

    def family_arguments(self, values):
        names = ("mlp_dim", "tokens_mlp_dim", "kernel_size", "stochastic_depth_rate")
        return {
            "pattern": values["pattern"],
            "num_heads": values["hidden_dim"] // values["head_dim"],
            **{name: values[name] for name in names},
        }

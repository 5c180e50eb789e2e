"""The search space of fine-tuning: which backbone, which of its weights train, and the recipe."""

import dataclasses
from typing import Any

from keras_tuner.errors import FatalTypeError

from keras_mixers import arguments
from keras_mixers.data import Augmentation
from keras_mixers.graph import disabled_lora
from keras_mixers.preprocessing import Preprocessing
from keras_mixers.training import Recipe
from keras_mixers.training.schedule import SHAPES
from keras_mixers.tuning import ranges
from keras_mixers.tuning.backbones import SET_BY_SPACE, BackboneWeights, read_backbones
from keras_mixers.tuning.budget import InfeasibleError, raise_over_budget
from keras_mixers.tuning.ranges import Quantity, searched
from keras_mixers.tuning.space import AUGMENTATIONS, SearchSpace

METHODS = ("full", "freeze", "lora", "head")
# The methods for which a quantity has an effect. For all others it is not a hyperparameter.
ONLY_FOR = {
    "layer_decay": ("full", "freeze"),
    "frozen_fraction": ("freeze",),
    "lora_rank": ("lora",),
}


@dataclasses.dataclass(eq=False)
class HyperFineTune(SearchSpace):
    """A search space of fine-tuning for KerasTuner: a pretrained backbone with a new head.

    `HyperViT` documents lists, ranges and fixed values, how to search within a budget, and how to
    resume. All quantities from `method` to `augmentation` can be searched. With several backbones,
    the hyperparameter `backbone` is the name of one of them.

    The hyperparameter `method` says which weights train:

    - `"full"`: all weights.
    - `"freeze"`: all except the stem and the first blocks. `frozen_fraction` says how many.
    - `"lora"`: the head, and LoRA matrices of rank `lora_rank` in the blocks.
    - `"head"`: the head.

    `layer_decay`, `frozen_fraction` and `lora_rank` exist only for the methods that use them. The
    search skips `"lora"` for a backbone without Dense layers in its blocks, such as a ConvMixer.

    Each backbone needs images with the preprocessing of its weights. So pass a function to
    `tuner.search(load=..., epochs=...)`, such as `functools.partial(km.data.load, "digits")`. The
    space calls `load(batch_size=..., augmentation=..., preprocessing=...)` for each trial. The
    preprocessing resizes images to `input_shape` and gives grey images its number of channels.
    Arrays and batches, as for `HyperViT`, need backbones with equal preprocessing, and it must have
    been applied: `space.preprocessing_of(hp)`.

    A process reads the weights of a backbone from their file once. It keeps up to 2 GiB of weights
    in memory. The head is new in each trial. The latency of a backbone is measured once, without
    LoRA matrices, because exports add them to the kernels.

    For the `best` configuration of `tuner.get_best_hyperparameters()`, `space.build(best)` returns
    a new model with the backbone's weights, and `space.recipe_of(best, epochs)` the recipe.
    `space.arguments_of(best)` returns the arguments of `km.create_model`, whose name is `"model"`.

    Args:
        backbones: names of `km.list_models()` or `"hf://owner/name"`, as a list; or a dict,
            `{any name: {argument: value}}`. The arguments are those of `km.create_model`, such as
            `weights`, the path of a file, or `input_shape`. There are two more: `"model"`, the name
            for `km.create_model` if it differs, and `"preprocessing"`. Weights outside
            `km.pretrained()` need the latter. `"pretrained": False` gives random weights.
        input_shape: (height, width, channels) of the images.
        num_classes: number of classes.
        method: which weights train: `"full"`, `"freeze"`, `"lora"` or `"head"`.
        layer_decay: ratio of a block's learning rate to the next block's.
        frozen_fraction: fraction of the blocks that `"freeze"` freezes, rounded to at least one.
        lora_rank: rank of the matrices of `"lora"`. A range doubles from its low end.
        learning_rate: the maximum of the schedule. A range is sampled on a logarithmic scale.
        weight_decay: as in `km.Recipe`. A range is sampled on a logarithmic scale.
        warmup_fraction: fraction of the training in which the learning rate grows.
        schedule: how the learning rate falls after the warm-up, as in `km.Recipe`.
        batch_size: images in a step. A range doubles from its low end.
        gradient_accumulation_steps: steps whose gradients are averaged for one update. A range
            doubles from its low end.
        augmentation: a `km.data.Augmentation` of the training images, the name of a recipe in
            `km.recipes()`, which stands for its augmentation, or a list of them.
        recipe: everything about the training that is not searched. Its `epochs` and the quantities
            above are ignored, and it must not have `head_epochs`. Its `model_arguments` go to
            `km.create_model`. `None` clips gradients to a norm of 1.
        max_params: largest number of weights of a model, without LoRA matrices. `None` means no
            limit, here and below.
        max_flops: largest number of multiply-adds for an image, as `km.count_flops` counts them.
        max_latency_ms: largest latency for one image on this machine, in milliseconds.
        latency_of: what is timed: `"keras"`, the model; `"onnxruntime"`, its exported file.
        max_memory_mb: largest memory of a training step in MB (10^6 bytes), as `space.memory_of`
            estimates it from shapes: weights, gradients, the optimizer's numbers, and what the
            backward pass needs of `batch_size` images. It depends on the method. It does not count
            the libraries and the input pipeline. Per image, TensorFlow took 0.8 to 1.2 times the
            estimate on CPUs.

    Raises:
        ValueError, TypeError: if an argument is invalid; the message names it. This includes
            arguments of a backbone, for example if its patches do not divide `input_shape`.

    Example:
        >>> import keras_tuner
        >>> tiny = {"depth": 2, "hidden_dim": 8, "num_heads": 1, "pretrained": False}
        >>> space = HyperFineTune(
        ...     {
        ...         "vit_tiny_patch16_224.augreg_in21k": tiny,
        ...         "small patches": {**tiny, "model": "vit_tiny_patch16_224", "patch_size": 8},
        ...     },
        ...     (32, 32, 3),
        ...     10,
        ...     method=["lora", "head"],
        ... )
        >>> space.recipe_of(keras_tuner.HyperParameters(), epochs=5).lora_rank
        8

    Source of `"lora"`: "LoRA: Low-Rank Adaptation of Large Language Models", arXiv 2106.09685.
    """

    backbones: str | list[str] | dict[str, dict[str, Any]]
    input_shape: tuple[int, int, int]
    num_classes: int
    _: dataclasses.KW_ONLY
    method: Quantity = searched(ranges.names, list(METHODS), allowed=METHODS)
    layer_decay: Quantity = searched(ranges.fractions, (0.6, 1.0), default=0.75)
    frozen_fraction: Quantity = searched(ranges.fractions, [0.25, 0.5, 0.75], default=0.5)
    lora_rank: Quantity = searched(ranges.integers, [4, 8, 16], default=8, doubling=True)
    learning_rate: Quantity = searched(ranges.reals, (3e-5, 3e-3), default=3e-4, log=True)
    weight_decay: Quantity = searched(ranges.reals, (1e-3, 0.3), default=0.05, log=True)
    warmup_fraction: Quantity = searched(ranges.reals, 0.1, default=0.1, below=1.0)
    schedule: Quantity = searched(ranges.names, "cosine", allowed=SHAPES)
    batch_size: Quantity = searched(ranges.integers, 32, default=32, doubling=True)
    gradient_accumulation_steps: Quantity = searched(ranges.integers, 1, default=1, doubling=True)
    augmentation: Augmentation | str | list[Any] = searched(ranges.augmentations, AUGMENTATIONS)
    recipe: Recipe | None = None
    max_params: int | None = None
    max_flops: int | None = None
    max_latency_ms: float | None = None
    latency_of: str = "keras"
    max_memory_mb: float | None = None
    set_by_space = frozenset({*SET_BY_SPACE, "weights", "model", "preprocessing", "pretrained"})

    def __post_init__(self):
        super().__post_init__()
        if self.max_memory_mb is not None:
            arguments.real("max_memory_mb", self.max_memory_mb, 0.0)
        self.found = read_backbones(
            self.backbones, self.input_shape, self.num_classes, self.recipe.model_arguments
        )
        names = tuple(self.found)
        self.ranges = {"backbone": ranges.Choices(names, names[0]), **self.ranges}
        if not any(backbone.footprint.lora_sides for backbone in self.found.values()):
            self._refuse_lora()
        self.weights = BackboneWeights()
        self.latencies = {}  # {name of a backbone: milliseconds}

    def _refuse_lora(self):
        """Raise if the method LoRA is searched, because no backbone can have its matrices."""
        if "lora" in self.ranges["method"].values:
            raise ValueError(
                "`method` must not have 'lora' if no backbone has Dense layers in its blocks."
                f" {arguments.received(method=self.method)} and backbones {', '.join(self.found)}"
            )

    def configuration(self, hp) -> dict:
        """Register the quantities and return `{name: value}`; those without an effect are None."""
        methods, values = self.ranges["method"].values, {}
        for name, quantity in self.ranges.items():
            users = [method for method in ONLY_FOR.get(name, ()) if method in methods]
            if name not in ONLY_FOR:
                values[name] = quantity.register(hp, name)
            elif users:
                with hp.conditional_scope("method", users):
                    values[name] = quantity.register(hp, name)
            else:
                values[name] = None
        return values

    def backbone_of(self, hp):
        """The `Backbone` of a configuration."""
        return self.found[self.configuration(hp)["backbone"]]

    def arguments_of(self, hp) -> dict:
        """The arguments of `km.create_model` for a configuration; its name is `"model"`."""
        backbone = self.backbone_of(hp)
        return {
            "model": backbone.model,
            "pretrained": backbone.pretrained,
            **backbone.arguments,
            **backbone.weights,
        }

    def preprocessing_of(self, hp) -> Preprocessing:
        """The preprocessing of the images for the backbone of a configuration."""
        return self.backbone_of(hp).preprocessing

    def recipe_of(self, hp, epochs: int) -> Recipe:
        """The recipe that trains a configuration for this many epochs."""
        values, depth = self.configuration(hp), self.backbone_of(hp).footprint.depth
        frozen = {"full": None, "lora": None, "head": "all"}
        if values["method"] == "freeze":
            frozen["freeze"] = max(1, round(values["frozen_fraction"] * depth))
        return dataclasses.replace(
            super().recipe_of(hp, epochs),
            frozen_blocks=frozen[values["method"]],
            lora_rank=values["lora_rank"],
            layer_decay=1.0 if values["layer_decay"] is None else values["layer_decay"],
            gradient_accumulation_steps=values["gradient_accumulation_steps"],
        )

    def cost_of(self, hp) -> dict[str, int]:
        """Parameters and multiply-adds of the model without LoRA matrices."""
        return self.backbone_of(hp).cost

    def memory_of(self, hp) -> float:
        """An estimate of the memory of a training step in MB; see `max_memory_mb`."""
        return self.backbone_of(hp).footprint.bytes_of(self.recipe_of(hp, epochs=1)) / 1e6

    def size_key(self, hp) -> str:
        values = self.configuration(hp)
        measured = self.latencies.get(values["backbone"])
        return repr((values["backbone"], values["method"], measured, self.memory_of(hp)))

    def check_size(self, hp):
        """Raise an `InfeasibleError` if the backbone is over budget or does not allow the method.

        A latency counts after it has been measured.
        """
        super().check_size(hp)
        values = self.configuration(hp)
        self.budget.check_latency(self.latencies.get(values["backbone"]))
        if values["method"] == "lora" and not self.backbone_of(hp).footprint.lora_sides:
            raise InfeasibleError(
                f"method='lora' for {values['backbone']}, whose blocks have no Dense layers"
            )
        if self.max_memory_mb is not None and self.memory_of(hp) > self.max_memory_mb:
            raise_over_budget(
                "MB in training", round(self.memory_of(hp)), "max_memory_mb", self.max_memory_mb
            )

    def make_model(self, hp):
        return self.weights.model_of(self.configuration(hp)["backbone"], self.backbone_of(hp))

    def latency_of_model(self, hp, model):
        name = self.configuration(hp)["backbone"]
        if name not in self.latencies:
            with disabled_lora(model):
                self.latencies[name] = super().latency_of_model(hp, model)
        return self.latencies[name]

    def load_options(self, hp) -> dict:
        return {"preprocessing": self.preprocessing_of(hp)}

    def _train(self, hp, model, data, load, options):
        if load is None and len({repr(each.preprocessing) for each in self.found.values()}) > 1:
            raise FatalTypeError(
                "search() must be given load=..., because the backbones need images with different"
                f" preprocessing. Received: no `load`, and backbones {', '.join(self.found)}"
            )
        return super()._train(hp, model, data, load, options)

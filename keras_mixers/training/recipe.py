"""A training recipe as data: it prints, converts to and from JSON, and compiles a model."""

import dataclasses
import json
import math
import os
from typing import Any

import keras

from keras_mixers import arguments
from keras_mixers.arguments import CheckedDataclass, checked, non_negative, one_of
from keras_mixers.data import Augmentation
from keras_mixers.files import write_text
from keras_mixers.models.image_model import ImageModel
from keras_mixers.serialization import parse_json
from keras_mixers.training import choice, freezing, layerwise, lora, losses, schedule
from keras_mixers.training.average_precision import AveragePrecision
from keras_mixers.training.optimizer import LayerwiseAdamW, LayerwiseSGD


def _augmentation(name, value):
    if not isinstance(value, Augmentation):
        received = arguments.received(**{name: value})
        raise TypeError(f"`{name}` must be km.data.Augmentation(...). {received}")
    return value


def _json_dict(name, value):
    try:
        if isinstance(value, dict):
            return json.loads(json.dumps(value))  # a copy with the types that `load` reads back
    except (TypeError, ValueError, RecursionError):
        pass
    raise TypeError(
        f"`{name}` must be a dict of values that JSON can hold: names, numbers, lists."
        f" {arguments.received(**{name: value})}"
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recipe(CheckedDataclass):
    """Optimizer, learning rate schedule, loss, augmentation and length of training, as data.

    `compile` prepares a model for plain `model.fit`. Pass `batch_size` and `augmentation` to
    `km.data.load`, and `model_arguments` to the builder. `print` shows a recipe as JSON, and
    `dataclasses.replace` returns a recipe with other values.

    A step is one batch. An update of the weights takes `gradient_accumulation_steps` steps and
    equals an update with one batch of all their images, except for layers that read statistics of
    a batch, such as BatchNorm. The schedule and the warm-up count steps, also across epochs.

    A recipe for fine-tuning may have its length in steps, or a first stage that trains only the
    head. Both are resolved by `stages`, whose recipes have neither:

    ```python
    for stage in recipe.stages(len(train)):
        stage.compile(model, len(train))
        model.fit(train, epochs=stage.epochs, shuffle=False)
    ```

    Args:
        epochs: number of epochs; `None` for a recipe whose length is in `steps`.
        steps: number of steps, instead of `epochs`. Training ends with an epoch, so the number is
            rounded up to whole epochs.
        head_epochs: number of epochs before the others in which only the head trains, at the same
            learning rate and without a warm-up.
        batch_size: images per step.
        learning_rate: the highest learning rate, for `batch_size * gradient_accumulation_steps`
            images per update.
        warmup_epochs: epochs in which the learning rate grows from 0; need not be an integer.
        warmup_steps: steps in which the learning rate grows from 0, with `steps`.
        schedule: how the rate falls after the warm-up: `"cosine"`, `"linear"`, `"one_cycle"` or
            `"staircase"` (see `WarmUp`).
        final_learning_rate: the learning rate at the end.
        weight_decay: at each update, a kernel loses learning rate times `weight_decay` of its
            value. Other weights do not decay.
        layer_decay: ratio of a block's learning rate to the next block's, for fine-tuning; 1 for
            equal rates.
        frozen_blocks: the stem and this number of first blocks keep their weights, for fine-tuning;
            `"all"`: everything except the head; 0: nothing. `compile` sets `trainable` of the
            layers of the backbone and the head, and other layers stay as they are. So a
            second recipe can train what a first one froze. `None` changes no layer.
        lora_rank: only the head and LoRA matrices of this rank train. `compile` adds them by
            Keras's `enable_lora` to each Dense layer of the blocks' mixers and MLPs, and freezes
            all else in the backbone. They start without an effect. Another `compile` with this
            rank keeps them. `save_weights` and `export` add them to their kernels, and
            `km.training.save_lora_weights` writes only them and the head. `None` adds none. Source:
            "LoRA: Low-Rank Adaptation of Large Language Models", arXiv 2106.09685.
        optimizer: `"adamw"` (`LayerwiseAdamW`) or `"sgd"` (`LayerwiseSGD`).
        momentum: momentum of SGD.
        beta_2: AdamW's `beta_2`; `beta_1` is 0.9.
        epsilon: AdamW's `epsilon`.
        clip_norm: largest global norm of the gradients; `None` for no clipping.
        gradient_accumulation_steps: steps whose gradients are averaged for one update. The images
            of one update need not fit in memory together.
        ema_decay: decay per update of the moving average of the weights, which replaces the weights
            at the end of training; `None` for no average. With `keras.callbacks.SwapEMAWeights()`
            in `fit`, Keras also validates with the average.
        loss: `"softmax"` or `"sigmoid"` cross-entropy.
        label_smoothing: fraction of each label that is spread evenly over all classes.
        multi_label: whether an image may have several labels, or none, as for `info.multi_label`.
            `compile` then uses the metric `average_precision` instead of `accuracy`. The loss must
            be `"sigmoid"`.
        augmentation: the augmentation of training images.
        model_arguments: arguments of the model that belong to the recipe, such as
            `{"stochastic_depth_rate": 0.1}`.
        source: where the recipe comes from, and the accuracy that it reached there.

    Raises:
        ValueError, TypeError: if an argument is invalid; the message names it.
        ValueError: if the recipe has both or neither of `epochs` and `steps`.

    Example:
        >>> recipe = Recipe(epochs=2, learning_rate=1e-3, augmentation=Augmentation(flip=True))
        >>> model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(10)])
        >>> recipe.compile(model, steps_per_epoch=23)
        >>> recipe.save("recipe.json")
        >>> Recipe.load("recipe.json") == recipe
        True
    """

    epochs: int | None = checked(arguments.integer, None)
    steps: int | None = checked(arguments.integer, None)
    head_epochs: int = checked(arguments.count, 0)
    batch_size: int = checked(arguments.integer, 64)
    learning_rate: float = checked(non_negative, 1e-3)
    warmup_epochs: float = checked(non_negative, 0.0)
    warmup_steps: int = checked(arguments.count, 0)
    schedule: str = checked(one_of(*schedule.SHAPES), "cosine")
    final_learning_rate: float = checked(non_negative, 0.0)
    weight_decay: float = checked(non_negative, 0.05)
    layer_decay: float = checked(layerwise.decay_factor, 1.0)
    frozen_blocks: int | str | None = checked(freezing.number_or_all, None)
    lora_rank: int | None = checked(arguments.integer, None)
    optimizer: str = checked(one_of("adamw", "sgd"), "adamw")
    momentum: float = checked(arguments.rate, 0.9)
    beta_2: float = checked(arguments.rate, 0.999)
    epsilon: float = checked(non_negative, 1e-8)
    clip_norm: float | None = checked(layerwise.positive, None)
    gradient_accumulation_steps: int = checked(arguments.integer, 1)
    ema_decay: float | None = checked(arguments.rate, None)
    loss: str = checked(one_of(*losses.KINDS), "softmax")
    label_smoothing: float = checked(arguments.rate, 0.0)
    multi_label: bool = checked(arguments.flag, False)
    augmentation: Augmentation = checked(_augmentation, default_factory=Augmentation)
    model_arguments: dict[str, Any] = checked(_json_dict, default_factory=dict)
    source: str = checked(arguments.text, "")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.lora_rank is not None and self.frozen_blocks is not None:
            raise ValueError(
                "`frozen_blocks` must be None with `lora_rank`, which freezes the whole backbone."
                f" Received: frozen_blocks={self.frozen_blocks!r}, lora_rank={self.lora_rank}"
            )
        if self.multi_label and self.loss != "sigmoid":
            raise ValueError(
                "`loss` must be 'sigmoid' with `multi_label`, because a softmax chooses one class."
                f" Received: loss={self.loss!r}"
            )
        if (self.epochs is None) == (self.steps is None):
            raise ValueError(
                "`epochs` must be given, or `steps` instead. Received:"
                f" epochs={self.epochs}, steps={self.steps}"
            )
        unit, other = ("epochs", "steps") if self.steps is None else ("steps", "epochs")
        if given := getattr(self, f"warmup_{other}"):
            raise ValueError(
                f"`warmup_{other}` must be 0 for a recipe whose length is in {unit}; use"
                f" `warmup_{unit}`. Received: warmup_{other}={given}"
            )
        if self.steps is not None and self.warmup_steps >= self.steps:
            raise ValueError(
                "`warmup_steps` must be less than `steps`. Received:"
                f" warmup_steps={self.warmup_steps}, steps={self.steps}"
            )

    @classmethod
    def for_finetuning(cls, *, model: keras.Model, num_images: int) -> "Recipe":
        """Choose a recipe to fine-tune a pretrained model, by fixed rules; `source` has the reason.

        | images         | steps | images per update |
        |----------------|-------|-------------------|
        | up to 300      |   150 | 32                |
        | up to 3,000    |   500 | 32                |
        | more           | 3,000 | 64                |

        - More than 50 million weights: LoRA and the head, to save memory. The rank is a 48th of the
          width, from 4 to 16. Blocks without Dense layers, as in ConvMixer, cannot have LoRA.
        - With BatchNorm and up to 300 images: only the head.
        - Otherwise the head for 100 steps, then all weights with a layer decay of 0.75. In the
          study named below (without the head's steps), all weights gave 0.4 points more than LoRA
          on 1,000 images and 2.8 on 100.
        - The learning rate is 0.01 for LoRA, 0.1 for only the head, and 0.003 for all weights, the
          best or nearly the best in that study. It falls as 1 / width if the width exceeds 128.
        - More than 50 million weights: a fourth of a batch per step, and four steps per update;
          more than 200 million: an eighth. Not with BatchNorm.
        - One output, or several labels per image (by `model.set_info`): the loss is `"sigmoid"`.

        Use `dataclasses.replace` for other values, such as an augmentation that suits the images.

        Args:
            model: a functional model with one `PatchEmbed` and its new head; it is not changed.
            num_images: number of training images.

        Raises:
            ValueError, TypeError: if an argument is invalid; the message names it.

        Example:
            >>> import keras_mixers as km
            >>> model = km.ViT("Ti/16", input_shape=(32, 32, 3), patch_size=8, num_classes=5)
            >>> recipe = Recipe.for_finetuning(model=model, num_images=1_000)
            >>> recipe.head_epochs, recipe.steps
            (4, 500)
            >>> recipe.source
            'this package, for 1,000 images, about 200 per class, and 5.4 million weights: all \
weights, the early blocks slower'

        Source: the head first: "Fine-Tuning can Distort Pretrained Features and Underperform
        Out-of-Distribution", arXiv 2202.10054; the rate by width: "Tensor Programs V", arXiv
        2203.03466; the numbers: `examples/compare_finetuning.py`.
        """
        num_images = arguments.integer("num_images", num_images, 1, 2**40)
        return cls(**choice.choose(choice.Facts.of(model), num_images))

    def stages(self, steps_per_epoch: int) -> tuple["Recipe", ...]:
        """The recipes to compile and fit one after the other, with their lengths in epochs.

        There are two if `head_epochs` is not 0: the first trains the head, the second the rest too.
        Otherwise there is one. To resume, use a `Backup` for each stage; a stage that is complete
        then only restores its weights.

        Args:
            steps_per_epoch: batches per epoch, `len(train)`.

        Raises:
            ValueError, TypeError: if `steps_per_epoch` is invalid.

        Example:
            >>> recipe = Recipe(steps=500, warmup_steps=100, head_epochs=5)
            >>> [(stage.epochs, stage.frozen_blocks) for stage in recipe.stages(4)]
            [(5, 'all'), (125, 0)]
        """
        steps_per_epoch = arguments.integer("steps_per_epoch", steps_per_epoch, 1, 2**40)
        last = self
        if self.steps is not None:
            last = self.for_epochs(math.ceil(self.steps / steps_per_epoch))
        if not self.head_epochs:
            return (last,)
        head = dataclasses.replace(
            last,
            epochs=self.head_epochs,
            head_epochs=0,
            warmup_epochs=0.0,
            layer_decay=1.0,
            frozen_blocks="all",
            lora_rank=None,
        )
        # `None` would leave everything frozen.
        thaws = self.frozen_blocks is None and self.lora_rank is None
        frozen = 0 if thaws else self.frozen_blocks
        return head, dataclasses.replace(last, head_epochs=0, frozen_blocks=frozen)

    def for_epochs(self, epochs: int) -> "Recipe":
        """The same recipe for another number of epochs; the warm-up remains the same part of it.

        The stage of the head becomes at most as long.

        Example:
            >>> recipe = Recipe(epochs=80, warmup_epochs=5, head_epochs=20).for_epochs(16)
            >>> recipe.warmup_epochs, recipe.head_epochs
            (1.0, 16)
        """
        epochs = arguments.integer("epochs", epochs)
        if self.epochs is not None:
            warmup = self.warmup_epochs * epochs / self.epochs
        else:
            warmup = self.warmup_steps * epochs / self.steps
        others = {"steps": None, "warmup_steps": 0, "head_epochs": min(self.head_epochs, epochs)}
        return dataclasses.replace(self, epochs=epochs, warmup_epochs=warmup, **others)

    def compile(self, model: keras.Model, steps_per_epoch: int, epochs: int | None = None) -> None:
        """Call `model.compile` with this recipe's optimizer and loss, and a metric.

        The metric is `accuracy`, or `average_precision` with `multi_label`.

        A `.keras` file keeps which layers are frozen. With `lora_rank`, load it with
        `compile=False` and call this method again, because Keras saves the sum of a kernel and its
        LoRA matrices.

        Args:
            model: a model that returns logits, `(N, ...) -> (N, num_classes)`.
            steps_per_epoch: batches per epoch, `len(train)`. The schedule spans the steps of all
                epochs. A callback that sets the learning rate ends the schedule.
            epochs: number of epochs; `None` for the recipe's.

        Raises:
            ValueError, TypeError: if an argument is invalid; the message names it.
            ValueError: if the recipe has `steps` or `head_epochs`, which `stages` resolves.
            ValueError: if the warm-up is not shorter than the training, or if the training has
                fewer steps than one update.
            ValueError: with `frozen_blocks` or `lora_rank`, if the model is not functional with one
                `PatchEmbed`.
            ValueError: with `frozen_blocks`, if the model has fewer blocks, or nothing else to
                train.
            ValueError: with `lora_rank`, if the model has LoRA matrices of another rank, is
                quantized, or has no Dense layer in its blocks.
        """
        if not isinstance(model, keras.Model):
            raise TypeError(f"`model` must be a keras.Model. {arguments.received(model=model)}")
        for name in ("steps", "head_epochs"):
            if given := getattr(self, name):
                raise ValueError(
                    f"`{name}` must not be given in a recipe to compile. Compile each recipe of"
                    f" `stages(len(train))` and call `fit` after it. Received: {name}={given}"
                )
        steps_per_epoch = arguments.integer("steps_per_epoch", steps_per_epoch, 1, 2**40)
        epochs = arguments.integer("epochs", self.epochs if epochs is None else epochs)
        if self.warmup_epochs >= epochs:
            raise ValueError(
                "`epochs` must be more than `warmup_epochs`. Received:"
                f" epochs={epochs}, warmup_epochs={self.warmup_epochs}"
            )
        steps, accumulated = epochs * steps_per_epoch, self.gradient_accumulation_steps
        if steps < accumulated:
            raise ValueError(
                f"`gradient_accumulation_steps` must be at most {steps}, the steps of all epochs."
                f" Received: gradient_accumulation_steps={accumulated}"
            )
        learning_rate = schedule.WarmUp(
            self.learning_rate,
            steps=steps,
            warmup_steps=min(round(self.warmup_epochs * steps_per_epoch), steps - 1),
            shape=self.schedule,
            final=self.final_learning_rate,
        )
        if self.lora_rank is not None:
            lora.add_lora(model, self.lora_rank)
        # Without a block that trains, the optimizer could not find the order of the layers.
        blocks_train = self.frozen_blocks is None or freezing.freeze(model, self.frozen_blocks)
        common = {
            "weight_decay": self.weight_decay,
            "layer_decay": self.layer_decay if blocks_train else 1.0,
            "clip_norm": self.clip_norm,
            "gradient_accumulation_steps": accumulated if accumulated > 1 else None,
            "use_ema": self.ema_decay is not None,
            **({} if self.ema_decay is None else {"ema_momentum": self.ema_decay}),
        }
        model.compile(
            LayerwiseSGD(learning_rate, momentum=self.momentum, **common)
            if self.optimizer == "sgd"
            else LayerwiseAdamW(learning_rate, beta_2=self.beta_2, epsilon=self.epsilon, **common),
            losses.Crossentropy(self.label_smoothing, self.loss),
            metrics=[AveragePrecision() if self.multi_label else losses.Accuracy()],
        )
        if isinstance(model, ImageModel) and (self.multi_label or model.multi_label):
            model.multi_label = self.multi_label  # so that the file says it, also without the loss
        if model.built:
            # Because a training step that creates variables is traced twice by TensorFlow.
            model.optimizer.build(model.trainable_variables)

    def get_config(self) -> dict[str, Any]:
        """The arguments in a form that JSON can hold."""
        return {**dataclasses.asdict(self), "augmentation": self.augmentation.get_config()}

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a JSON file that `load` reads."""
        path = arguments.path("path", path)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, f"{self}\n")

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> "Recipe":
        """Read a recipe from a JSON file.

        Raises:
            ValueError: if the file does not contain a recipe; the message names the file and the
                fault.
            OSError: if the file cannot be read.
        """
        data = arguments.path("path", path).read_bytes()
        try:
            config = parse_json(data)
            if not isinstance(config, dict):
                raise ValueError(f"it is a {type(config).__name__}, not a dict of arguments")
            augmentation = Augmentation(**config.pop("augmentation", {}))
            return cls(augmentation=augmentation, **config)
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"`path` must be a JSON file of a recipe. Received: path={path}:"
                f" {arguments.reason(error)}"
            ) from None

    def __str__(self) -> str:
        return json.dumps(self.get_config(), indent=2)

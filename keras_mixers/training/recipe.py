"""How a model is trained, as data: it prints, goes into a JSON file, and compiles a model."""

import dataclasses
import json
import os
import pathlib

import keras

from keras_mixers import arguments
from keras_mixers.data import Augmentation
from keras_mixers.files import replacing
from keras_mixers.training import losses, optimizer, schedule


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recipe:
    """Optimizer, schedule, loss and augmentation of a training, and how long it goes on.

    `compile` sets a model up for plain `model.fit`; `batch_size` and `augmentation` go to
    `km.data.load`, `model_arguments` to the builder. `dataclasses.replace` changes a field.

    Args:
        epochs: passes over the training images.
        batch_size: images a step.
        learning_rate: the highest, for this batch size.
        warmup_epochs: in which the rate grows from 0; a part of one will do.
        schedule: how it falls after that: `"cosine"`, `"linear"` or `"one_cycle"` (`WarmUp`).
        final_learning_rate: the rate at the end.
        weight_decay: times the rate, taken off each kernel at each step; nothing else decays.
        layer_decay: each block's rate over the next one's, for fine-tuning; 1 for none.
        beta_2: AdamW's; `beta_1` is 0.9.
        epsilon: AdamW's.
        clip_norm: largest norm of all gradients together; `None` for any.
        ema_decay: of the moving average of the weights that a training ends with, a step; `None`
            for none. `keras.callbacks.SwapEMAWeights()` in `fit` judges by it on the way too.
        loss: `"softmax"` or `"sigmoid"` cross-entropy.
        label_smoothing: share of each label that is spread over all classes.
        augmentation: what training images go through.
        model_arguments: what belongs to the recipe and is the model's, such as
            `{"stochastic_depth_rate": 0.1}`.
        source: where it is from, and what it reached there.

    Raises:
        ValueError, TypeError: an argument will not do; the message says which, and what would.

    Example:
        >>> recipe = Recipe(epochs=2, learning_rate=1e-3, augmentation=Augmentation(flip=True))
        >>> model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(10)])
        >>> recipe.compile(model, steps_per_epoch=23)
        >>> recipe.save("recipe.json")
        >>> Recipe.load("recipe.json") == recipe
        True
    """

    epochs: int
    batch_size: int = 64
    learning_rate: float = 1e-3
    warmup_epochs: float = 0.0
    schedule: str = "cosine"
    final_learning_rate: float = 0.0
    weight_decay: float = 0.05
    layer_decay: float = 1.0
    beta_2: float = 0.999
    epsilon: float = 1e-8
    clip_norm: float | None = None
    ema_decay: float | None = None
    loss: str = "softmax"
    label_smoothing: float = 0.0
    augmentation: Augmentation = dataclasses.field(default_factory=Augmentation)
    model_arguments: dict = dataclasses.field(default_factory=dict)
    source: str = ""

    def __post_init__(self):
        if self.clip_norm is not None:
            object.__setattr__(self, "clip_norm", optimizer.norm_of("clip_norm", self.clip_norm))
        if self.ema_decay is not None:
            arguments.rate("ema_decay", self.ema_decay)
        if not isinstance(self.augmentation, Augmentation):
            raise TypeError(
                "`augmentation` must be km.data.Augmentation(...). Received:"
                f" augmentation={self.augmentation!r}"
            )
        if not isinstance(self.source, str):
            raise TypeError(f"`source` must be a string. Received: source={self.source!r}")
        checked = {
            "model_arguments": _as_json("model_arguments", self.model_arguments),
            "epochs": arguments.integer("epochs", self.epochs),
            "batch_size": arguments.integer("batch_size", self.batch_size),
            "learning_rate": arguments.real("learning_rate", self.learning_rate, 0.0),
            "warmup_epochs": arguments.real("warmup_epochs", self.warmup_epochs, 0.0),
            "schedule": arguments.choice("schedule", self.schedule, schedule.SHAPES),
            "final_learning_rate": arguments.real(
                "final_learning_rate", self.final_learning_rate, 0.0
            ),
            "weight_decay": arguments.real("weight_decay", self.weight_decay, 0.0),
            "layer_decay": optimizer.layer_decay_of("layer_decay", self.layer_decay),
            "epsilon": arguments.real("epsilon", self.epsilon, 0.0),
            "beta_2": arguments.rate("beta_2", self.beta_2),
            "loss": arguments.choice("loss", self.loss, losses.KINDS),
            "label_smoothing": arguments.rate("label_smoothing", self.label_smoothing),
        }
        for name, value in checked.items():
            object.__setattr__(self, name, value)  # the only way into a frozen dataclass

    def compile(self, model: keras.Model, steps_per_epoch: int, epochs: int | None = None):
        """`model.compile` with this recipe's optimizer, loss and the metric `accuracy`.

        Args:
            model: of logits, `(N, ...) -> (N, num_classes)`.
            steps_per_epoch: batches in a pass, `len(train)`; the schedule spans them all.
            epochs: `None` for the recipe's.

        Raises:
            ValueError: the warm-up is longer than the training.
        """
        steps_per_epoch = arguments.integer("steps_per_epoch", steps_per_epoch, 1, 2**40)
        epochs = arguments.integer("epochs", self.epochs if epochs is None else epochs)
        if self.warmup_epochs >= epochs:
            raise ValueError(
                "`epochs` must be more than the warm-up's. Received:"
                f" epochs={epochs}, warmup_epochs={self.warmup_epochs}"
            )
        rate = schedule.WarmUp(
            self.learning_rate,
            steps=epochs * steps_per_epoch,
            warmup_steps=min(
                round(self.warmup_epochs * steps_per_epoch), epochs * steps_per_epoch - 1
            ),
            shape=self.schedule,
            final=self.final_learning_rate,
        )
        averaging = {} if self.ema_decay is None else {"ema_momentum": self.ema_decay}
        model.compile(
            optimizer.LayerwiseAdamW(
                rate,
                weight_decay=self.weight_decay,
                layer_decay=self.layer_decay,
                beta_2=self.beta_2,
                epsilon=self.epsilon,
                clip_norm=self.clip_norm,
                use_ema=self.ema_decay is not None,
                **averaging,
            ),
            losses.Crossentropy(self.label_smoothing, self.loss),
            metrics=[losses.Accuracy()],
        )

    def get_config(self) -> dict:
        """The arguments as JSON holds them."""
        return {**dataclasses.asdict(self), "augmentation": self.augmentation.get_config()}

    def save(self, path: str | os.PathLike):
        """Write a JSON file that `load` reads."""
        path = pathlib.Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as temporary:
            temporary.write_text(str(self) + "\n")

    @classmethod
    def load(cls, path: str | os.PathLike) -> "Recipe":
        """The recipe in a JSON file.

        Raises:
            ValueError: the file holds no recipe; the message names it, and what is wrong.
        """
        text = pathlib.Path(path).read_text()
        try:
            config = json.loads(text)
            if not isinstance(config, dict):
                raise ValueError(f"it is a {type(config).__name__}, not a dict of arguments")
            augmentation = Augmentation(**config.pop("augmentation", {}))
            return cls(augmentation=augmentation, **config)
        except (TypeError, ValueError) as error:
            raise ValueError(f"`path` holds no recipe: {error}. Received: path={path}") from None

    def __str__(self):
        return json.dumps(self.get_config(), indent=2)


def _as_json(name, value):
    """A copy of a dict as a JSON file gives it back."""
    try:
        if isinstance(value, dict):
            return json.loads(json.dumps(value))
    except TypeError:
        pass
    raise TypeError(
        f"`{name}` must be a dict of what JSON can hold: names, numbers, lists. Received:"
        f" {name}={value!r}"
    )

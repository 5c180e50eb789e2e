"""The base class of the search spaces: build, check and train one configuration."""

import dataclasses

import keras_tuner

from keras_mixers import arguments
from keras_mixers.data import Augmentation
from keras_mixers.deprecation import warn
from keras_mixers.models import count_flops
from keras_mixers.models.abstract import abstract_weights
from keras_mixers.models.architecture import image_shape
from keras_mixers.training import Recipe
from keras_mixers.training.schedule import SHAPES
from keras_mixers.tuning import ranges
from keras_mixers.tuning.batches import fit_arguments
from keras_mixers.tuning.budget import Budget, InfeasibleError, InfeasibleModel
from keras_mixers.tuning.hooks import prepare_keras_tuner
from keras_mixers.tuning.memory import infeasible_if_out_of_memory, released_gradients
from keras_mixers.tuning.ranges import Quantity, searched

AUGMENTATIONS = [  # without flips, because some images, such as digits, must not be mirrored
    Augmentation(translation=0.1),
    Augmentation(),
    Augmentation(translation=0.1, rand_augment=(1, 3)),
    Augmentation(translation=0.1, rand_augment=(2, 7), mixup=0.2),
]
# Arguments of a builder that the space sets itself, besides the quantities.
SET_BY_SPACE = {"input_shape", "num_classes", "pattern", "variant", "num_heads", "weights"}
# More steps than any training has, so that the learning rate stays at its maximum.
MANY_STEPS = 2**30


@dataclasses.dataclass(eq=False)
class SearchSpace(keras_tuner.HyperModel):
    """The quantities of all families, and how a configuration is built, checked and trained.

    A family adds its quantities as fields. It sets `builder` and defines `family_arguments`.
    """

    input_shape: tuple[int, int, int]
    num_classes: int
    _: dataclasses.KW_ONLY
    patch_size: Quantity | None = searched(ranges.patch_sizes, None, needs="input_shape")
    hidden_dim: Quantity = searched(
        ranges.integers, ranges.HIDDEN_DIMS, default=ranges.HIDDEN_DIM, step=64
    )
    depth: Quantity = searched(ranges.integers, (2, 12), default=4)
    learning_rate: Quantity = searched(ranges.reals, (3e-4, 5e-3), default=2e-3, log=True)
    weight_decay: Quantity = searched(ranges.reals, (1e-3, 0.3), default=0.05, log=True)
    warmup_fraction: Quantity = searched(ranges.reals, (0.0, 0.3), default=0.1, below=1.0)
    schedule: Quantity = searched(ranges.names, ["cosine", "linear"], allowed=SHAPES)
    batch_size: Quantity = searched(ranges.integers, (32, 128), default=64, doubling=True)
    augmentation: Augmentation | list = searched(ranges.augmentations, AUGMENTATIONS)
    recipe: Recipe | None = None
    max_params: int | None = None
    max_flops: int | None = None
    max_latency_ms: float | None = None
    latency_of: str = "keras"

    def __post_init__(self):
        super().__init__()
        self.input_shape = image_shape("input_shape", self.input_shape)
        arguments.integer("num_classes", self.num_classes)
        self.budget = Budget(self.max_params, self.max_flops, self.max_latency_ms, self.latency_of)
        self.ranges = self._read_quantities()
        if self.recipe is None:
            self.recipe = Recipe(epochs=1, clip_norm=1.0)
        if not isinstance(self.recipe, Recipe):
            raise TypeError(
                f"`recipe` must be km.Recipe(...). Received: recipe={arguments.shown(self.recipe)}"
            )
        fields = {field.name for field in dataclasses.fields(self)}
        taken = sorted(set(self.recipe.model_arguments) & (fields | SET_BY_SPACE))
        if taken:
            raise ValueError(
                "`recipe` must not have model_arguments that the space searches or sets itself."
                f" Received: model_arguments with {', '.join(map(repr, taken))}"
            )

    def _read_quantities(self):
        """Check each quantity: `{name: Choices or Interval}`.

        A quantity that needs another one is read last. KerasTuner registers the quantities in this
        order, which decides what a search with a given seed samples.
        """
        fields = {
            field.name: field for field in dataclasses.fields(self) if "read" in field.metadata
        }
        found = {}
        for name in sorted(fields, key=lambda name: fields[name].metadata["needs"] in fields):
            read, needs = fields[name].metadata["read"], fields[name].metadata["needs"]
            options = {needs: found.get(needs, getattr(self, needs))} if needs else {}
            found[name] = read(name, getattr(self, name), **options)
        return found

    def configuration(self, hp) -> dict:
        """Register all quantities in `hp` and return their values: `{name: value}`.

        Raises:
            FatalValueError: if a value is outside the space. The `hyperparameters` argument of a
                tuner can contain such a value.
        """
        return {name: quantity.register(hp, name) for name, quantity in self.ranges.items()}

    def point(self, hp) -> dict:
        """The old name of `configuration`."""
        warn("point", "configuration")
        return self.configuration(hp)

    def declare_hyperparameters(self, hp):
        self.configuration(hp)

    def arguments_of(self, hp) -> dict:
        """The arguments of the family's builder for a configuration."""
        values = self.configuration(hp)
        return {
            "input_shape": self.input_shape,
            "num_classes": self.num_classes,
            "patch_size": values["patch_size"],
            "hidden_dim": values["hidden_dim"],
            **self.family_arguments(values),
            **self.recipe.model_arguments,
        }

    def recipe_of(self, hp, epochs: int) -> Recipe:
        """The recipe that trains a configuration for this many epochs."""
        values = self.configuration(hp)
        same = ("learning_rate", "weight_decay", "schedule", "batch_size", "augmentation")
        return dataclasses.replace(
            self.recipe.for_epochs(epochs),
            warmup_epochs=values["warmup_fraction"] * epochs,
            **{name: values[name] for name in same},
        )

    def cost_of(self, hp) -> dict[str, int]:
        """Count parameters and multiply-adds without weights: `{"params": ..., "flops": ...}`.

        For a ViT-B/16 this takes a third of a second.
        """
        with abstract_weights():
            model = self.builder(**self.arguments_of(hp))
        return {"params": model.count_params(), "flops": count_flops(model)}

    def check_size(self, hp):
        """Raise an `InfeasibleError` if a configuration has too many weights or multiply-adds."""
        if self.budget.limits_size:
            self.budget.check_size(**self.cost_of(hp))

    def build(self, hp):
        """Build and compile the model of a configuration.

        Only `fit` knows how many steps the training has. Until then, the learning rate is constant,
        at its maximum.

        Returns:
            The model. If it is over budget or does not fit in memory, a model without weights that
            raises `FailedTrialError` when it is used.
        """
        recipe = dataclasses.replace(self.recipe_of(hp, epochs=1), warmup_epochs=0.0)
        try:
            self.check_size(hp)
            with infeasible_if_out_of_memory():
                model = self.builder(**self.arguments_of(hp))
                recipe.compile(model, MANY_STEPS)
                # Because Hyperband loads a checkpoint that has the optimizer's moments.
                model.optimizer.build(model.trainable_variables)
        except InfeasibleError as error:
            return InfeasibleModel(error.reason)
        return model

    def fit(self, hp, model, *data, load=None, **options):
        """Train a model by the recipe of its configuration and return the `History`.

        Args:
            hp: the configuration.
            model: the model that `build` returned for `hp`.
            data: the positional arguments of `model.fit`: `x, y` or batches. Empty with `load`.
            load: a function `load(batch_size=..., augmentation=...) -> (train, validation, ...)`,
                such as `km.data.load` with a dataset's name.
            options: keywords of `model.fit`, such as `epochs` and `validation_data`.

        Raises:
            keras_tuner.errors.FailedTrialError: if the model is over budget or memory runs out.
        """
        if isinstance(model, InfeasibleModel):
            raise InfeasibleError(model.reason)
        with infeasible_if_out_of_memory(), released_gradients():
            # Not if Hyperband resumes a trial, because the trial has passed this check.
            if not options.get("initial_epoch"):
                self.budget.check_latency(model)
            return self._train(hp, model, data, load, options)

    def _train(self, hp, model, data, load, options):
        recipe = self.recipe_of(hp, options.get("epochs", 1))
        data, options, steps = fit_arguments(recipe, load, data, options)
        recompile(model, recipe, steps, options.get("initial_epoch", 0))
        return model.fit(*data, **options)


def recompile(model, recipe, steps, initial_epoch):
    """Compile for a number of steps in an epoch; resumed training keeps the optimizer's state."""
    old_optimizer = model.optimizer
    recipe.compile(model, steps)
    if initial_epoch:
        model.optimizer.build(model.trainable_variables)
        pairs = zip(model.optimizer.variables, old_optimizer.variables, strict=True)
        for variable, value in pairs:
            variable.assign(value)
        # Not `iterations`, which is a quotient and no variable if gradients are accumulated.
        optimizer = getattr(model.optimizer, "inner_optimizer", model.optimizer)
        optimizer._iterations.assign(initial_epoch * steps)


prepare_keras_tuner(SearchSpace)

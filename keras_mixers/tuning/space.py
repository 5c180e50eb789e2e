"""The base class of the search spaces: build, check and train one configuration."""

import dataclasses

import keras
import keras_tuner

from keras_mixers import arguments
from keras_mixers.data import Augmentation
from keras_mixers.deprecation import warn
from keras_mixers.models.architecture import image_shape
from keras_mixers.training import Recipe
from keras_mixers.tuning.batches import fit_arguments
from keras_mixers.tuning.budget import LATENCY, Budget, InfeasibleError, InfeasibleModel
from keras_mixers.tuning.hooks import prepare_keras_tuner
from keras_mixers.tuning.memory import infeasible_if_out_of_memory, released_gradients

AUGMENTATIONS = [  # without flips, because some images, such as digits, must not be mirrored
    Augmentation(translation=0.1),
    Augmentation(),
    Augmentation(translation=0.1, rand_augment=(1, 3)),
    Augmentation(translation=0.1, rand_augment=(2, 7), mixup=0.2),
]
# More steps than any training has, so that the learning rate stays at its maximum.
MANY_STEPS = 2**30


class SearchSpace(keras_tuner.HyperModel):
    """How a configuration is built, checked and trained.

    A space is a dataclass that inherits from this class. Its fields are `input_shape`,
    `num_classes`, `recipe`, the limits of its `Budget`, and its quantities. It defines
    `arguments_of`, `cost_of`, `make_model` and `set_by_space`: the arguments of the model that no
    recipe may have.
    """

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
        if self.recipe.head_epochs:
            raise ValueError(
                "`recipe` must not have `head_epochs`, because each trial is one training."
                f" Received: a recipe with head_epochs={self.recipe.head_epochs}"
            )
        fields = {field.name for field in dataclasses.fields(self)}
        taken = sorted(set(self.recipe.model_arguments) & (fields | self.set_by_space))
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

    def recipe_of(self, hp, epochs: int) -> Recipe:
        """The recipe that trains a configuration for this many epochs."""
        values = self.configuration(hp)
        same = ("learning_rate", "weight_decay", "schedule", "batch_size", "augmentation")
        return dataclasses.replace(
            self.recipe.for_epochs(epochs),
            warmup_epochs=values["warmup_fraction"] * epochs,
            **{name: values[name] for name in same},
        )

    def shown_values(self, hp) -> dict:
        """The active quantities of a configuration as numbers and text: `{name: value}`."""
        hp = hp.copy()
        values = self.configuration(hp)
        return {
            name: hp.values.get(name, value) for name, value in values.items() if value is not None
        }

    def size_key(self, hp) -> str:
        """What the result of `check_size` depends on."""
        return repr(self.arguments_of(hp))

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
                model = self.make_model(hp)
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
            milliseconds = (
                None if options.get("initial_epoch") else self.latency_of_model(hp, model)
            )
            self.budget.check_latency(milliseconds)
            history = self._train(hp, model, data, load, options)
        if milliseconds is not None and isinstance(history, keras.callbacks.History):
            # KerasTuner saves the metrics of a trial, also those of a worker process.
            history.history[LATENCY] = [milliseconds] * len(history.epoch)
        return history

    def latency_of_model(self, hp, model):
        """Measure the latency of a configuration's model, or None if the budget has no limit."""
        return self.budget.measure_latency(model)

    def load_options(self, hp) -> dict:
        """Further keywords of `load`, besides those of the recipe."""
        return {}

    def _train(self, hp, model, data, load, options):
        recipe = self.recipe_of(hp, options.get("epochs", 1))
        data, options, steps = fit_arguments(recipe, load, data, options, self.load_options(hp))
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

"""What the search spaces of all families have in common: their points, budgets and trainings."""

import dataclasses

import keras_tuner
from keras_tuner.errors import FatalValueError

from keras_mixers import arguments
from keras_mixers.data import Augmentation
from keras_mixers.models import count_flops
from keras_mixers.models.abstract import abstract_weights
from keras_mixers.models.architecture import image_shape
from keras_mixers.training import Recipe
from keras_mixers.training.schedule import SHAPES
from keras_mixers.tuning import ranges
from keras_mixers.tuning.batches import batches
from keras_mixers.tuning.budget import Budget, Infeasible, InfeasibleError
from keras_mixers.tuning.memory import forgotten_gradients, within_memory
from keras_mixers.tuning.ranges import searched
from keras_mixers.tuning.search import ensure_within_budget
from keras_mixers.tuning.trials import current_trial, record_reason

Range = int | float | str | list | tuple

AUGMENTATIONS = [  # of images that may not be mirrored
    Augmentation(translation=0.1),
    Augmentation(),
    Augmentation(translation=0.1, rand_augment=(1, 3)),
    Augmentation(translation=0.1, rand_augment=(2, 7), mixup=0.2),
]
UNSEARCHED = {"input_shape", "num_classes", "pattern", "variant", "num_heads", "weights"}
MANY_STEPS = 2**30


@dataclasses.dataclass(eq=False)
class SearchSpace(keras_tuner.HyperModel):
    """The quantities of every family; how a point is built, held to the budget, and trained.

    A family adds its own quantities as fields, and says what its builder is and takes.
    """

    input_shape: tuple[int, int, int]
    num_classes: int
    _: dataclasses.KW_ONLY
    patch_size: Range | None = None
    hidden_dim: Range = searched(ranges.integers, (64, 384), usual=128, step=64)
    depth: Range = searched(ranges.integers, (2, 12), usual=4)
    learning_rate: Range = searched(ranges.reals, (3e-4, 5e-3), usual=2e-3, log=True)
    weight_decay: Range = searched(ranges.reals, (1e-3, 0.3), usual=0.05, log=True)
    warmup_fraction: Range = searched(ranges.reals, (0.0, 0.3), usual=0.1, below=1.0)
    schedule: Range = searched(ranges.names, ["cosine", "linear"], of=SHAPES)
    batch_size: Range = searched(ranges.integers, (32, 128), usual=64, doubling=True)
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
        self.ranges = {
            "patch_size": ranges.patches("patch_size", self.patch_size, self.input_shape)
        }
        for field in dataclasses.fields(self):
            if "read" in field.metadata:
                value = getattr(self, field.name)
                self.ranges[field.name] = field.metadata["read"](field.name, value)
        if self.recipe is None:
            self.recipe = Recipe(epochs=1, clip_norm=1.0)
        if not isinstance(self.recipe, Recipe):
            raise TypeError(f"`recipe` must be km.Recipe(...). Received: recipe={self.recipe!r}")
        fields = {field.name for field in dataclasses.fields(self)}
        taken = sorted(set(self.recipe.model_arguments) & (fields | UNSEARCHED))
        if taken:
            raise ValueError(
                "`recipe` must leave to the space what it searches or sets itself. Received:"
                f" model_arguments with {', '.join(map(repr, taken))}"
            )

    def point(self, hp) -> dict:
        """Each quantity's value at a point, all of them registered: `{name: value}`.

        Raises:
            FatalValueError: a value is none of the range, as KerasTuner's `hyperparameters` can
                have it.
        """
        return {name: choices.ask(hp, name) for name, choices in self.ranges.items()}

    def declare_hyperparameters(self, hp):
        self.point(hp)

    def arguments_of(self, hp) -> dict:
        """What the family's builder takes at a point."""
        point = self.point(hp)
        size = {name: point[name] for name in ("patch_size", "hidden_dim")}
        return {
            "input_shape": self.input_shape,
            "num_classes": self.num_classes,
            **size,
            **self.family_arguments(point),
            **self.recipe.model_arguments,
        }

    def recipe_of(self, hp, epochs: int) -> Recipe:
        """The recipe that a point is trained by, for this many epochs."""
        point = self.point(hp)
        same = ("learning_rate", "weight_decay", "schedule", "batch_size", "augmentation")
        return dataclasses.replace(
            self.recipe,
            epochs=epochs,
            warmup_epochs=point["warmup_fraction"] * epochs,
            **{name: point[name] for name in same},
        )

    def cost_of(self, hp) -> dict[str, int]:
        """What a point costs, told by shapes alone: `{"params": ..., "flops": ...}`."""
        with abstract_weights():
            model = self.builder(**self.arguments_of(hp))
        return {"params": model.count_params(), "flops": count_flops(model)}

    def build(self, hp):
        """The compiled model of a point; one over budget, or too large for memory, is a stand-in.

        How many steps a training takes is known to `fit` alone: until then the learning rate stands
        at its highest.
        """
        recipe = dataclasses.replace(self.recipe_of(hp, epochs=1), warmup_epochs=0.0)
        try:
            self.budget.check_size(**self.cost_of(hp))
            with within_memory():
                model = self.builder(**self.arguments_of(hp))
                recipe.compile(model, MANY_STEPS)
                model.optimizer.build(model.trainable_variables)  # a checkpoint has its moments
        except InfeasibleError as error:
            return Infeasible(error.why)
        return model

    def fit(self, hp, model, *data, load=None, **options):
        """Train a model as its point says, and give the `History`.

        Args:
            hp: the point.
            model: what `build` gave for it.
            data: what `model.fit` takes, `x, y` or batches; none with `load`.
            load: gives batches of a size and augmentation, `load(batch_size=..., augmentation=...)
                -> (train, validation, ...)`, as `km.data.load` does.
            options: what else `model.fit` takes, such as `epochs` and `validation_data`.

        Raises:
            keras_tuner.errors.FailedTrialError: the point is over budget, or out of memory.
        """
        current = current_trial(options.get("callbacks", ()))
        if current:
            tuner, trial = current
            ensure_within_budget(tuner)
            record_reason(tuner, trial, None)
            check_compiling(tuner)
        try:
            if isinstance(model, Infeasible):
                raise InfeasibleError(model.why)
            with within_memory(), forgotten_gradients():
                if not options.get("initial_epoch"):  # what Hyperband goes on with has been judged
                    self.budget.check_latency(model)
                return self._train(hp, model, data, load, options)
        except InfeasibleError as error:
            if current:
                record_reason(tuner, trial, str(error))
            raise

    def _train(self, hp, model, data, load, options):
        recipe = self.recipe_of(hp, options.get("epochs", 1))
        data, options, steps = batches(recipe, load, data, options)
        recompile(model, recipe, steps, options.get("initial_epoch", 0))
        return model.fit(*data, **options)


def check_compiling(tuner):
    """Refuse what a tuner would compile with: a point's recipe says it."""
    given = [name for name in ("optimizer", "loss", "metrics") if getattr(tuner, name, None)]
    if given:
        raise FatalValueError(
            f"`{given[0]}` must be left to the space, whose points say how they are trained; what"
            f" is not searched comes from its `recipe`. Received: a tuner with {', '.join(given)}"
        )


def recompile(model, recipe, steps, initial_epoch):
    """Compile for so many steps an epoch; what Hyperband goes on with keeps its moments."""
    before = model.optimizer
    recipe.compile(model, steps)
    if initial_epoch:
        model.optimizer.build(model.trainable_variables)
        for variable, value in zip(model.optimizer.variables, before.variables, strict=True):
            variable.assign(value)
        model.optimizer.iterations.assign(initial_epoch * steps)

"""The base class of the spaces of the model families: their common quantities."""

import dataclasses

from keras_mixers.data import Augmentation
from keras_mixers.models import count_flops
from keras_mixers.models.abstract import abstract_weights
from keras_mixers.training import Recipe
from keras_mixers.training.schedule import SHAPES
from keras_mixers.tuning import ranges
from keras_mixers.tuning.ranges import Quantity, searched
from keras_mixers.tuning.space import AUGMENTATIONS, SearchSpace


@dataclasses.dataclass(eq=False)
class FamilySpace(SearchSpace):
    """The quantities of all families.

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
    # Arguments of a builder that the space sets itself, besides the quantities.
    set_by_space = frozenset(
        {"input_shape", "num_classes", "pattern", "variant", "num_heads", "weights"}
    )

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

    def cost_of(self, hp) -> dict[str, int]:
        """Count parameters and multiply-adds without weights: `{"params": ..., "flops": ...}`.

        For a ViT-B/16 this takes a third of a second.
        """
        with abstract_weights():
            model = self.builder(**self.arguments_of(hp))
        return {"params": model.count_params(), "flops": count_flops(model)}

    def make_model(self, hp):
        return self.builder(**self.arguments_of(hp))

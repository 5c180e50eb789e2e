"""What is known of a dataset once it is loaded."""

import dataclasses

from keras_mixers import deprecation
from keras_mixers.preprocessing import Preprocessing


@dataclasses.dataclass(frozen=True)
class Info:
    """A loaded dataset: what a model for it, and a file exported from that model, must know.

    Args:
        name: as it was asked for.
        input_shape: (height, width, channels) of an image as the model gets it.
        class_names: one for each class, in the order of the labels' numbers.
        num_train: images to train on.
        num_validation: images to judge by.
        validation_source: the split that they come from: `"validation"`, `"test"`, or
            `"train"` if `load` held them out of it.
        preprocessing: what was done to each image; `km.export` takes it too.
    """

    name: str
    input_shape: tuple[int, int, int]
    class_names: tuple[str, ...]
    num_train: int
    num_validation: int
    validation_source: str
    preprocessing: Preprocessing

    @property
    def judged_by(self) -> str:
        """The old name of `validation_source`."""
        deprecation.warn("judged_by", "validation_source")
        return self.validation_source

    @property
    def num_classes(self) -> int:
        """How many classes there are."""
        return len(self.class_names)

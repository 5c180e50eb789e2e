"""What is known of a dataset once it is loaded."""

import dataclasses

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
        judged_by: where those are from: `"validation"`, `"test"`, or `"train"` if held out of it.
        preprocessing: what was done to each image; `km.export` takes it too.
    """

    name: str
    input_shape: tuple[int, int, int]
    class_names: tuple[str, ...]
    num_train: int
    num_validation: int
    judged_by: str
    preprocessing: Preprocessing

    @property
    def num_classes(self) -> int:
        """How many classes there are."""
        return len(self.class_names)

"""The description of a loaded dataset."""

import dataclasses

from keras_mixers import deprecation
from keras_mixers.preprocessing import Preprocessing


@dataclasses.dataclass(frozen=True)
class Info:
    """The facts about a dataset that a model, or an export of the model, needs.

    Args:
        name: the name that was passed to `load`; `"arrays"` or `"dataset"` for `prepare`.
        input_shape: (height, width, channels) of the images that the model receives.
        class_names: one name per class, in the order of the class indices.
        num_train: number of training images.
        num_validation: number of validation images.
        validation_source: the split of the validation images: `"validation"`, `"test"`, or
            `"train"` if they were held out of the training images.
        preprocessing: the preprocessing of each image; `km.export` accepts it too.
        skipped: `{reason: number}` of the files in a folder or a CSV file that `load` does not
            read. The reasons are suffixes such as `".txt"`, `"not an image"`, `"unreadable"` with
            `on_error="skip"`, `"folder inside a class"`, `"not a regular file"`, `"broken link"`
            and others. Hidden files and folders are not counted.
        multi_label: whether an image may have several labels, or none. Labels are then multi-hot,
            float32 `(batch, num_classes)`.
    """

    name: str
    input_shape: tuple[int, int, int]
    class_names: tuple[str, ...]
    num_train: int
    num_validation: int
    validation_source: str
    preprocessing: Preprocessing
    skipped: dict[str, int] = dataclasses.field(default_factory=dict, hash=False)
    multi_label: bool = False

    @property
    def judged_by(self) -> str:
        """The old name of `validation_source`."""
        deprecation.warn("judged_by", "validation_source")
        return self.validation_source

    @property
    def value_range(self) -> tuple[float, float]:
        """The range of the values that the model expects: `preprocessing.value_range`.

        `load` yields images in this range. Call `preprocessing` on other images, which must have
        values in 0..255.
        """
        return self.preprocessing.value_range

    @property
    def num_classes(self) -> int:
        """The number of classes."""
        return len(self.class_names)

"""The images of a dataset, from scikit-learn's digits, a TFDS name or a folder."""

import dataclasses
import os
import pathlib
import tempfile
from typing import Any

import numpy as np

from keras_mixers import arguments

# Held out of the training images if a dataset has no other split and the user gives no fraction.
DEFAULT_VALIDATION_FRACTION = 0.1
IMAGE_SUFFIXES = (".jpeg", ".jpg", ".png")  # the ones that TFDS's ImageFolder reads
FOLDER_LAYOUT = "a folder of images by class, class/image.jpg or train/class/image.jpg"


@dataclasses.dataclass(frozen=True)
class Source:
    """Single images, bytes of shape (height, width, channels), with their class indices.

    `train` and `validation` are `tf.data.Dataset`s of (image, label). `image_shape` has None where
    the images differ.
    """

    train: Any
    validation: Any
    num_train: int
    num_validation: int
    validation_source: str
    class_names: tuple
    image_shape: tuple


def find(name, validation_fraction, data_dir, size_is_known=True):
    """The `Source` of a name or a folder.

    An unsuitable dataset raises an error before anything is downloaded.
    """
    if not isinstance(name, (str, os.PathLike)):
        raise TypeError(
            "`name` must be 'digits', a TFDS dataset such as 'cifar10', or a folder. Received:"
            f" name={name!r}"
        )
    name = os.fspath(name)
    is_folder = pathlib.Path(name).is_dir() and name != "digits"
    builder = folder_builder(pathlib.Path(name)) if is_folder else named_builder(name, data_dir)
    info = builder.info
    if info.supervised_keys != ("image", "label"):
        raise ValueError(
            "`name` must be a dataset of images with one label each. Received:"
            f" name={name!r}, whose supervised keys are {info.supervised_keys}"
        )
    image, label = info.features["image"], info.features["label"]
    if image.np_dtype != np.uint8 or not hasattr(label, "names"):
        raise ValueError(
            "`name` must be a dataset of 8-bit images with one class label each. Received:"
            f" name={name!r}, with the features {image} and {label}"
        )
    if not size_is_known and None in image.shape[:2]:
        raise ValueError(
            f"`image_size` must be given for name={name!r}, because its images differ in size."
            " Received: image_size=None. For example, image_size=224"
        )
    if not is_folder:
        try:
            builder.download_and_prepare()
        except FileExistsError:
            # Another process has prepared the dataset in the meantime: read its files.
            builder = named_builder(name, data_dir)
    return split_source(name, builder, validation_fraction)


def named_builder(name, data_dir):
    """The TFDS builder of a name; for an unknown name, the error suggests similar names."""
    import tensorflow_datasets as tfds

    if name == "digits":
        from keras_mixers.data.digits import Digits

        return Digits(data_dir=data_dir)
    try:
        return tfds.builder(name, data_dir=data_dir)
    except (tfds.core.DatasetNotFoundError, ValueError):  # ValueError: for a path, for example
        known = ["digits", *tfds.list_builders(with_community_datasets=False)]
        raise ValueError(
            "`name` must be 'digits', a TFDS dataset, or a folder that exists. Received:"
            f" name={name!r}{arguments.nearest(name, known)}"
        ) from None


def folder_builder(root):
    """TFDS's builder for a folder `class/image` or `split/class/image`."""
    import tensorflow_datasets as tfds

    if (root / "train").is_dir():
        builder = tfds.ImageFolder(os.fspath(root))
    else:
        # ImageFolder needs a folder of splits. A link makes `root` the train split; the link exists
        # as long as the builder.
        parent = tempfile.TemporaryDirectory(prefix="keras_mixers-")
        pathlib.Path(parent.name, "train").symlink_to(root.resolve(), target_is_directory=True)
        builder = tfds.ImageFolder(parent.name)
        builder.parent_of_link = parent
    names = builder.info.features["label"].names
    if "train" not in builder.info.splits or not builder.info.splits["train"].num_examples:
        raise ValueError(
            f"`name` must be {FOLDER_LAYOUT}, with the suffixes {', '.join(IMAGE_SUFFIXES)}."
            f" Received: name={os.fspath(root)!r}, which has no such image"
        )
    train = root / "train" if (root / "train").is_dir() else root
    empty = [name for name in names if not has_images(train / name)]
    if empty:
        raise ValueError(
            f"`name` must be {FOLDER_LAYOUT}, with images of every class. Received:"
            f" name={os.fspath(root)!r}, which has no images of {', '.join(map(repr, empty))}"
        )
    if len(names) < 2:
        raise ValueError(
            f"`name` must be {FOLDER_LAYOUT}, with at least two classes. Received:"
            f" name={os.fspath(root)!r}, which has only {names[0]!r}"
        )
    return builder


def has_images(class_folder):
    """Whether the folder of a class contains an image."""
    files = class_folder.iterdir() if class_folder.is_dir() else ()
    return any(file.name.lower().endswith(IMAGE_SUFFIXES) for file in files)


def split_source(name, builder, validation_fraction):
    """The `Source`: the train split, and for validation another split or a part of it."""
    sizes = {split: info.num_examples for split, info in builder.info.splits.items()}
    if not sizes.get("train"):
        raise ValueError(
            "`name` must be a dataset with a train split. Received:"
            f" name={name!r}, which has {', '.join(sizes)}"
        )
    validation_source = next(
        (split for split in ("validation", "test") if sizes.get(split)), "train"
    )
    if validation_fraction is not None:
        validation_source = "train"

    train = read_split(builder, "train")
    num_train = sizes["train"]
    if validation_source != "train":
        validation = read_split(builder, validation_source)
        num_validation = sizes[validation_source]
    else:
        if validation_fraction is None:
            validation_fraction = DEFAULT_VALIDATION_FRACTION
        num_validation = max(1, round(validation_fraction * num_train))
        num_train -= num_validation
        if not num_train:
            raise ValueError(
                "`name` must be a dataset with more training images than are held out. Received:"
                f" name={name!r} with {num_validation} images, and"
                f" validation_fraction={validation_fraction!r}"
            )
        train, validation = train.skip(num_validation), train.take(num_validation)

    features = builder.info.features
    return Source(
        train=train,
        validation=validation,
        num_train=num_train,
        num_validation=num_validation,
        validation_source=validation_source,
        class_names=tuple(features["label"].names),
        image_shape=tuple(features["image"].shape),
    )


def read_split(builder, split):
    """(image, label) of a split, as bytes in a fixed order."""
    import tensorflow as tf
    import tensorflow_datasets as tfds

    if not isinstance(builder, tfds.ImageFolder):
        return builder.as_dataset(split=split, as_supervised=True)

    files = builder.as_dataset(split=split, decoders={"image": tfds.decode.SkipDecoding()})

    def read(example):
        image = tf.py_function(decode_image, [example["image"], example["image/filename"]], "uint8")
        return tf.ensure_shape(image, (None, None, 3)), example["label"]

    return files.map(read, num_parallel_calls=os.cpu_count())  # fixed, because autotuning is off


def decode_image(data, path):
    """The RGB image in the bytes of a file.

    If the bytes are not an image, the error names the file, which TensorFlow's error does not.
    """
    import tensorflow as tf

    try:
        return tf.io.decode_image(data, channels=3, expand_animations=False)
    except tf.errors.InvalidArgumentError as error:
        path = pathlib.Path(os.fsdecode(path.numpy())).resolve()
        raise ValueError(f"{path} is not a readable image: {error.message}") from None

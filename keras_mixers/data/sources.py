"""Where images come from: the digits, TFDS by name, or a folder; single images as they are."""

import dataclasses
import os
import pathlib
import tempfile
from typing import Any

import numpy as np

from keras_mixers import arguments

HELD_OUT = 0.1  # of the training images, where a dataset has no others to judge by
FORMATS = (".jpeg", ".jpg", ".png")  # those of TFDS


@dataclasses.dataclass(frozen=True)
class Source:
    """Single images, bytes of (height, width, channels), with their class numbers.

    `train` and `validation` are `tf.data.Dataset`s of (image, label); `image_shape` has None where
    images differ.
    """

    train: Any
    validation: Any
    num_train: int
    num_validation: int
    validation_source: str
    class_names: tuple
    image_shape: tuple


def find(name, validation_fraction, data_dir, size_is_known=True):
    """The `Source` of a name or a folder; whatever will not do is refused before any download."""
    if not isinstance(name, (str, os.PathLike)):
        raise TypeError(
            "`name` must be 'digits', a dataset of TFDS such as 'cifar10', or a folder. Received:"
            f" name={name!r}"
        )
    name = os.fspath(name)
    is_folder = pathlib.Path(name).is_dir() and name != "digits"
    builder = folder(pathlib.Path(name)) if is_folder else find_builder(name, data_dir)
    info = builder.info
    if info.supervised_keys != ("image", "label"):
        raise ValueError(
            "`name` must be a dataset of images with one label each. Received:"
            f" name={name!r}, whose supervised keys are {info.supervised_keys}"
        )
    image, label = info.features["image"], info.features["label"]
    if image.np_dtype != np.uint8 or not hasattr(label, "names"):
        raise ValueError(
            "`name` must be a dataset of 8-bit images with the number of a class each. Received:"
            f" name={name!r}, of {image} and {label}"
        )
    if not size_is_known and None in image.shape[:2]:
        raise ValueError(
            f"`image_size` must be given for name={name!r}, whose images differ in size. Received:"
            " image_size=None; for example 224"
        )
    if not is_folder:
        try:
            builder.download_and_prepare()
        except FileExistsError:  # another process has prepared it meanwhile: read what it left
            builder = find_builder(name, data_dir)
    return divided(name, builder, validation_fraction)


def find_builder(name, data_dir):
    """The TFDS builder of a name; an unknown one gets near matches."""
    import tensorflow_datasets as tfds

    if name == "digits":
        from keras_mixers.data.digits import Digits

        return Digits(data_dir=data_dir)
    try:
        return tfds.builder(name, data_dir=data_dir)
    except (tfds.core.DatasetNotFoundError, ValueError):  # ValueError: no name, such as a path
        known = ["digits", *tfds.list_builders(with_community_datasets=False)]
        raise ValueError(
            "`name` must be 'digits', a dataset of TFDS, or a folder that exists. Received:"
            f" name={name!r}{arguments.nearest(name, known)}"
        ) from None


def folder(root):
    """TFDS's builder for a folder `class/image`, or `split/class/image`."""
    import tensorflow_datasets as tfds

    if (root / "train").is_dir():
        builder = tfds.ImageFolder(os.fspath(root))
    else:  # the builder wants a folder of splits: give it one, for as long as it lives
        above = tempfile.TemporaryDirectory(prefix="keras_mixers-")
        pathlib.Path(above.name, "train").symlink_to(root.resolve(), target_is_directory=True)
        builder = tfds.ImageFolder(above.name)
        builder.kept = above
    names = builder.info.features["label"].names
    layout = "a folder of images by class, class/image.jpg or train/class/image.jpg"
    if "train" not in builder.info.splits or not builder.info.splits["train"].num_examples:
        raise ValueError(
            f"`name` must be {layout}, with endings {', '.join(FORMATS)}. Received:"
            f" name={os.fspath(root)!r}, which has no such image"
        )
    train = root / "train" if (root / "train").is_dir() else root
    empty = [name for name in names if not has_images(train / name)]
    if empty:
        raise ValueError(
            f"`name` must be {layout}, with images of every class. Received:"
            f" name={os.fspath(root)!r}, which has none of {', '.join(map(repr, empty))}"
        )
    if len(names) < 2:
        raise ValueError(
            f"`name` must be {layout}, of two classes or more. Received:"
            f" name={os.fspath(root)!r}, which has {names[0]!r} alone"
        )
    return builder


def has_images(label):
    """Whether there is an image in the folder of a class."""
    files = label.iterdir() if label.is_dir() else ()
    return any(file.name.lower().endswith(FORMATS) for file in files)


def divided(name, builder, validation_fraction):
    """The `Source`: a split to train on, and another or a part of it to judge by."""
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

    train = decoded(builder, "train")
    num_train = sizes["train"]
    if validation_source != "train":
        validation, num_validation = decoded(builder, validation_source), sizes[validation_source]
    else:
        share = HELD_OUT if validation_fraction is None else validation_fraction
        num_validation = max(1, round(share * num_train))
        num_train -= num_validation
        if not num_train:
            raise ValueError(
                "`name` must be a dataset with images to train on beside those held out. Received:"
                f" name={name!r}, of {num_validation} images, and"
                f" validation_fraction={validation_fraction!r}"
            )
        train, validation = train.skip(num_validation), train.take(num_validation)

    features = builder.info.features
    shape = tuple(features["image"].shape)
    return Source(
        train=train,
        validation=validation,
        num_train=num_train,
        num_validation=num_validation,
        validation_source=validation_source,
        class_names=tuple(features["label"].names),
        image_shape=shape,
    )


def decoded(builder, split):
    """(image, label) of a split in a fixed order, as bytes; a file that is no image is named."""
    import tensorflow as tf
    import tensorflow_datasets as tfds

    if not isinstance(builder, tfds.ImageFolder):
        return builder.as_dataset(split=split, as_supervised=True)

    files = builder.as_dataset(split=split, decoders={"image": tfds.decode.SkipDecoding()})

    def read(example):
        image = tf.py_function(image_of, [example["image"], example["image/filename"]], "uint8")
        return tf.ensure_shape(image, (None, None, 3)), example["label"]

    return files.map(read, num_parallel_calls=os.cpu_count())  # fixed, because autotuning is off


def image_of(data, path):
    """A file's image in colour; TensorFlow's own error would not say which file it is."""
    import tensorflow as tf

    try:
        return tf.io.decode_image(data, channels=3, expand_animations=False)
    except tf.errors.InvalidArgumentError as error:
        path = pathlib.Path(os.fsdecode(path.numpy())).resolve()
        raise ValueError(f"{path} is no image that can be read: {error.message}") from None

"""The images of a dataset, from scikit-learn's digits, a TFDS name, a folder or a CSV file."""

import dataclasses
import itertools
import math
import os
import pathlib

import numpy as np

from keras_mixers import arguments
from keras_mixers.data.csv_file import list_csv
from keras_mixers.data.folder import list_folder
from keras_mixers.data.hold_out import held_out
from keras_mixers.data.image_files import from_files
from keras_mixers.data.random_access import KEPT_BYTES, Images, from_arrays
from keras_mixers.data.readable import select
from keras_mixers.data.records import from_records

# Held out of the training images if a dataset has no other split and the user gives no fraction.
DEFAULT_VALIDATION_FRACTION = 0.1


@dataclasses.dataclass(frozen=True)
class Source:
    """The images of a dataset, for training and for validation.

    Args:
        train: the `Images` for training.
        validation: the `Images` for validation.
        validation_source: the split of the validation images.
        class_names: one name per class, in the order of the class indices.
        skipped: how many files are not read, by reason.
        validation_files: the path of each validation image; `None` if they are not files.
    """

    train: Images
    validation: Images
    validation_source: str
    class_names: tuple
    skipped: dict = dataclasses.field(default_factory=dict)
    validation_files: tuple | None = None


def find(name, validation_fraction, data_dir, size_is_known=True, on_error="raise"):
    """The `Source` of a name, a folder or a CSV file."""
    expected = "'digits', a TFDS dataset such as 'cifar10', a folder, or a CSV file"
    path, name = arguments.path("name", name, expected), os.fspath(name)
    if data_dir is not None:
        arguments.path("data_dir", data_dir, "a path or None")
        data_dir = arguments.text("data_dir", os.fspath(data_dir))  # because TFDS needs UTF-8
    is_prepared = (path / "dataset_info.json").is_file()  # a folder that TFDS has written
    is_csv = path.suffix.lower() == ".csv"
    if name != "digits" and (path.is_dir() or is_csv) and not is_prepared:
        return source_of_files(path, validation_fraction, size_is_known, on_error)
    return named_source(name, validation_fraction, data_dir, size_is_known)


def listing_of(path):
    """The `Listing` of a folder of images by class, or of a CSV file."""
    if path.is_dir():
        return list_folder(path)
    if path.suffix.lower() == ".csv" and path.is_file():
        return list_csv(path)
    raise ValueError(
        "`name` must be the path of a folder or of a CSV file that exists."
        f" {arguments.received(name=os.fspath(path))}"
    )


def source_of_files(path, validation_fraction, size_is_known, on_error):
    """The `Source` of a folder or of a CSV file."""
    name, listing = os.fspath(path), listing_of(path)
    check_size_is_known(name, size_is_known)
    split, _ = choose_validation(name, sizes_of(listing), validation_fraction)
    listing, converted = select(name, listing, dict.fromkeys(("train", split)), on_error)
    validation_source, num_validation = choose_validation(
        name, sizes_of(listing), validation_fraction
    )
    train, validation = listing.images["train"], listing.images[validation_source]
    if validation_source == "train":
        labels = [0 if listing.multi_label else label for _, label in train]
        chosen = held_out(labels, num_validation)
        train, validation = (list(itertools.compress(train, part)) for part in (~chosen, chosen))
    return Source(
        train=from_files(train, converted=converted, num_classes=listing.num_hot),
        validation=from_files(validation, converted=converted, num_classes=listing.num_hot),
        validation_source=validation_source,
        class_names=listing.class_names,
        skipped={reason: len(paths) for reason, paths in listing.skipped.items()},
        validation_files=tuple(path for path, _ in validation),
    )


def sizes_of(listing):
    """`{split: number of images}`."""
    return {split: len(pairs) for split, pairs in listing.images.items()}


def named_source(name, validation_fraction, data_dir, size_is_known):
    """The `Source` of the digits or a TFDS name.

    An unsuitable dataset raises an error before anything is downloaded.
    """
    from tensorflow_datasets.core.download import download_manager, extractor, util

    builder = named_builder(name, data_dir)
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
    check_size_is_known(name, size_is_known or None not in image.shape[:2])
    try:
        builder.download_and_prepare()
    except FileExistsError:
        # Another process has prepared the dataset in the meantime: read its files.
        builder = named_builder(name, data_dir)
    except (
        AssertionError,  # if files are missing that the user must download
        download_manager.NonMatchingChecksumError,
        extractor.ExtractError,
        util.DownloadError,
    ) as error:
        raise OSError(
            "`name` must be a dataset that TFDS can download and prepare. Received:"
            f" name={name!r}: {arguments.reason(error)}"
        ) from error

    sizes = {split: info.num_examples for split, info in builder.info.splits.items()}
    validation_source, num_validation = choose_validation(name, sizes, validation_fraction)
    train = split_images(builder, "train")
    if validation_source == "train":
        train, validation = train.part(num_validation, train.count), train.part(0, num_validation)
    else:
        validation = split_images(builder, validation_source)
    return Source(
        train=train,
        validation=validation,
        validation_source=validation_source,
        class_names=tuple(builder.info.features["label"].names),
    )


def split_images(builder, split):
    """The `Images` of a split of a prepared TFDS dataset, in memory if they fit."""
    shape = builder.info.features["image"].shape
    size = builder.info.splits[split].num_examples
    if None in shape or size * math.prod(shape) > KEPT_BYTES:
        return from_records(builder, split)
    return from_arrays(*builder.as_dataset(split=split, as_supervised=True, batch_size=-1))


def check_size_is_known(name, size_is_known):
    """Raise a ValueError if neither the user nor the dataset gives the size of the images."""
    if not size_is_known:
        raise ValueError(
            f"`image_size` must be given for name={name!r}, because its images differ in size."
            " Received: image_size=None. For example, image_size=224"
        )


def named_builder(name, data_dir):
    """The TFDS builder of a name; for an unknown name, the error suggests similar names."""
    import tensorflow_datasets as tfds

    if name == "digits":
        from keras_mixers.data.digits import Digits

        return Digits(data_dir=data_dir)
    if pathlib.Path(name).is_dir():
        return tfds.builder_from_directory(name)
    try:
        return tfds.builder(name, data_dir=data_dir)
    except (tfds.core.DatasetNotFoundError, ValueError):  # ValueError: for a path, for example
        known = ["digits", *tfds.list_builders(with_community_datasets=False)]
        raise ValueError(
            "`name` must be 'digits', a TFDS dataset, or a folder or CSV file that exists."
            f" {arguments.received(name=name)}{arguments.nearest(name, known)}"
        ) from None


def choose_validation(name, sizes, validation_fraction):
    """(split, number of images) for validation, from `{split: number of images}`.

    If the split is "train", its first images are held out.
    """
    if not sizes.get("train"):
        raise ValueError(
            "`name` must be a dataset with a train split. Received:"
            f" name={name!r}, which has {', '.join(sizes)}"
        )
    if validation_fraction is None:
        for split in ("validation", "test"):
            if sizes.get(split):
                return split, sizes[split]
        validation_fraction = DEFAULT_VALIDATION_FRACTION
    count = max(1, round(validation_fraction * sizes["train"]))
    if count >= sizes["train"]:
        raise ValueError(
            "`name` must be a dataset with more training images than are held out. Received:"
            f" name={name!r} with {count} images, and"
            f" validation_fraction={validation_fraction!r}"
        )
    return "train", count

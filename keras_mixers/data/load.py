"""Load a dataset by its name: batches for training and validation, or single images."""

import math
import os
from typing import Any

from keras_mixers import arguments
from keras_mixers.data import sources
from keras_mixers.data.augmentation import Augmentation
from keras_mixers.data.batches import train_batches, validation_batches
from keras_mixers.data.info import Info
from keras_mixers.data.order import Order
from keras_mixers.data.shard import check_shard, replicas
from keras_mixers.deprecation import renamed_argument
from keras_mixers.preprocessing import Preprocessing


@renamed_argument("validation_share", "validation_fraction")
def load(
    name: str | os.PathLike[str],
    image_size: int | tuple[int, int] | None = None,
    batch_size: int = 64,
    *,
    preprocessing: Preprocessing | None = None,
    augmentation: Augmentation | None = None,
    validation_fraction: float | None = None,
    drop_remainder: bool = False,
    seed: int = 0,
    start: tuple[int, int] = (0, 0),
    shard: tuple[int, int] | None = None,
    data_dir: str | os.PathLike[str] | None = None,
) -> tuple[Any, Any, Info]:
    """Load batches for training and validation from a TFDS dataset or a folder of images.

    Images are float32, `(batch, H, W, C)`, as `info.preprocessing` makes them. Labels are int64
    class indices, `(batch,)`.

    Each iteration over `train` is the next epoch: a new random permutation of all images, which are
    augmented again. Pass `shuffle=False` to `fit`, because `train` is already shuffled. Order and
    augmentation of an image depend only on `seed`, the number of the epoch and the position in it.
    An interrupted epoch is repeated by the next iteration. Several iterations can run at once.

    Images that take at most 1 GiB as bytes are kept in memory. Other images are read again in each
    epoch, by random access to the files.

    A folder has one folder of images per class, as in `class/image.jpg`. It may instead have
    `train/`, and `validation/` (or `val/`) or `test/`, with the folders of the classes in each. The
    files are JPEG, PNG, BMP, WebP, or GIF, of which `load` reads the first frame. JPEG images are
    turned upright by their EXIF orientation. White is the background of transparent images. Hidden
    files and folders are ignored; a warning and `info.skipped` count the other files that are not
    read. `km.data.check` finds the files that are not readable images.

    Args:
        name: `"digits"`, which is bundled with scikit-learn and needs no network; a TFDS name such
            as `"cifar10"`; or the path of a folder of images, or of a version of a dataset that
            TFDS has prepared.
        image_size: height and width in pixels, an int or a pair; `None` for the dataset's size.
        batch_size: images in a batch.
        preprocessing: the preprocessing of each image, such as a checkpoint's. `None` for the
            central crop resized to `image_size` (bilinear), with values in [-1, 1]. If it has three
            means, grey images become RGB images.
        augmentation: the augmentation of training images. With MixUp or CutMix the labels of
            `train` are soft labels, float32 `(batch, num_classes)`.
        validation_fraction: fraction of the training images to hold out for validation. `None` for
            the dataset's validation split, else its test split, else a tenth of its training
            images.
        drop_remainder: whether `train` drops the last batch of an epoch if it is incomplete. All
            batches then have the same size, which suits several devices and XLA.
        seed: determines the order of the images and their augmentation.
        start: (epoch, batch), both counted from 0, where the first iteration over `train` begins.
            To resume training, pass `(backup.epoch, backup.batch)` of a `km.training.Backup`.
        shard: (index, count) of the share of each batch that this process reads and augments, for
            training with several processes. `batch_size` is that of all processes together.
            Together they see the batches that one process sees. The shares of the last validation
            batch may differ by one image. `None` takes the share from `keras.distribution`, if a
            distribution with `auto_shard_dataset=False` is set, and reads whole batches otherwise.
            A distribution needs equal parts, so `load` then leaves out the validation images that
            do not fill them, and warns.
        data_dir: where TFDS stores prepared datasets; `None` for its default,
            `~/tensorflow_datasets`.

    Returns:
        `(train, validation, info)`: two `tf.data.Dataset`s, and the `Info` with the class names,
        the numbers of images and the preprocessing.

    Raises:
        ValueError, TypeError: if an argument is invalid; the message names it.
        ValueError: if a batch cannot be divided equally among the shares or Keras's replicas, or
            with MixUp or CutMix if a share has an odd number of images.
        ValueError: if no dataset has this name, or if its examples are not 8-bit images with one
            class label each.
        ValueError: if the images differ in size and `image_size` is `None`.
        ValueError: if a folder contains no images, lacks images of a class, has only one class, or
            if it is not clear whether a folder `train` is a class.
        tf.errors.OpError: during iteration, if a file is not a readable image; the message names
            the file.

    Example:
        >>> train, validation, info = load("digits", image_size=16)
        >>> train.element_spec[0].shape.as_list()
        [None, 16, 16, 1]
        >>> info.class_names[:3], info.num_train, info.validation_source
        (('0', '1', '2'), 1437, 'test')
    """
    batch_size = arguments.integer("batch_size", batch_size)
    seed = arguments.integer("seed", seed, 0, 2**31 - 1)
    drop_remainder = arguments.flag("drop_remainder", drop_remainder)
    start = _start("start", start)
    if image_size is not None:
        image_size = arguments.pair("image_size", image_size)
    if validation_fraction is not None:
        validation_fraction = arguments.rate("validation_fraction", validation_fraction)
        if not validation_fraction:
            raise ValueError(
                "`validation_fraction` must be None or above 0. Received: validation_fraction=0"
            )
    for argument, value, kind in (
        ("preprocessing", preprocessing, Preprocessing),
        ("augmentation", augmentation, Augmentation),
    ):
        if value is not None and not isinstance(value, kind):
            expected = f"`{argument}` must be {kind.__name__}(...) or None"
            raise TypeError(f"{expected}. {arguments.received(**{argument: value})}")
    if preprocessing is not None and image_size not in (None, preprocessing.size):
        raise ValueError(
            "`image_size` must be None or the size of `preprocessing`. Received:"
            f" image_size={image_size} and {preprocessing}"
        )

    shard = check_shard("shard", shard)

    size_is_known = preprocessing is not None or image_size is not None
    source = sources.find(name, validation_fraction, data_dir, size_is_known)
    shape = source.train.shape
    if preprocessing is None:
        preprocessing = _default_preprocessing(image_size, shape)
    channels = shape[-1]
    if channels == 1 and isinstance(preprocessing.mean, tuple):
        channels = len(preprocessing.mean)  # the channel of grey images is repeated
    order = Order(source.train.count, batch_size, drop_remainder, seed, shard)
    _check_order(order, math.lcm(shard[1], replicas()), start)
    if augmentation is not None and (augmentation.mixup or augmentation.cutmix):
        _check_pairs(order)
    num_validation = source.validation.count
    left_out = num_validation % batch_size % replicas()
    if left_out:
        arguments.warn(
            f"`load` leaves out {left_out} of {num_validation} validation images, because the"
            f" distribution of Keras divides each batch into {replicas()} equal parts"
        )
    info = Info(
        name=os.fspath(name),
        input_shape=(*preprocessing.size, channels),
        class_names=source.class_names,
        num_train=source.train.count,
        num_validation=num_validation - left_out,
        validation_source=source.validation_source,
        preprocessing=preprocessing,
        skipped=source.skipped,
    )
    train = train_batches(source.train, info, order, augmentation or Augmentation(), start)
    validation_order = Order(info.num_validation, batch_size, shard=shard)
    return train, validation_batches(source.validation, info, validation_order), info


def images(
    name: str | os.PathLike[str],
    part: str = "validation",
    *,
    data_dir: str | os.PathLike[str] | None = None,
) -> Any:
    """Load single images without preprocessing, in a fixed order.

    Images are bytes, `(H, W, C)`, each with its class index. They are for code that preprocesses
    images itself, such as an exported model and its calibration.

    Args:
        name: as in `load`.
        part: `"train"`, or `"validation"` for the images that `load` uses for validation.
        data_dir: as in `load`.

    Returns:
        A `tf.data.Dataset` of (image, label).

    Raises:
        ValueError, TypeError: as in `load`.

    Example:
        >>> image, label = next(iter(images("digits")))
        >>> image.shape.as_list(), image.dtype.name
        ([8, 8, 1], 'uint8')
    """
    part = arguments.choice("part", part, ("train", "validation"))
    return getattr(sources.find(name, None, data_dir), part).dataset()


def _default_preprocessing(image_size, image_shape):
    """The largest central crop of the right aspect ratio, resized, in [-1, 1]."""
    return Preprocessing(
        image_size or image_shape[:2],
        crop_fraction=1.0,
        interpolation="bilinear",
        mean=0.5,
        std=0.5,
    )


def _check_order(order, parts, start):
    """Raise a ValueError if the batches do not suit the number of equal parts, or the start."""
    if order.batch_size % parts:
        raise ValueError(
            f"`batch_size` must be a multiple of {parts}, because each batch is divided into"
            f" {parts} equal parts. Received: batch_size={order.batch_size}"
        )
    if order.remainder % parts:
        raise ValueError(
            f"`drop_remainder` must be True, because each batch is divided into {parts} equal"
            f" parts. Received: drop_remainder=False, and a last batch of {order.remainder} images"
        )
    if not order.num_batches:
        raise ValueError(
            "`batch_size` must be at most the number of training images if drop_remainder=True."
            f" Received: batch_size={order.batch_size} for {order.num_images} images"
        )
    if start[1] >= order.num_batches:
        raise ValueError(
            "`start` must be (epoch, batch) with a batch from 0 to"
            f" {order.num_batches - 1}, because an epoch has {order.num_batches} batches. Received:"
            f" start={start}"
        )


def _check_pairs(order):
    """Raise a ValueError if shares would mix other pairs of images than one process does."""
    size = 2 * order.shard[1]
    if order.shard[1] > 1 and (order.batch_size % size or order.remainder % size):
        raise ValueError(
            f"`batch_size` must be a multiple of {size}, because MixUp and CutMix mix pairs of"
            f" images in each of {order.shard[1]} shares. Received: batch_size={order.batch_size},"
            f" and a last batch of {order.remainder or order.batch_size} images"
        )


def _start(name, value):
    if not isinstance(value, (tuple, list)) or len(value) != 2:
        raise ValueError(f"`{name}` must be (epoch, batch). {arguments.received(**{name: value})}")
    return tuple(arguments.integer(name, number, 0) for number in value)

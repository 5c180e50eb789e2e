"""Load a dataset by its name: batches for training and validation, or single images."""

import os
from typing import Any

from keras_mixers import arguments
from keras_mixers.data import sources
from keras_mixers.data.augmentation import Augmentation
from keras_mixers.data.epochs import Batches, train_batches, validation_batches
from keras_mixers.data.info import Info
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
    data_dir: str | os.PathLike[str] | None = None,
) -> tuple[Any, Any, Info]:
    """Load batches for training and validation from a TFDS dataset or a folder of images.

    Images are float32, `(batch, H, W, C)`, as `info.preprocessing` makes them. Labels are int64
    class indices, `(batch,)`.

    Each iteration over `train` is the next epoch. The images come in a new order, from a shuffle
    buffer of up to 10,000 images, and are augmented again. Pass `shuffle=False` to `fit`, because
    `train` is already shuffled. Order and augmentation depend only on `seed` and the number of the
    epoch. After an interrupted iteration, the next one restarts the same epoch. `train` supports
    one iterator at a time.

    A folder has one folder of images per class, as in `class/image.jpg`. It may instead have
    `train/`, and `validation/` (or `val/`) or `test/`, with the folders of the classes in each. The
    files are JPEG, PNG, BMP, WebP, or GIF, of which `load` reads the first frame. JPEG images are
    turned upright by their EXIF orientation. White is the background of transparent images. Hidden
    files and folders are ignored; a warning and `info.skipped` count the other files that are not
    read. `km.data.check` finds the files that are not readable images.

    Args:
        name: `"digits"`, which is bundled with scikit-learn and needs no network; a TFDS name such
            as `"cifar10"`; or the path of a folder.
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
        data_dir: where TFDS stores prepared datasets; `None` for its default,
            `~/tensorflow_datasets`.

    Returns:
        `(train, validation, info)`: two `tf.data.Dataset`s, and the `Info` with the class names,
        the numbers of images and the preprocessing.

    Raises:
        ValueError, TypeError: if an argument is invalid; the message names it.
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

    size_is_known = preprocessing is not None or image_size is not None
    source = sources.find(name, validation_fraction, data_dir, size_is_known)
    if preprocessing is None:
        preprocessing = _default_preprocessing(image_size, source.image_shape)
    channels = source.image_shape[-1] or 3
    if channels == 1 and isinstance(preprocessing.mean, tuple):
        channels = len(preprocessing.mean)  # `to_rgb` repeats the grey channel
    info = Info(
        name=os.fspath(name),
        input_shape=(*preprocessing.size, channels),
        class_names=source.class_names,
        num_train=source.num_train,
        num_validation=source.num_validation,
        validation_source=source.validation_source,
        preprocessing=preprocessing,
        skipped=source.skipped,
    )
    batches = Batches(batch_size, drop_remainder, source.num_train)
    if not batches.count:
        raise ValueError(
            "`batch_size` must be at most the number of training images if drop_remainder=True."
            f" Received: batch_size={batch_size} for {source.num_train} images"
        )
    if start[1] >= batches.count:
        raise ValueError(
            f"`start` must be (epoch, batch) with a batch from 0 to {batches.count - 1}, because an"
            f" epoch has {batches.count} batches. Received: start={start}"
        )
    train = train_batches(source, info, batches, augmentation or Augmentation(), seed, start)
    return train, validation_batches(source, info, batch_size), info


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
    return getattr(sources.find(name, None, data_dir), part)


def _default_preprocessing(image_size, image_shape):
    """The largest central crop of the right aspect ratio, resized, in [-1, 1]."""
    return Preprocessing(
        image_size or image_shape[:2],
        crop_fraction=1.0,
        interpolation="bilinear",
        mean=0.5,
        std=0.5,
    )


def _start(name, value):
    if not isinstance(value, (tuple, list)) or len(value) != 2:
        raise ValueError(f"`{name}` must be (epoch, batch). {arguments.received(**{name: value})}")
    return tuple(arguments.integer(name, number, 0) for number in value)

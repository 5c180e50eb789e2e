"""From a dataset's name to batches a model trains on."""

import os

from keras_mixers import arguments
from keras_mixers.data import sources
from keras_mixers.data.augmentation import Augmentation
from keras_mixers.data.epochs import Batches, train_batches, validation_batches
from keras_mixers.data.info import Info
from keras_mixers.deprecation import renamed_argument
from keras_mixers.preprocessing import Preprocessing


@renamed_argument("validation_share", "validation_fraction")
def load(
    name: str | os.PathLike,
    image_size: int | tuple[int, int] | None = None,
    batch_size: int = 64,
    *,
    preprocessing: Preprocessing | None = None,
    augmentation: Augmentation | None = None,
    validation_fraction: float | None = None,
    drop_remainder: bool = False,
    seed: int = 0,
    start: tuple[int, int] = (0, 0),
    data_dir: str | os.PathLike | None = None,
) -> tuple:
    """Batches to train on and to judge by, of any TFDS image dataset or a folder of images.

    Images are float32 as `info.preprocessing` makes them, `(batch, H, W, C)`; labels are int64
    class numbers. Each iteration over `train` is the next pass: images in a new order, 10,000
    shuffled at a time, and augmented anew, all of it a function of the seed and the pass. One that
    is broken off is begun again by the next.

    Args:
        name: `"digits"`, bundled with scikit-learn and prepared without a network; a name in TFDS,
            such as `"cifar10"`; or a folder `class/image.jpg` or `train/class/image.jpg` (with
            `validation/` or `test/` beside `train/`).
        image_size: height and width in pixels, an int or a pair; `None` keeps the dataset's own.
        batch_size: images a batch.
        preprocessing: what is done to each image, such as a checkpoint's; `None` for its centre
            resized to `image_size` (bilinear), in [-1, 1]. Three means make grey images coloured.
        augmentation: what training images go through. If it mixes labels, those of `train` are
            shares of each class, float32 `(batch, num_classes)`.
        validation_fraction: share of the training images to hold out and judge by; `None` takes the
            dataset's validation split, or its test split, or holds out a tenth.
        drop_remainder: leave out of each pass of `train` what does not fill a batch, so that all
            are of one size, as several devices and XLA like them.
        seed: of order and augmentation.
        start: (pass, batch) at which the first iteration over `train` begins, for training that
            goes on.
        data_dir: where TFDS keeps prepared datasets; `None` for its default,
            `~/tensorflow_datasets`.

    Returns:
        `(train, validation, info)`: two `tf.data.Dataset`s, and the `Info` with class names,
        numbers of images and preprocessing.

    Raises:
        ValueError: no dataset of that name; no image and label in it; images of different sizes and
            no `image_size`; an empty folder, or one of a single class.
        tf.errors.OpError: while iterating, at a file that is no image; it is named.

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
            raise ValueError("`validation_fraction` must be None or above 0. Received: 0")
    for argument, value, kinds in (
        ("preprocessing", preprocessing, Preprocessing),
        ("augmentation", augmentation, Augmentation),
        ("data_dir", data_dir, (str, os.PathLike)),
    ):
        if value is not None and not isinstance(value, kinds):
            what = "a path" if argument == "data_dir" else f"{kinds.__name__}(...)"
            raise TypeError(f"`{argument}` must be {what} or None. Received: {argument}={value!r}")
    if preprocessing is not None and image_size not in (None, preprocessing.size):
        raise ValueError(
            "`image_size` must be None, or the preprocessing's own. Received:"
            f" image_size={image_size} and {preprocessing}"
        )

    size_is_known = preprocessing is not None or image_size is not None
    source = sources.find(name, validation_fraction, data_dir, size_is_known)
    if preprocessing is None:
        preprocessing = _usual(image_size, source.image_shape)
    channels = source.image_shape[-1] or 3
    if channels == 1 and isinstance(preprocessing.mean, tuple):
        channels = len(preprocessing.mean)  # a grey picture is one whose colours are equal
    info = Info(
        name=os.fspath(name),
        input_shape=(*preprocessing.size, channels),
        class_names=source.class_names,
        num_train=source.num_train,
        num_validation=source.num_validation,
        validation_source=source.validation_source,
        preprocessing=preprocessing,
    )
    batches = Batches(batch_size, drop_remainder, source.num_train)
    if not batches.count:
        raise ValueError(
            "`batch_size` must be at most the number of images with drop_remainder=True. Received:"
            f" batch_size={batch_size} of {source.num_train}"
        )
    if start[1] >= batches.count:
        raise ValueError(
            f"`start` must name one of the {batches.count} batches of a pass, from 0. Received:"
            f" start={start}"
        )
    train = train_batches(source, info, batches, augmentation or Augmentation(), seed, start)
    return train, validation_batches(source, info, batch_size), info


def images(
    name: str | os.PathLike, part: str = "validation", *, data_dir: str | os.PathLike | None = None
):
    """Single images as they came, in bytes, each with its class number, in a fixed order.

    For what prepares images by itself, such as a deployed file and its calibration.

    Args:
        name: as in `load`.
        part: `"train"`, or `"validation"` for what `load` judges by.
        data_dir: as in `load`.

    Returns:
        A `tf.data.Dataset` of (image, label).

    Raises:
        ValueError: as in `load`.

    Example:
        >>> image, label = next(iter(images("digits")))
        >>> image.shape.as_list(), image.dtype.name
        ([8, 8, 1], 'uint8')
    """
    part = arguments.choice("part", part, ("train", "validation"))
    return getattr(sources.find(name, None, data_dir), part)


def _usual(image_size, image_shape):
    """The whole image but for what a square leaves over, in [-1, 1]."""
    return Preprocessing(
        image_size or image_shape[:2],
        crop_fraction=1.0,
        interpolation="bilinear",
        mean=0.5,
        std=0.5,
    )


def _start(name, value):
    if not isinstance(value, (tuple, list)) or len(value) != 2:
        raise ValueError(f"`{name}` must be (pass, batch). Received: {name}={value!r}")
    return tuple(arguments.integer(name, number, 0) for number in value)

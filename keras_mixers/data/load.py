"""Load a dataset by its name or path: batches for training and validation, or single images."""

import os
from typing import Any

from keras_mixers import arguments
from keras_mixers.data import sources
from keras_mixers.data.assemble import assemble
from keras_mixers.data.augmentation import Augmentation
from keras_mixers.data.info import Info
from keras_mixers.data.settings import Settings
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
    class_weight: str | dict[str | int, float] | None = None,
    drop_remainder: bool = False,
    seed: int = 0,
    start: tuple[int, int] = (0, 0),
    shard: tuple[int, int] | None = None,
    data_dir: str | os.PathLike[str] | None = None,
    on_error: str = "raise",
) -> tuple[Any, Any, Info]:
    """Load batches for training and validation from a TFDS dataset, a folder or a CSV file.

    Images are float32, `(batch, H, W, C)`, as `info.preprocessing` makes them. Labels are int64
    class indices, `(batch,)`. If images may have several labels, they are multi-hot, float32
    `(batch, num_classes)`, and `info.multi_label` is True.

    Each iteration over `train` is the next epoch: a new random permutation of all images, which are
    augmented again. Pass `shuffle=False` to `fit`, because `train` is already shuffled. Order and
    augmentation of an image depend only on `seed`, the number of the epoch and the position in it.
    An interrupted epoch is repeated by the next iteration. Several iterations can run at once.

    Images that take at most 1 GiB as bytes are kept in memory. Other images are read again in each
    epoch, by random access to the files.

    A folder has one folder of images per class, as in `class/image.jpg`. It may instead have
    `train/`, and `validation/` (or `val/`) or `test/`, with the folders of the classes in each.
    Hidden files and folders are ignored. A warning and `info.skipped` count the other files that
    are not images.

    A CSV file has one line for each image. Its first line names the columns:

    - `path`: the path of the image, from the folder of the CSV file.
    - `label`: the name of its class. Instead, `labels` may have several names separated by `;`, or
      none. Or each column that has another name is a class, with a 1 for the images that have it
      and a 0 for the others.
    - `split`, optional: `train`, `validation` (or `val`) or `test`.

    Next to `label` or `labels`, other columns are ignored. Classes are sorted by name, or as
    numbers if all names are numbers. Columns of 0 and 1 keep their order.

    Files are JPEG, PNG, BMP, WebP, GIF or TIFF. The first frame or page is read. Images are turned
    upright by their EXIF orientation. White is the background of transparent images. Grey and CMYK
    images become RGB, and values of 16 bits their high byte. TensorFlow cannot decode TIFF,
    animated WebP and some BMP and GIF files. `load` converts them once to files in
    `~/.keras/keras_mixers/images` of at most 4 bytes per pixel, and removes those that were not
    used for 30 days. The environment variable `KERAS_HOME` names another folder instead of
    `~/.keras`. `km.data.check` reports what a folder or a CSV file contains.

    Args:
        name: `"digits"`, which is bundled with scikit-learn and needs no network; a TFDS name such
            as `"cifar10"`; or the path of a folder of images, of a CSV file, or of a version of a
            dataset that TFDS has prepared.
        image_size: height and width in pixels, an int or a pair; `None` for the dataset's size.
        batch_size: images in a batch.
        preprocessing: the preprocessing of each image, such as a checkpoint's. `None` for the
            central crop resized to `image_size` (bilinear), with values in [-1, 1]. If it has three
            means, grey images become RGB images.
        augmentation: the augmentation of training images. With MixUp or CutMix the labels of
            `train` are soft labels, float32 `(batch, num_classes)`.
        validation_fraction: fraction of the training images to hold out for validation. `None` for
            the dataset's validation split, else its test split, else a tenth of its training
            images. Of a folder or a CSV file, each class is held out in proportion.
        class_weight: how much the images of a class count in the training loss. `"balanced"` is
            `n / (K n_k)` for n training images, K classes and n_k images of the class: each class
            then counts as much as the others. A dict has weights by the name or the number of the
            class; other classes have weight 1. With weights, `train` has a third part, float32
            `(batch,)`. `validation` has not. With MixUp or CutMix, do not use the `class_weight` of
            `fit` instead: it weights a mixed image by its largest soft label only.
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
        on_error: `"raise"` an error for a file that is not a readable image, or `"skip"` it. To
            find all such files before training, `"skip"` decodes each image once. The files are
            counted in `info.skipped`, and a warning names the first ones.

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
        ValueError: if no image of a class for training, or of a split, is readable.
        ValueError: if a CSV file does not have this form; the message names the line.
        ValueError: with `on_error="raise"`, if a file is empty, is missing or cannot be converted.
        tf.errors.OpError: during iteration with `on_error="raise"`, if another file is damaged; the
            message names the file.
        OSError: if a folder cannot be listed, a converted image cannot be written, or a dataset
            cannot be downloaded.

    Example:
        >>> train, validation, info = load("digits", image_size=16)
        >>> train.element_spec[0].shape.as_list()
        [None, 16, 16, 1]
        >>> info.class_names[:3], info.num_train, info.validation_source
        (('0', '1', '2'), 1437, 'test')
    """
    settings = Settings(
        image_size=image_size,
        batch_size=batch_size,
        preprocessing=preprocessing,
        augmentation=augmentation,
        validation_fraction=validation_fraction,
        class_weight=class_weight,
        drop_remainder=drop_remainder,
        seed=seed,
        start=start,
        shard=shard,
    )
    fraction = settings.validation_fraction
    on_error = arguments.choice("on_error", on_error, ("raise", "skip"))
    source = sources.find(name, fraction, data_dir, settings.size_is_known, on_error)
    return assemble(source, os.fspath(name), settings)


def images(
    name: str | os.PathLike[str],
    part: str = "validation",
    *,
    data_dir: str | os.PathLike[str] | None = None,
    on_error: str = "raise",
) -> Any:
    """Load single images without preprocessing, in a fixed order.

    Images are bytes, `(H, W, C)`, each with its class index or its multi-hot label. They are for
    code that preprocesses images itself, such as an exported model and its calibration.

    Args:
        name: as in `load`.
        part: `"train"`, or `"validation"` for the images that `load` uses for validation.
        data_dir: as in `load`.
        on_error: as in `load`. With another value, another part of a folder may be held out.

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
    on_error = arguments.choice("on_error", on_error, ("raise", "skip"))
    return getattr(sources.find(name, None, data_dir, on_error=on_error), part).dataset()

"""From a dataset's name to batches a model trains on."""

import os

from keras_mixers import arguments

BATCHES_AHEAD = 2
SHUFFLE_BUFFER = 10_000  # images
CACHED_BYTES = 2**30


def load(
    name: str,
    image_size: int | tuple[int, int] | None = None,
    batch_size: int = 64,
    *,
    seed: int = 0,
    data_dir: str | os.PathLike | None = None,
) -> tuple:
    """Batches of images and labels from `"digits"` or any TFDS image classification dataset.

    Images are float32 in [-1, 1], `(batch, H, W, C)`; labels are int64 class numbers. Training
    images are shuffled anew each epoch, 10,000 at a time; an epoch's last batch may be smaller.

    Args:
        name: `"digits"`, bundled with scikit-learn and prepared without a network, or a name in
            TFDS, such as `"cifar10"`.
        image_size: height and width to resize to, in pixels, an int or a pair; `None` keeps the
            dataset's own.
        batch_size: images a batch.
        seed: of the shuffling.
        data_dir: where TFDS keeps prepared datasets; `None` for its default,
            `~/tensorflow_datasets`.

    Returns:
        `(train, validation, info)`: two `tf.data.Dataset`s and the `tfds.core.DatasetInfo`, which
        knows the class names (`info.features["label"].names`). `validation` is the dataset's
        validation split, or its test split where it has none.

    Raises:
        ValueError: no dataset of that name; no image and label, or no such splits in it; images of
            different sizes and no `image_size`.

    Example:
        >>> train, validation, info = load("digits", image_size=16)
        >>> train.element_spec[0].shape.as_list()
        [None, 16, 16, 1]
    """
    batch_size = arguments.integer("batch_size", batch_size)
    seed = arguments.integer("seed", seed, 0, 2**31 - 1)
    if image_size is not None:
        image_size = arguments.pair("image_size", image_size)
    if data_dir is not None and not isinstance(data_dir, (str, os.PathLike)):
        raise TypeError(f"`data_dir` must be a path or None. Received: data_dir={data_dir!r}")

    builder = find_builder(name, data_dir)
    check_features(name, builder.info, image_size)
    try:
        builder.download_and_prepare()
    except FileExistsError:  # another process has prepared it meanwhile: read what it left
        builder = find_builder(name, data_dir)
    train_split, validation_split = find_splits(name, builder.info)

    num_train = builder.info.splits[train_split].num_examples
    train = decoded(builder, train_split, image_size)
    train = train.shuffle(min(num_train, SHUFFLE_BUFFER), seed=seed)
    validation = decoded(builder, validation_split, image_size)
    return batches(train, batch_size), batches(validation, batch_size), builder.info


def find_builder(name, data_dir):
    """The TFDS builder of a name; an unknown one gets near matches."""
    import tensorflow_datasets as tfds

    if not isinstance(name, str):
        raise TypeError(
            f"`name` must be a string such as 'digits' or 'cifar10'. Received: name={name!r}"
        )
    if name == "digits":
        from keras_mixers.data.digits import Digits

        return Digits(data_dir=data_dir)
    try:
        return tfds.builder(name, data_dir=data_dir)
    except tfds.core.DatasetNotFoundError:
        known = ["digits", *tfds.list_builders(with_community_datasets=False)]
        raise ValueError(
            "`name` must be 'digits' or a dataset of TFDS. Received:"
            f" name={name!r}{arguments.nearest(name, known)}"
        ) from None


def check_features(name, info, image_size):
    """Refuse, before any download, a dataset that is not images with a label."""
    if info.supervised_keys != ("image", "label"):
        raise ValueError(
            "`name` must be a dataset of images with one label each. Received:"
            f" name={name!r}, whose supervised keys are {info.supervised_keys}"
        )
    if image_size is None and None in info.features["image"].shape:
        raise ValueError(
            f"`image_size` must be given for name={name!r}, whose images differ in size."
            " Received: image_size=None; for example 224"
        )


def find_splits(name, info):
    """What to train on, and what to judge by: validation, or test where there is none."""
    judged_by = [split for split in ("validation", "test") if split in info.splits]
    if "train" not in info.splits or not judged_by:
        raise ValueError(
            "`name` must be a dataset with a train split and a validation or test split."
            f" Received: name={name!r}, which has {', '.join(info.splits)}"
        )
    return "train", judged_by[0]


def decoded(builder, split, image_size):
    """Single images in [-1, 1] with their labels, kept in memory where they are few."""
    import tensorflow as tf

    height, width, channels = builder.info.features["image"].shape
    height, width = image_size or (height, width)

    def prepare(image, label):
        image = tf.cast(image, "float32")
        if image_size is not None:
            image = tf.image.resize(image, image_size, method="bilinear", antialias=True)
        return image / 127.5 - 1.0, label

    # Parallelism is stated, not tuned: see `batches`.
    dataset = builder.as_dataset(split=split, as_supervised=True)
    dataset = dataset.map(prepare, num_parallel_calls=os.cpu_count())
    num_bytes = 4 * builder.info.splits[split].num_examples * height * width * (channels or 3)
    return dataset.cache() if num_bytes <= CACHED_BYTES else dataset


def batches(dataset, batch_size):
    """Batches made ahead of the step that needs them.

    tf.data's autotuning is off: an iterator under it can take seconds to close at the end of an
    epoch, while training stands still.
    """
    import tensorflow as tf

    options = tf.data.Options()
    options.autotune.enabled = False
    return dataset.batch(batch_size).prefetch(BATCHES_AHEAD).with_options(options)

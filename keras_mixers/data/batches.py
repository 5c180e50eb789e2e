"""Batches for training and validation, as tf.data computes them from a seed and an epoch."""

from keras_mixers.data.augmenter import Augmenter, random_crop
from keras_mixers.data.epochs import epochs
from keras_mixers.data.random_access import THREADS, plain, without_autotune
from keras_mixers.data.randomness import RowRandom, fold_in

PREFETCHED_BATCHES = 4


def train_batches(images, info, order, augmentation, start):
    """A dataset of training batches; each iteration is the next epoch, from `start` on."""
    import tensorflow as tf

    images = images.with_channels(info.input_shape[-1])
    crop_scale = augmentation.crop_scale
    if crop_scale is None:  # otherwise, each epoch crops the whole images differently
        images = images.resized(info.preprocessing).kept()
    augment = Augmenter(augmentation, info.preprocessing, info.input_shape[-1], info.num_classes)

    def crop(epoch, position, image):
        # The last 0 makes this key longer than the key of a batch, so the two are never equal.
        key = fold_in(order.seed, epoch, position, 0)
        image = random_crop(image, info.preprocessing, crop_scale, key)
        return tf.ensure_shape(image, info.input_shape)

    def batches_of(epoch, first_batch):
        def augment_batch(batch, images, labels):
            key = fold_in(order.seed, epoch, batch)
            random = RowRandom(key, order.rows(batch), order.batch_size)
            return batch, *augment(images, labels, random)

        change = crop if crop_scale else None
        batches = read_batches(images, order, epoch, first_batch, change)
        return batches.map(plain(augment_batch), THREADS).prefetch(PREFETCHED_BATCHES)

    return epochs(batches_of, order.num_batches, start)


def validation_batches(images, info, order):
    """A dataset of the validation images in a fixed order, preprocessed."""
    import tensorflow as tf

    images = images.with_channels(info.input_shape[-1]).resized(info.preprocessing).kept()
    zero = tf.constant(0, tf.int64)
    batches = read_batches(images, order, zero, zero).map(
        plain(lambda _, images, labels: (info.preprocessing.normalize(images), labels)), THREADS
    )
    batches = batches.apply(tf.data.experimental.assert_cardinality(order.num_batches))
    return without_autotune(batches.prefetch(PREFETCHED_BATCHES))


def read_batches(images, order, epoch, first_batch, change=None):
    """A dataset of (number of the batch, images, labels) from a batch to the end of the epoch.

    `change` changes single images: (epoch, position, image) -> image.
    """
    import tensorflow as tf

    numbers = tf.data.Dataset.range(first_batch, order.num_batches)
    indices = order.indices(epoch)
    if images.read_batch and change is None:

        def read_batch(batch):
            positions = batch * order.batch_size + order.rows(batch)
            read = images.read_batch(tf.gather(indices, positions))
            return batch, *(of_known_size(part, order) for part in read)

        return numbers.map(plain(read_batch), THREADS)

    singles = images.select(
        order.count_from(first_batch),
        lambda number: tf.gather(indices, order.position(number, first_batch)),
    )
    if change is not None:
        singles = singles.map(
            plain(
                lambda number, image, label: (
                    number,
                    change(epoch, order.position(number, first_batch), image),
                    label,
                )
            ),
            THREADS,
        )
    singles = singles.map(plain(lambda number, image, label: (image, label)))
    batches = singles.batch(order.share_size, drop_remainder=order.drop_remainder)
    return tf.data.Dataset.zip(numbers, batches).map(plain(lambda n, batch: (n, *batch)))


def of_known_size(tensor, order):
    """The tensor, whose first dimension is known if all batches have the same size."""
    import tensorflow as tf

    if not order.drop_remainder:
        return tensor
    return tf.ensure_shape(tensor, (order.share_size, *tensor.shape[1:]))

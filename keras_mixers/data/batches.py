"""Batches for training and validation, as tf.data computes them from a seed and an epoch."""

from keras_mixers.data.ahead import prepared_ahead
from keras_mixers.data.augmenter import Augmenter, random_crop
from keras_mixers.data.epochs import epochs
from keras_mixers.data.random_access import THREADS, plain
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

    def augment_batch(epoch, batch, images, labels):
        random = RowRandom(fold_in(order.seed, epoch, batch), order.rows(batch), order.batch_size)
        return epoch, batch, *augment(images, labels, random)

    elements_of, read = reader(images, order, crop if crop_scale else None)

    def batches_of(elements):
        return read(elements).map(plain(augment_batch), THREADS).prefetch(PREFETCHED_BATCHES)

    return epochs(elements_of, batches_of, order.num_batches, start)


def validation_batches(images, info, order):
    """A dataset of the validation images in a fixed order, preprocessed."""
    import tensorflow as tf

    def normalize(epoch, batch, images, labels):
        return info.preprocessing.normalize(images), labels

    images = images.with_channels(info.input_shape[-1]).resized(info.preprocessing).kept()
    elements_of, read = reader(images, order)
    zero = tf.constant(0, tf.int64)
    batches = read(elements_of(zero, zero)).map(plain(normalize), THREADS)
    batches = batches.apply(tf.data.experimental.assert_cardinality(order.num_batches))
    return prepared_ahead(batches.prefetch(PREFETCHED_BATCHES))


def reader(images, order, change=None):
    """How to read images in an order: two functions.

    The first one makes a dataset of elements from (epoch, first batch), both int64 scalars. The
    second one makes a dataset of (epoch, batch, images, labels) from the elements. `change`
    changes single images: (epoch, position, image) -> image.
    """
    if images.read_batch and change is None:
        return whole_batches(images, order)
    return single_images(images, order, change)


def whole_batches(images, order):
    """The `reader` of images in memory; an element is the indices of a batch."""
    import tensorflow as tf

    def elements_of(epoch, first_batch):
        indices = order.indices(epoch)

        def element(batch):
            positions = batch * order.batch_size + order.rows(batch)
            return epoch, batch, tf.gather(indices, positions)

        return tf.data.Dataset.range(first_batch, order.num_batches).map(plain(element))

    def read_batch(epoch, batch, indices):
        return epoch, batch, *(of_known_size(x, order) for x in images.read_batch(indices))

    return elements_of, lambda elements: elements.map(plain(read_batch), THREADS)


def single_images(images, order, change):
    """The `reader` of images in files, or of images that are changed one by one."""
    import tensorflow as tf

    def elements_of(epoch, first_batch):
        indices, count = order.indices(epoch), order.count_from(first_batch)

        def element(number):
            position = order.position(tf.minimum(number, count - 1), first_batch)
            index = tf.where(number < count, tf.gather(indices, position), -1)
            return number, index, (epoch, first_batch)

        return tf.data.Dataset.range(count + 1).map(plain(element))

    def index_at(number, context):
        epoch, first_batch = context
        return tf.gather(order.indices(epoch), order.position(number, first_batch))

    def place(number, image, label, context):
        epoch, first_batch = context
        position = order.position(number, first_batch)
        image = image if change is None else change(epoch, position, image)
        return epoch, position // order.batch_size, image, label

    def read(elements):
        singles = images.select(elements, index_at).map(plain(place), THREADS)
        batches = singles.batch(order.share_size, drop_remainder=order.drop_remainder)
        return batches.map(plain(lambda epochs, numbers, *batch: (epochs[0], numbers[0], *batch)))

    return elements_of, read


def of_known_size(tensor, order):
    """The tensor, whose first dimension is known if all batches have the same size."""
    import tensorflow as tf

    if not order.drop_remainder:
        return tensor
    return tf.ensure_shape(tensor, (order.share_size, *tensor.shape[1:]))

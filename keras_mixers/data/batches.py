"""Batches for training and validation, as tf.data computes them from a seed and an epoch."""

from keras_mixers.data.augmenter import Augmenter, random_crop
from keras_mixers.data.epochs import epochs
from keras_mixers.data.random_access import THREADS, plain
from keras_mixers.data.randomness import RowRandom, fold_in

PREFETCHED_BATCHES = 4


def train_batches(images, info, order, augmentation, start, class_weights=None):
    """A dataset of training batches; each iteration is the next epoch, from `start` on.

    `class_weights` is an array with the weight of each class, or None.
    """
    import tensorflow as tf

    images = images.with_channels(info.input_shape[-1])
    crop_scale = augmentation.crop_scale
    if crop_scale is None:  # otherwise, each epoch crops the whole images differently
        images = images.resized(info.preprocessing).kept()
    augment = Augmenter(augmentation, info.preprocessing, info.input_shape[-1], info.num_classes)

    def crop(image, seed):
        image = random_crop(image, info.preprocessing, crop_scale, seed)
        return tf.ensure_shape(image, info.input_shape)

    def augment_batch(epoch, batch, images, labels, weights=None):
        random = RowRandom(fold_in(order.seed, epoch, batch), order.rows(batch), order.batch_size)
        weights = with_class_weights(weights, labels, class_weights)
        return epoch, batch, *augment(images, labels, random, weights)

    return changed_batches(images, order, augment_batch, start, crop if crop_scale else None)


def validation_batches(images, info, order):
    """A dataset of the validation images in a fixed order, preprocessed."""

    def normalize(epoch, batch, images, *rest):
        return epoch, batch, info.preprocessing.normalize(images), *rest

    images = images.with_channels(info.input_shape[-1]).resized(info.preprocessing).kept()
    return changed_batches(images, order, normalize)


def changed_batches(images, order, change_batch, start=(0, 0), change_image=None):
    """A dataset whose iterations are one epoch after the other.

    Args:
        images: an `Images`.
        order: an `Order`.
        change_batch: (epoch, batch, images, labels, and the weights of the images if they have
            weights) -> the same, changed.
        start: (epoch, batch), where the first iteration begins.
        change_image: (image, seed) -> image, before it is put into a batch.
    """

    def changed_epoch(epoch, first_batch):
        batches = read_epoch(images, order, epoch, first_batch, change_image)
        return batches.map(plain(change_batch), THREADS).prefetch(PREFETCHED_BATCHES)

    return epochs(changed_epoch, order.num_batches, start)


def with_class_weights(weights, labels, class_weights):
    """The weight of each image times the weight of its class; None without either weight."""
    import tensorflow as tf

    if class_weights is None:
        return weights
    of_class = tf.gather(tf.constant(class_weights, tf.float32), labels)
    return of_class if weights is None else weights * of_class


def read_epoch(images, order, epoch, first_batch, change_image=None):
    """A dataset of (epoch, batch, images, labels) from a batch to the end of an epoch.

    If the images have weights, they are the last part of its elements.
    """
    import tensorflow as tf

    numbers = tf.data.Dataset.range(first_batch, order.num_batches)
    if images.read_batch and change_image is None:
        indices = order.indices(epoch)

        def read_batch(batch):
            positions = batch * order.batch_size + order.rows(batch)
            rows = tf.gather(indices, positions)
            read = *images.read_batch(rows), *images.weights_at(rows)
            return epoch, batch, *(of_known_size(part, order) for part in read)

        return numbers.map(plain(read_batch), THREADS)

    singles = read_singles(images, order, epoch, first_batch, change_image)
    batches = singles.batch(order.share_size, drop_remainder=order.drop_remainder)
    if order.remainder:
        # The share of this process in the last batch may be empty. Then this is its last batch.
        specs = singles.batch(1).element_spec
        empty = tuple(tf.zeros([0, *spec.shape[1:]], spec.dtype) for spec in specs)
        batches = batches.concatenate(tf.data.Dataset.from_tensors(empty))
    return tf.data.Dataset.zip(numbers, batches).map(
        plain(lambda batch, changed: (epoch, batch, *changed))
    )


def read_singles(images, order, epoch, first_batch, change_image):
    """A dataset of (image, label), or (image, label, weight), to the end of an epoch."""
    import tensorflow as tf

    if change_image is None:
        return images.singles(order, epoch, first_batch, lambda position, *parts: parts)

    # With the 1, because the order of the images uses the same numbers with a 0.
    key = tf.stack([fold_in(order.seed, epoch), 1])
    seeds = tf.random.stateless_uniform([order.num_images, 2], key, None, None, "int32")

    def change(position, image, *rest):
        return change_image(image, tf.gather(seeds, position)), *rest

    return images.singles(order, epoch, first_batch, change)


def of_known_size(tensor, order):
    """The tensor, whose first dimension is known if all batches have the same size."""
    import tensorflow as tf

    if not order.drop_remainder:
        return tensor
    return tf.ensure_shape(tensor, (order.share_size, *tensor.shape[1:]))

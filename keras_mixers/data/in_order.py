"""Labelled images that can only be read in their order, such as those of a user's dataset."""

import dataclasses
from typing import Any

from keras_mixers.data.labelled import Labelled
from keras_mixers.data.random_access import THREADS, plain
from keras_mixers.data.randomness import fold_in

SHUFFLED = 1024  # images that a shuffle holds in memory


@dataclasses.dataclass(frozen=True)
class InOrder(Labelled):
    """Labelled images that a TensorFlow graph reads one after the other; see `Images`.

    Args:
        elements: a dataset of (bytes, label), or (bytes, label, weight), that holds all images.
        count: the number of images.
        shape: (height, width, channels), with None where the images differ.
        num_classes: as in `Images`.
    """

    elements: Any
    count: int
    shape: tuple
    num_classes: int | None = None
    labels = None
    read_batch = None

    def changed(self, change, shape):
        """The images, changed by a function of one image."""
        import tensorflow as tf

        def change_first(image, *rest):
            return tf.ensure_shape(change(image), shape), *rest

        elements = self.elements.map(plain(change_first), THREADS)
        return dataclasses.replace(self, elements=elements, shape=shape)

    def kept(self):
        """The same images, because they do not fit into memory."""
        return self

    def singles(self, order, epoch, first_batch, change):
        """A dataset of the images from a batch to the end of an epoch; see `Images.singles`.

        It reads the images before that batch again, and does not use them.
        """
        import tensorflow as tf

        elements = self.elements
        if order.seed is not None:
            elements = shuffled(elements, fold_in(order.seed, epoch))
        begin = first_batch * order.batch_size
        count = tf.maximum(order.num_used - begin, 0)  # 0 reads nothing; less would read everything
        elements = elements.enumerate().skip(begin).take(count)
        if order.shard[1] > 1:
            elements = elements.filter(plain(lambda position, _: order.is_in_share(position)))
        return elements.map(plain(lambda position, parts: change(position, *parts)), THREADS)


def shuffled(dataset, key):
    """The dataset in another order, which depends only on the key, an int32 scalar.

    `Dataset.shuffle` would also use the global seed, and it needs a seed that is not a tensor.
    """
    import tensorflow as tf

    specs = tf.nest.flatten(dataset.element_spec)
    variant = tf.raw_ops.ShuffleDatasetV3(
        input_dataset=tf.data.experimental.to_variant(dataset),
        buffer_size=tf.constant(SHUFFLED, tf.int64),
        seed=tf.cast(key, tf.int64),
        seed2=tf.constant(1, tf.int64),  # because two zeros give a random order
        seed_generator=tf.raw_ops.DummySeedGenerator(),
        reshuffle_each_iteration=False,
        output_types=[spec.dtype for spec in specs],
        output_shapes=[spec.shape for spec in specs],
    )
    return tf.data.experimental.from_variant(variant, dataset.element_spec)

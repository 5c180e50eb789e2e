"""Batches for training and validation; an epoch depends only on the seed and its number."""

import dataclasses
import math
import os
import threading

from keras_mixers.data.augmentation import Augmenter, random_crop
from keras_mixers.data.position import with_position
from keras_mixers.data.rng import KeyedSeeds

PREFETCHED_BATCHES = 4
SHUFFLE_BUFFER = 10_000  # images
CACHED_BYTES = 2**30
ASSUMED_SIDE = 512  # pixels, a guess for images of unknown size
# tf.data's autotuning is off, and the number of threads is fixed. With autotuning, an iterator can
# take seconds to close at the end of an epoch, and training waits.
THREADS = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


@dataclasses.dataclass(frozen=True)
class Batches:
    """The number of images in a batch, and of batches in an epoch."""

    size: int
    drop_remainder: bool
    num_images: int

    @property
    def count(self):
        batches = self.num_images / self.size
        return math.floor(batches) if self.drop_remainder else math.ceil(batches)


def train_batches(source, info, batches, augmentation, seed, start):
    """A dataset whose iterators are one epoch after the other, from `start`: (epoch, batch)."""
    import tensorflow as tf

    random_crops = augmentation.crop_scale is not None
    images = to_rgb(source.train, info)
    if random_crops:  # the cache holds whole images, because each epoch crops them differently
        images = cache_if_small(images, source.num_train, source.image_shape)
    else:
        images = cache_if_small(resize(images, info), source.num_train, info.input_shape)
    augment = Augmenter(augmentation, info.preprocessing, info.input_shape, info.num_classes)
    first_epoch, first_batch = start

    def crop(epoch, index, image):
        if not random_crops:
            return image
        # The last 0 makes this key longer than the key of a batch, so the two are never equal.
        seeds = KeyedSeeds(seed, epoch, index, 0)
        image = random_crop(image, info.preprocessing, augmentation.crop_scale, seeds)
        return tf.ensure_shape(image, info.input_shape)

    def batches_of(epoch):
        # This sets the seed of this function's graph only. Without it, the order of the images
        # would also depend on the global seed of the process.
        tf.random.set_seed(1)
        skipped = tf.where(epoch == first_epoch, first_batch, 0)
        return (
            images.shuffle(
                shuffle_buffer(source, info, random_crops),
                seed=tf.cast(KeyedSeeds(seed, epoch).key, "int64"),
                reshuffle_each_iteration=False,
            )
            .enumerate()
            .skip(tf.cast(skipped * batches.size, "int64"))
            .map(lambda i, example: (i, crop(epoch, i, example[0]), example[1]), THREADS)
            .batch(batches.size, drop_remainder=batches.drop_remainder)
            .map(lambda indices, *batch: (epoch, indices[0], *batch))
        )

    def augment_batch(epoch, index, images, labels):
        return augment(images, labels, KeyedSeeds(seed, epoch, index))

    def stream_from(epoch):
        epochs = tf.data.Dataset.range(epoch, 2**62).flat_map(batches_of)
        threads = min(THREADS, PREFETCHED_BATCHES)
        return epochs.map(augment_batch, threads).prefetch(PREFETCHED_BATCHES)

    return EpochStream(stream_from, batches.count, start).dataset()


class EpochStream:
    """Divide one endless stream of batches into epochs.

    Creating the stream takes up to a second, and training would wait for it. So this class creates
    it once, and the stream prefetches the next epoch while Keras validates the model. This class
    creates it again only after an interrupted epoch, to restart that epoch.

    Keras also creates iterators that it drops at once. With several devices, such an iterator reads
    ahead in threads. Therefore a lock guards the state, and a number identifies each iterator.
    """

    def __init__(self, stream_from, num_batches, start):
        import tensorflow as tf

        self.first_epoch, self.first_batch = start
        self.epoch = self.first_epoch  # the epoch that is being read, or is next
        self.num_batches = num_batches
        # The graph reads this variable when the stream begins. So one graph is enough for streams
        # from any epoch.
        with tf.device("CPU:0"):
            self.stream_epoch = tf.Variable(self.epoch, dtype="int64", trainable=False)
        self.stream = without_autotune(
            tf.data.Dataset.from_tensors(0).flat_map(
                lambda _: stream_from(self.stream_epoch.value())
            )
        )
        self.iterator = None
        self.iteration = self.batches_left = 0
        self.lock = threading.Lock()

    def dataset(self):
        """The epochs as a dataset: each iterator is the next epoch."""
        import tensorflow as tf

        spec = self.stream.element_spec

        def one_batch(iteration):
            batch = tf.py_function(self.next_batch, [iteration], [part.dtype for part in spec])
            return tuple(map(tf.ensure_shape, batch, (part.shape for part in spec)))

        def one_epoch(_):
            iteration, count = tf.py_function(self.begin_epoch, [], ["int64", "int64"])
            return tf.data.Dataset.range(count).map(lambda _: one_batch(iteration))

        epochs = tf.data.Dataset.from_tensors(0).flat_map(one_epoch)
        if self.first_batch:
            # Because the first epoch is shorter, report the length of the other epochs to Keras.
            epochs = with_cardinality(epochs, self.num_batches)
        else:
            epochs = epochs.apply(tf.data.experimental.assert_cardinality(self.num_batches))
        return with_position(without_autotune(epochs), self.position)

    def position(self):
        """(epoch, batch) where the next iteration begins."""
        return self.epoch, self.first_batch if self.epoch == self.first_epoch else 0

    def begin_epoch(self):
        """Begin the next epoch, or restart an interrupted one: (iteration, number of batches)."""
        with self.lock:
            if self.batches_left or self.iterator is None:
                self.stream_epoch.assign(self.epoch)
                self.iterator = iter(self.stream)
            self.iteration += 1
            self.batches_left = self.num_batches - self.position()[1]
            return self.iteration, self.batches_left

    def next_batch(self, iteration):
        """The next batch of the stream; only the iterator that began last may read it."""
        with self.lock:
            if iteration != self.iteration:
                raise RuntimeError(
                    "This iterator over the training dataset has ended, because a newer one began."
                    " To iterate twice at the same time, call `km.data.load` twice"
                )
            batch = next(self.iterator)
            self.batches_left -= 1
            self.epoch += self.batches_left == 0
            return batch


def with_cardinality(dataset, count):
    """The dataset, which reports `count` elements although an iterator may yield fewer.

    `tf.data.experimental.assert_cardinality` does not allow that: it raises if an iterator yields
    fewer elements than it states, and also if it states `tf.data.UNKNOWN_CARDINALITY`.
    """
    import tensorflow as tf

    # TensorFlow reports a choice between a dataset and an endless one as endless, and the first
    # `count` elements of an endless dataset as `count`. The choice here is always `dataset`.
    always_first = tf.data.Dataset.from_tensors(tf.constant(0, "int64")).repeat()
    endless = tf.data.Dataset.choose_from_datasets(
        [dataset, dataset.repeat()], always_first, stop_on_empty_dataset=True
    )
    return endless.take(count)


def shuffle_buffer(source, info, random_crops):
    """The number of images in the shuffle buffer, which is limited because images may be large."""
    shape = source.image_shape if random_crops else info.input_shape
    bytes_per_image = math.prod(side or ASSUMED_SIDE for side in shape)
    return max(1, min(source.num_train, SHUFFLE_BUFFER, CACHED_BYTES // bytes_per_image))


def validation_batches(source, info, batch_size):
    """All validation images in a fixed order, preprocessed."""
    images = resize(to_rgb(source.validation, info), info)
    batches = cache_if_small(images, source.num_validation, info.input_shape).batch(batch_size)
    normalized = batches.map(lambda x, labels: (info.preprocessing.normalize(x), labels), THREADS)
    return without_autotune(normalized.prefetch(PREFETCHED_BATCHES))


def to_rgb(images, info):
    """Images with the channels of `info.input_shape`: the channel of grey images is repeated."""
    import tensorflow as tf

    if images.element_spec[0].shape[-1] in (None, info.input_shape[-1]):
        return images
    return images.map(lambda image, label: (tf.repeat(image, info.input_shape[-1], -1), label))


def resize(images, info):
    """Images in the size of `info.input_shape`, as bytes."""
    import tensorflow as tf

    def resize_image(image, label):
        return tf.ensure_shape(info.preprocessing.resize(image), info.input_shape), label

    return images.map(resize_image, THREADS)


def cache_if_small(images, count, shape):
    """Keep the images in memory if they fit into `CACHED_BYTES`.

    They are bytes, which take a quarter of the memory of float32.
    """
    if None in shape or count * math.prod(shape) > CACHED_BYTES:
        return images
    return images.cache()


def without_autotune(dataset):
    """The dataset with tf.data's autotuning switched off."""
    import tensorflow as tf

    options = tf.data.Options()
    options.autotune.enabled = False
    return dataset.with_options(options)

"""Passes over a dataset: each a function of the seed and its number, made ahead of the training."""

import dataclasses
import math
import os
import threading

from keras_mixers.data.augmentation import Augmenter, random_crop
from keras_mixers.data.rng import KeyedSeeds

BATCHES_AHEAD = 4
SHUFFLE_BUFFER = 10_000  # images
CACHED_BYTES = 2**30
UNKNOWN_SIDE = 512  # pixels, as a guess


@dataclasses.dataclass(frozen=True)
class Batches:
    """How many images a batch has, and how many batches a pass."""

    size: int
    drop_remainder: bool
    num_images: int

    @property
    def count(self):
        batches = self.num_images / self.size
        return math.floor(batches) if self.drop_remainder else math.ceil(batches)


def train_batches(source, info, batches, augmentation, seed, start):
    """A dataset whose iterators are one pass after the other, from `start`: (pass, batch)."""
    import tensorflow as tf

    crops = augmentation.crop_scale is not None
    images = coloured(source.train, info)
    if crops:  # a part of the image as it came: nothing else can be done once and for all
        images = cached(images, source.num_train, source.image_shape)
    else:
        images = cached(resized(images, info), source.num_train, info.input_shape)
    augment = Augmenter(augmentation, info.preprocessing, info.input_shape, info.num_classes)
    first_pass, first_batch = start

    def pixels(number, index, image):
        if not crops:
            return image
        # One part more than the key of a batch has: the two never meet.
        draws = KeyedSeeds(seed, number, index, 0)
        image = random_crop(image, info.preprocessing, augmentation.crop_scale, draws)
        return tf.ensure_shape(image, info.input_shape)

    def in_order(number):
        # Of this graph alone: else the shuffling would depend on the process's seed too.
        tf.random.set_seed(1)
        skipped = tf.where(number == first_pass, first_batch, 0)
        return (
            images.shuffle(
                shuffle_buffer(source, info, crops),
                seed=tf.cast(KeyedSeeds(seed, number).key, "int64"),
                reshuffle_each_iteration=False,
            )
            .enumerate()
            .skip(tf.cast(skipped * batches.size, "int64"))
            .map(lambda i, example: (i, pixels(number, i, example[0]), example[1]), THREADS)
            .batch(batches.size, drop_remainder=batches.drop_remainder)
            .map(lambda indices, *batch: (number, indices[0], *batch))
        )

    def augmented(number, index, images, labels):
        return augment(images, labels, KeyedSeeds(seed, number, index))

    def stream_from(number):
        passes = tf.data.Dataset.range(number, 2**62).flat_map(in_order)
        return passes.map(augmented, min(THREADS, BATCHES_AHEAD)).prefetch(BATCHES_AHEAD)

    return Passes(stream_from, batches.count, start).dataset()


class Passes:
    """Hands out one endless stream of batches pass by pass.

    The stream goes on while the model is judged: to set it up anew for each pass would take up to a
    second, for which training would stand still. That is done only where a pass is broken off, to
    begin it again. Keras makes iterators that it drops at once, and where there are several devices
    those read ahead, from threads of their own: hence the lock, and a number for each iterator.
    """

    def __init__(self, stream_from, num_batches, start):
        import tensorflow as tf

        self.number, self.first_batch = start  # of the pass that is next, or being handed out
        self.first_pass = self.number
        self.num_batches = num_batches
        # Read as an iterator begins, so that one graph does for streams from any pass.
        with tf.device("CPU:0"):
            self.begins_at = tf.Variable(self.number, dtype="int64", trainable=False)
        self.stream = untuned(
            tf.data.Dataset.from_tensors(0).flat_map(lambda _: stream_from(self.begins_at.value()))
        )
        self.iterator = None
        self.iteration = self.left = 0
        self.lock = threading.Lock()

    def dataset(self):
        """The passes as a dataset: each iterator is the next."""
        import tensorflow as tf

        spec = self.stream.element_spec

        def one_batch(iteration):
            batch = tf.py_function(self.next_batch, [iteration], [part.dtype for part in spec])
            return tuple(map(tf.ensure_shape, batch, (part.shape for part in spec)))

        def fused_elementwise(_):
            iteration, count = tf.py_function(self.begin, [], ["int64", "int64"])
            return tf.data.Dataset.range(count).map(lambda _: one_batch(iteration))

        passes = tf.data.Dataset.from_tensors(0).flat_map(fused_elementwise)
        if not self.first_batch:
            return untuned(passes.apply(tf.data.experimental.assert_cardinality(self.num_batches)))
        # The first pass is shorter. Keras must not take its length for that of all: a choice
        # between this dataset and an endless one, always of this one, counts as endless.
        always = tf.data.Dataset.from_tensors(tf.constant(0, "int64")).repeat()
        both = [passes, passes.repeat()]
        passes = tf.data.Dataset.choose_from_datasets(both, always, stop_on_empty_dataset=True)
        return untuned(passes.take(self.num_batches))

    def begin(self):
        """Begin the next pass, or again the one that was broken off: (iteration, batches)."""
        with self.lock:
            if self.left or self.iterator is None:
                self.begins_at.assign(self.number)
                self.iterator = iter(self.stream)
            self.iteration += 1
            skipped = self.first_batch if self.number == self.first_pass else 0
            self.left = self.num_batches - skipped
            return self.iteration, self.left

    def next_batch(self, iteration):
        """The next batch of the stream, for the iterator that began last."""
        with self.lock:
            if iteration != self.iteration:
                raise RuntimeError(
                    "another iteration over this dataset has begun; for two at a time load it twice"
                )
            batch = next(self.iterator)
            self.left -= 1
            self.number += self.left == 0
            return batch


def shuffle_buffer(source, info, crops):
    """How many images are shuffled at a time: whole ones are large, and may be of any size."""
    shape = source.image_shape if crops else info.input_shape
    bytes_of_one = math.prod(side or UNKNOWN_SIDE for side in shape)
    return max(1, min(source.num_train, SHUFFLE_BUFFER, CACHED_BYTES // bytes_of_one))


def validation_batches(source, info, batch_size):
    """All images to judge by, in order."""
    images = resized(coloured(source.validation, info), info)
    batches = cached(images, source.num_validation, info.input_shape).batch(batch_size)
    normalised = batches.map(lambda x, labels: (info.preprocessing.normalize(x), labels), THREADS)
    return untuned(normalised.prefetch(BATCHES_AHEAD))


def coloured(images, info):
    """Images with as many channels as the model gets: grey ones may become coloured."""
    import tensorflow as tf

    if images.element_spec[0].shape[-1] in (None, info.input_shape[-1]):
        return images
    return images.map(lambda image, label: (tf.repeat(image, info.input_shape[-1], -1), label))


def resized(images, info):
    """Images of the model's size, in bytes."""
    import tensorflow as tf

    def resize(image, label):
        return tf.ensure_shape(info.preprocessing.resize(image), info.input_shape), label

    return images.map(resize, THREADS)


def cached(images, count, shape):
    """The same, kept in memory where they are few; bytes, so a quarter of what floats take."""
    if None in shape or count * math.prod(shape) > CACHED_BYTES:
        return images
    return images.cache()


# tf.data's autotuning is off, and parallelism stated: an iterator under it can take seconds to
# close at the end of an epoch, while training stands still.
THREADS = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


def untuned(dataset):
    """The same, with nothing left to tf.data's autotuning."""
    import tensorflow as tf

    options = tf.data.Options()
    options.autotune.enabled = False
    return dataset.with_options(options)

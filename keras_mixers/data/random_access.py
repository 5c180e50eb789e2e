"""Labelled images with random access: each is read by its index, inside a TensorFlow graph."""

import dataclasses
import math
import os
from collections.abc import Callable
from typing import Any

import numpy as np

from keras_mixers.data.labelled import Labelled
from keras_mixers.preprocessing.decode import NOT_READABLE

KEPT_BYTES = 2**30
CHUNK = 256  # images that are prepared at once
DAMAGED = "it is damaged or incomplete, or it cannot be opened"
ADVICE = ". `km.data.check` finds all such files of a folder"
# tf.data's autotuning is off, and the number of threads is fixed. With autotuning, an iterator can
# take seconds to close at the end of an epoch, and training waits.
THREADS = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


@dataclasses.dataclass(frozen=True)
class Images(Labelled):
    """Labelled images that a TensorFlow graph reads by their index.

    Args:
        count: the number of images.
        shape: (height, width, channels), with None where the images differ.
        read: index -> (bytes `(H, W, C)`, label, problem): int64, uint8, the label, and a text that
            is "" for a readable image. The label is an int64 class index, or multi-hot, float32
            `(num_classes,)`.
        name_of: index -> what to call the image in an error, as text.
        labels: () -> an array of all labels.
        read_batch: indices -> (images, labels), if all images are in memory; else None.
        num_classes: the number of classes of multi-hot labels; None for class indices.
        weights: the weight of each image in the loss, a float32 tensor `(count,)`, or None.
    """

    count: int
    shape: tuple
    read: Callable
    name_of: Callable
    labels: Callable
    read_batch: Callable | None = None
    num_classes: int | None = None
    weights: Any = None

    def part(self, begin, end):
        """The images from index `begin` up to but without `end`."""
        return self.at(np.arange(begin, end))

    def at(self, chosen):
        """The images at some indices, an int64 array, in their order."""
        import tensorflow as tf

        def of_chosen(function):
            return function and (lambda index: function(tf.gather(chosen, index)))

        return dataclasses.replace(
            self,
            count=len(chosen),
            read=of_chosen(self.read),
            name_of=of_chosen(self.name_of),
            labels=lambda: self.labels()[chosen],
            read_batch=of_chosen(self.read_batch),
            weights=None if self.weights is None else tf.gather(self.weights, chosen),
        )

    def weights_at(self, indices):
        """A tuple of the weights of some images, which is empty if the images have no weights."""
        import tensorflow as tf

        return () if self.weights is None else (tf.gather(self.weights, indices),)

    @property
    def fit_into_memory(self):
        """Whether the pixels of all images take at most `KEPT_BYTES`."""
        return None not in self.shape and self.count * math.prod(self.shape) <= KEPT_BYTES

    def changed(self, change, shape):
        """The images, changed by a function of one image or of a batch of images."""
        import tensorflow as tf

        def read(index):
            image, label, problem = self.read(index)
            image = tf.cond(
                tf.equal(problem, ""),
                lambda: change(image),
                lambda: tf.zeros([side or 0 for side in shape], tf.uint8),
            )
            return tf.ensure_shape(image, shape), label, problem

        def read_batch(indices):
            images, labels = self.read_batch(indices)
            return change(images), labels

        changed_batch = read_batch if self.read_batch else None
        return dataclasses.replace(self, shape=shape, read=read, read_batch=changed_batch)

    def kept(self):
        """The images, kept in memory if they fit: at once, or each when it is first read."""
        import tensorflow as tf

        if not self.fit_into_memory:
            return self
        if self.read_batch:
            starts = range(0, self.count, CHUNK)
            ranges = [tf.range(i, min(i + CHUNK, self.count), dtype="int64") for i in starts]
            with tf.device("CPU:0"):  # because a GPU is for the model
                images, labels = zip(*map(self.read_batch, ranges), strict=True)
                return from_arrays(tf.concat(images, 0), tf.concat(labels, 0), self.weights)

        with tf.device("CPU:0"):
            pixels = tf.Variable(tf.zeros((self.count, *self.shape), tf.uint8), trainable=False)
            shape, dtype = self.label_spec
            unread = tf.fill([self.count, *shape], tf.constant(-1, dtype))
            labels = tf.Variable(unread, trainable=False)

        def read_and_keep(index):
            image, label, problem = self.read(index)

            def keep():
                # The label comes last, because it shows that the image is complete.
                stored = pixels.scatter_nd_update([[index]], [image])
                with tf.control_dependencies([stored]):
                    complete = labels.scatter_nd_update([[index]], [label])
                with tf.control_dependencies([complete]):
                    return tf.identity(label)  # not `labels`, which would be copied

            stored = tf.cond(tf.equal(problem, ""), keep, lambda: label)
            with tf.control_dependencies([stored]):
                return tf.identity(image), label, problem

        def read(index):
            label = tf.gather(labels, index)
            return tf.cond(
                tf.reduce_any(label < 0),
                lambda: read_and_keep(index),
                lambda: (tf.gather(pixels, index), label, ""),
            )

        return dataclasses.replace(self, read=read)

    def select(self, count, index_at):
        """A dataset of (number, image, label) for the numbers 0 to `count` - 1.

        It raises an error that names an unreadable image. TensorFlow's errors do not name the file,
        and a Python function that names it can keep a process from ending. So a number that is
        missing shows which image could not be read.

        Args:
            count: an int64 scalar.
            index_at: number -> index of the image.
        """
        import tensorflow as tf

        def read(number):
            return number, *self.read(index_at(number))

        def check(expected, element):
            number, image, label, problem = element
            problem = tf.where(tf.equal(number, expected), problem, DAMAGED)
            is_readable = tf.equal(problem, "")
            name = tf.cond(is_readable, lambda: "", lambda: self.name_of(index_at(expected)))
            message = tf.strings.join([name, NOT_READABLE, problem, ADVICE])
            with tf.control_dependencies([tf.debugging.Assert(is_readable, [message])]):
                image = tf.ensure_shape(tf.identity(image), self.shape)
            return expected + 1, (number, image, label)

        end = tf.zeros([side or 0 for side in self.shape], tf.uint8)
        end = tf.data.Dataset.from_tensors((count, end, tf.zeros(*self.label_spec), ""))
        attempted = tf.data.Dataset.range(count).map(plain(read), THREADS).ignore_errors()
        attempted = attempted.concatenate(end)
        return attempted.scan(tf.constant(0, tf.int64), plain(check)).take(count)

    def singles(self, order, epoch, first_batch, change):
        """A dataset of the images from a batch to the end of an epoch, each changed.

        Args:
            order: an `Order`.
            epoch: an int64 scalar.
            first_batch: an int64 scalar.
            change: (position in the epoch, image, label, and the weight if there are weights) -> an
                element of the dataset.
        """
        import tensorflow as tf

        indices, count = order.indices(epoch), order.count_from(first_batch)

        def index_at(number):
            return tf.gather(indices, order.position(number, first_batch))

        def changed(number, image, label):
            weights = self.weights_at(index_at(number))
            return change(order.position(number, first_batch), image, label, *weights)

        def read_and_change(number):
            image, label, _ = self.read(index_at(number))
            return changed(number, image, label)

        if self.read_batch:  # they are in memory, so none of them is unreadable
            return tf.data.Dataset.range(count).map(plain(read_and_change), THREADS)
        return self.select(count, index_at).map(plain(changed), THREADS)

    def dataset(self):
        """A dataset of (image, label) in the order of the indices."""
        import tensorflow as tf

        images = self.select(tf.constant(self.count, tf.int64), lambda number: number)
        images = images.map(plain(lambda number, image, label: (image, label)))
        images = images.apply(tf.data.experimental.assert_cardinality(self.count))
        return without_autotune(images.prefetch(THREADS))


def from_arrays(images, labels, weights=None):
    """`Images` of tensors or arrays: bytes `(N, H, W, C)`, labels and weights `(N,)`.

    Labels are class indices `(N,)`, or multi-hot `(N, num_classes)`.
    """
    import tensorflow as tf

    with tf.device("CPU:0"):
        images, labels = tf.convert_to_tensor(images), tf.convert_to_tensor(labels)
        labels = tf.cast(labels, tf.float32 if labels.shape.rank == 2 else tf.int64)
        weights = None if weights is None else tf.cast(weights, tf.float32)
    return Images(
        count=len(labels),
        shape=tuple(images.shape[1:]),
        read=lambda index: (tf.gather(images, index), tf.gather(labels, index), ""),
        name_of=lambda index: tf.strings.format("image {}", index),
        labels=labels.numpy,
        read_batch=lambda indices: (tf.gather(images, indices), tf.gather(labels, indices)),
        num_classes=labels.shape[1] if labels.shape.rank == 2 else None,
        weights=weights,
    )


def plain(function):
    """The function without AutoGraph, which writes files that a killed process leaves."""
    import tensorflow as tf

    return tf.autograph.experimental.do_not_convert(function)


def without_autotune(dataset):
    """The dataset with tf.data's autotuning switched off."""
    import tensorflow as tf

    options = tf.data.Options()
    options.autotune.enabled = False
    options.experimental_warm_start = False  # otherwise an iterator reads when it is created
    return dataset.with_options(options)

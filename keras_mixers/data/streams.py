"""Iterators of epochs that share the setup of their graph.

tf.data sets up its graph for each iterator, which takes 0.1 s for a simple augmentation and 0.4 s
for image files of any format. Keras creates two iterators for each epoch, and training would wait
for them. Here the iterator of an epoch has a small graph that takes its batches from another
iterator, the stream. A stream is set up once, and reads one epoch after the other.
"""

import concurrent.futures
import dataclasses
import functools
import threading
import weakref
from typing import Any

from keras_mixers.data.random_access import plain, without_autotune

NOT_STARTED, STARTED, FINISHED = range(3)  # what a stream has done with an epoch
ENDLESS = 2**62  # epochs
SETUP = -1  # the first epoch of each stream, which has one empty batch
# One thread for all datasets, so that a process has only one such thread.
BACKGROUND = concurrent.futures.ThreadPoolExecutor(1, "keras_mixers-data")


@dataclasses.dataclass
class Stream:
    """An iterator over the batches of any number of epochs.

    It reads nothing ahead between two epochs. So it can continue with any epoch.

    Args:
        iterator: yields (epoch, batch, images, labels), or also weights at the end.
        epoch: a variable with the epoch that it reads next.
        state: a variable, `NOT_STARTED`, `STARTED` or `FINISHED`.
        user: a weak reference to the iterator that takes the batches of this epoch.
    """

    iterator: Any
    epoch: Any
    state: Any
    user: Any = None

    def is_used(self):
        """Whether an iterator may take more batches of this epoch."""
        return self.user() is not None and self.state.numpy() != FINISHED

    def is_within_epoch(self):
        """Whether it has started an epoch and has not finished it."""
        return self.state.numpy() == STARTED


@functools.cache
def with_own_iterators(kind):
    """A class of datasets like `kind`, whose attribute `own_iterator` makes its iterators.

    Python looks up `__iter__` in the class. Transformations of the dataset do not use it.
    """

    def iterate(self):
        import tensorflow as tf

        if not tf.executing_eagerly():
            return kind.__iter__(self)
        return self.own_iterator()

    return type(kind.__name__, (kind,), {"__iter__": iterate})


class Streams:
    """Hands out one iterator per epoch, each on a stream that no other iterator is using.

    Keras creates an iterator that it does not use before the one that it uses. So a second stream
    is set up in the background. This begins with the second iteration, because a dataset is often
    iterated only once.

    Args:
        batches_of_epoch: epoch -> a dataset of what `Stream.iterator` yields.
        hand_out: (epoch, batch, ...) -> what follows the batch, when a batch is used.
        num_batches: the number of batches in an epoch.
    """

    def __init__(self, batches_of_epoch, hand_out, num_batches):
        import tensorflow as tf

        self.hand_out, self.num_batches = hand_out, num_batches
        self.lock, self.streams, self.spec = threading.Lock(), [], None
        self.iterations, self.spare = 0, None

        def batches_or_setup(epoch):
            batches = batches_of_epoch(epoch)
            empty = [tf.zeros([n or 0 for n in x.shape], x.dtype) for x in batches.element_spec]
            empty = tf.data.Dataset.from_tensors(tuple(empty))
            return batches.concatenate(empty.take(tf.cast(epoch == SETUP, tf.int64)))

        def stream_of(epoch):
            setup = tf.data.Dataset.from_tensors(tf.constant(SETUP, tf.int64))
            numbers = tf.data.Dataset.range(ENDLESS).map(plain(lambda _: epoch.read_value()))
            return without_autotune(setup.concatenate(numbers).flat_map(plain(batches_or_setup)))

        def epoch_of(stream, state, count):
            take = plain(lambda _: self.take(stream, state))
            batches = without_autotune(tf.data.Dataset.range(count).map(take))
            return tf.data.experimental.to_variant(batches)

        @functools.cache
        def traced_epoch_of():
            specs = [tf.TensorSpec([], dtype) for dtype in (tf.resource, tf.resource, tf.int64)]
            return tf.function(epoch_of, autograph=False).get_concrete_function(*specs)

        self.stream_of = stream_of
        # It is traced once, for the first epoch. Then it makes datasets from tensors in no time. It
        # is a concrete function, because TensorFlow warns if a process traces several others.
        self.epoch_of = traced_epoch_of

    def take(self, stream, state):
        """The next batch of a stream, in the graph of the iterator of an epoch."""
        import tensorflow as tf

        specs = tf.nest.flatten(self.spec)
        # Before the batch is read, because an unreadable image ends the iteration here.
        started = tf.raw_ops.AssignVariableOp(resource=state, value=STARTED)
        with tf.control_dependencies([started]):
            epoch, batch, *parts = tf.raw_ops.IteratorGetNext(
                iterator=stream,
                output_types=[spec.dtype for spec in specs],
                output_shapes=[spec.shape for spec in specs],
            )
        new_state = tf.where(batch == self.num_batches - 1, FINISHED, STARTED)
        tf.raw_ops.AssignVariableOp(resource=state, value=new_state)
        return self.hand_out(epoch, batch, *parts)

    def iterator(self, epoch, count, spec):
        """An iterator over the `count` batches of one epoch."""
        import tensorflow as tf

        with self.lock:
            stream = self.free_stream()
            stream.epoch.assign(epoch)
            stream.state.assign(NOT_STARTED)
            variant = self.epoch_of()(
                stream.iterator._iterator_resource,
                stream.state.handle,
                tf.constant(count, tf.int64),
            )
            iterator = iter(tf.data.experimental.from_variant(variant, spec))
            iterator.keras_mixers_stream = stream  # so that the stream lives as long
            stream.user = weakref.ref(iterator)
            self.iterations += 1
            if self.iterations > 1 and len(self.streams) == 1 and self.spare is None:
                self.spare = BACKGROUND.submit(self.new_stream)
            return iterator

    def free_stream(self):
        """A stream that no iterator uses; forget those of interrupted epochs."""
        self.streams = [s for s in self.streams if s.is_used() or not s.is_within_epoch()]
        for stream in self.streams:
            if not stream.is_used():
                return stream
        spare, self.spare = self.spare, None
        self.streams.append(spare.result() if spare else self.new_stream())
        return self.streams[-1]

    def new_stream(self):
        """A stream that is set up and has read no epoch."""
        import tensorflow as tf

        with tf.device("CPU:0"):
            epoch = tf.Variable(0, dtype=tf.int64, trainable=False)
            state = tf.Variable(NOT_STARTED, dtype=tf.int32, trainable=False)
        stream = self.stream_of(epoch)
        self.spec = stream.element_spec
        iterator = iter(stream)
        next(iterator)
        return Stream(iterator, epoch, state)

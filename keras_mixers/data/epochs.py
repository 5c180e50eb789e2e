"""A dataset whose iterations are one epoch after the other."""

from keras_mixers.data.position import with_position
from keras_mixers.data.random_access import plain, without_autotune
from keras_mixers.data.streams import SETUP, Streams, with_own_iterators


def epochs(read_epoch, num_batches, start=(0, 0)):
    """A dataset each iteration of which is the next epoch.

    A variable of the graph holds the number of the next epoch. An iteration advances it with its
    last batch. So an interrupted epoch is repeated, and any number of iterations can run at the
    same time.

    Args:
        read_epoch: (epoch, first batch) -> a dataset of (epoch, batch, images, labels), or of
            (epoch, batch, images, labels, weights).
        num_batches: the number of batches in an epoch.
        start: (epoch, batch), where the first iteration begins.
    """
    import tensorflow as tf

    start_epoch, start_batch = start
    with tf.device("CPU:0"):
        next_epoch = tf.Variable(start_epoch, dtype=tf.int64, trainable=False)

    def first_batch(epoch):
        return start_batch if epoch == start_epoch else 0

    def read_from_start(epoch):
        skipped, none = (tf.constant(n, tf.int64) for n in (start_batch, num_batches))
        first = tf.where(epoch == start_epoch, skipped, 0)
        return read_epoch(epoch, tf.where(epoch == SETUP, none, first))

    def hand_out(epoch, batch, *parts):
        advanced = tf.cond(
            batch == num_batches - 1,
            lambda: next_epoch.assign(tf.maximum(next_epoch, epoch + 1)),
            next_epoch.read_value,
        )
        with tf.control_dependencies([advanced]):
            return tuple(map(tf.identity, parts))

    batches_of_epoch = traced_once(read_from_start)
    number = tf.data.Dataset.from_tensors(0).map(plain(lambda _: next_epoch.read_value()))
    batches = number.flat_map(plain(batches_of_epoch)).map(plain(hand_out))
    if start_batch:
        # Because the first epoch is shorter, report the length of the other epochs to Keras.
        batches = with_cardinality(batches, num_batches)
    else:
        batches = batches.apply(tf.data.experimental.assert_cardinality(num_batches))
    batches = without_autotune(batches)

    streams, spec = Streams(batches_of_epoch, hand_out, num_batches), batches.element_spec

    def own_iterator():
        epoch = int(next_epoch.numpy())
        return streams.iterator(epoch, num_batches - first_batch(epoch), spec)

    batches.__class__ = with_own_iterators(type(batches))
    batches.own_iterator = own_iterator

    def position():
        epoch = int(next_epoch.numpy())
        return epoch, first_batch(epoch)

    return with_position(batches, position, next_epoch.assign)


def traced_once(dataset_of):
    """The function `epoch -> dataset`, which each of several graphs calls and none traces again."""
    import tensorflow as tf

    specs = []

    def variant_of(epoch):
        dataset = dataset_of(epoch)
        specs.append(dataset.element_spec)
        return tf.data.experimental.to_variant(dataset)

    traced = tf.function(variant_of, [tf.TensorSpec([], tf.int64)], autograph=False)

    def traced_dataset_of(epoch):
        variant = traced.get_concrete_function()(epoch)
        return tf.data.experimental.from_variant(variant, specs[0])

    return traced_dataset_of


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

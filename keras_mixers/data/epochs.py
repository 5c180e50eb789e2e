"""A dataset whose iterations are one epoch after the other."""

from keras_mixers.data.ahead import prepared_ahead
from keras_mixers.data.position import with_position
from keras_mixers.data.random_access import plain


def epochs(elements_of, batches_of, num_batches, start):
    """A dataset each iteration of which is the next epoch.

    A variable of the graph holds the number of the next epoch. An iteration reads it when it
    begins, and advances it with its last batch. So an interrupted epoch is repeated, and any number
    of iterations can run at the same time.

    Args:
        elements_of: (epoch, first batch) -> a dataset of elements. Its graph is small, because
            functions inside of `flat_map` take much longer to set up.
        batches_of: a dataset of elements -> a dataset of (epoch, batch, images, labels).
        num_batches: the number of batches in an epoch.
        start: (epoch, batch), where the first iteration begins.
    """
    import tensorflow as tf

    first_epoch, first_batch = start
    with tf.device("CPU:0"):
        next_epoch = tf.Variable(first_epoch, dtype=tf.int64, trainable=False)

    def one_epoch(epoch):
        skipped = tf.constant(first_batch, tf.int64)
        return elements_of(epoch, tf.where(epoch == first_epoch, skipped, 0))

    def hand_out(epoch, batch, images, labels):
        advanced = tf.cond(
            batch == num_batches - 1,
            lambda: next_epoch.assign(tf.maximum(next_epoch, epoch + 1)),
            next_epoch.read_value,
        )
        with tf.control_dependencies([advanced]):
            return tf.identity(images), tf.identity(labels)

    epoch = tf.data.Dataset.from_tensors(0).map(plain(lambda _: next_epoch.read_value()))
    batches = batches_of(epoch.flat_map(plain(one_epoch))).map(plain(hand_out))
    if first_batch:
        # Because the first epoch is shorter, report the length of the other epochs to Keras.
        batches = with_cardinality(batches, num_batches)
    else:
        batches = batches.apply(tf.data.experimental.assert_cardinality(num_batches))

    def position():
        epoch = int(next_epoch.numpy())
        return epoch, first_batch if epoch == first_epoch else 0

    return with_position(prepared_ahead(batches), position)


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

"""Random numbers that depend only on a key, as with JAX's `PRNGKey` and `fold_in`."""

MOST_DRAWS = 16  # of `uniform` and `integers`


class RowRandom:
    """Random numbers for some rows of a batch; those of a row do not depend on the other rows.

    A process that holds a share of a batch thus draws the numbers that one process would draw for
    these rows. One operator draws all uniform numbers at once, because each operator makes the
    setup of a graph longer.

    Shapes: results are `(rows,)`.

    Args:
        key: an int32 scalar, such as `fold_in` makes; the key of the batch.
        rows: the numbers of the rows in the whole batch, integers `(rows,)`.
        batch_size: the number of rows of the whole batch.
    """

    def __init__(self, key, rows, batch_size):
        import tensorflow as tf

        self.key, self.rows, self.batch_size = key, rows, batch_size
        self.seeds = iter(range(2**31))
        drawn = tf.random.stateless_uniform([batch_size, MOST_DRAWS], self.seed())
        self.drawn = iter(tf.unstack(tf.gather(drawn, rows), MOST_DRAWS, 1))

    def folded(self, number):
        """The random numbers of the key that depends on this key and on an integer."""
        return RowRandom(fold_in(self.key, number), self.rows, self.batch_size)

    def seed(self):
        """The next seed: two int32 numbers."""
        import tensorflow as tf

        return tf.stack([self.key, next(self.seeds)])

    def uniform(self, low=0.0, high=1.0):
        """Numbers from `low` up to but without `high`."""
        return low + next(self.drawn) * (high - low)

    def integers(self, end):
        """Integers from 0 up to but without `end`."""
        import tensorflow as tf

        return tf.cast(next(self.drawn) * end, "int32")

    def beta(self, alpha):
        """Numbers from the beta distribution with both parameters equal to `alpha`."""
        import tensorflow as tf

        shape = [2, self.batch_size]
        first, second = tf.unstack(tf.random.stateless_gamma(shape, self.seed(), alpha))
        # With a small `alpha`, both can be 0, because float32 has no smaller numbers.
        return tf.gather(tf.math.divide_no_nan(first, first + second), self.rows)


def fold_in(*data):
    """An int32 key that depends on each of the integers or int tensors, in order."""
    import tensorflow as tf

    key = tf.constant(0, "int32")
    for number in data:
        seed = tf.stack([key, tf.cast(number, "int32")])
        key = tf.random.stateless_uniform([], seed, None, None, dtype="int32")
    return key

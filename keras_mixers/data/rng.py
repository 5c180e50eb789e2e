"""Random seeds that depend only on a key, as with JAX's `PRNGKey` and `fold_in`."""

import keras


class KeyedSeeds(keras.random.SeedGenerator):
    """Seeds for Keras's random layers that depend only on a key: equal keys give equal seeds.

    Keras's `SeedGenerator` counts its seeds in a variable. A batch's seeds then depend on how many
    seeds were drawn before, and on which thread ran first. Here each batch has its own key,
    (seed, epoch, index). Resumed training thus draws the seeds that uninterrupted training draws.

    Args:
        *data: integers, or int tensors, that are folded into the key one after the other.
    """

    def __init__(self, *data):
        # This does not call super().__init__(), because that would create the variable.
        import tensorflow as tf

        self.key = tf.constant(0, "int32")
        for number in data:
            self.key = fold_in(self.key, number)
        self.count = 0

    def next(self, ordered=True):
        """The next seed: two int32 numbers."""
        import tensorflow as tf

        self.count += 1
        return tf.stack([self.key, self.count])


def fold_in(key, data):
    """A new int32 key that depends on `key` and on the integer `data`."""
    import tensorflow as tf

    seed = tf.stack([key, tf.cast(data, "int32")])
    return tf.random.stateless_uniform([], seed, None, None, dtype="int32")

"""Random numbers that are a function of where training stands, and of nothing before it."""

import keras


class KeyedSeeds(keras.random.SeedGenerator):
    """Seeds for Keras's random layers, made of a key alone: the same key, the same draws.

    Keras's own generator counts its draws in a variable, so that what a batch gets depends on how
    many were made before it, and on which thread was first. Here each batch has a key of its own:
    (seed, pass, position). Training that goes on after a break draws what it would have drawn.
    """

    def __init__(self, *key):
        # Not super().__init__(), which would make the variable.
        import tensorflow as tf

        self.key = tf.constant(0, "int32")
        for part in key:
            self.key = tf.random.stateless_uniform(
                [], tf.stack([self.key, tf.cast(part, "int32")]), None, None, dtype="int32"
            )
        self.count = 0

    def next(self, ordered=True):
        """The next seed: two int32 numbers."""
        import tensorflow as tf

        self.count += 1
        return tf.stack([self.key, self.count])

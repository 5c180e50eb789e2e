"""What all labelled images have in common, however a TensorFlow graph reads them."""

import functools


class Labelled:
    """Labelled images with a `shape`, `num_classes`, and a function `changed(change, shape)`."""

    @property
    def label_spec(self):
        """The shape and the dtype of a label."""
        return ((), "int64") if self.num_classes is None else ((self.num_classes,), "float32")

    def with_channels(self, channels):
        """The images, with the channel of grey images repeated."""
        import tensorflow as tf

        if self.shape[-1] == channels:
            return self
        return self.changed(lambda x: tf.repeat(x, channels, -1), (*self.shape[:-1], channels))

    def resized(self, preprocessing):
        """The images in the size of a `Preprocessing`."""
        resize = preprocessing.resize
        if None in self.shape:
            resize = traced_resize(preprocessing, self.shape)
        return self.changed(resize, (*preprocessing.size, self.shape[-1]))


@functools.cache
def traced_resize(preprocessing, shape):
    """`preprocessing.resize` of one image, traced once in a process: all datasets use its graph."""
    import tensorflow as tf

    signature = [tf.TensorSpec(shape, tf.uint8)]
    return tf.function(preprocessing.resize, input_signature=signature, autograph=False)

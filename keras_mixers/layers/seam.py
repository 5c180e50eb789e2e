"""The one place where a layer asks which backend and device it runs on."""

import keras


def xla_slows_depthwise():
    """Whether XLA would compile a depthwise convolution into its slow loop.

    TensorFlow's XLA for CPU does: a ConvMixer trains several times slower with it than without.
    """
    if keras.backend.backend() != "tensorflow":
        return False
    import tensorflow as tf

    return not tf.config.get_visible_devices("GPU")

"""Load datasets by name, or images from a folder, as batches for training.

`load` prepares images with tf.data while the model trains. The order of the images and their
augmentation are functions of the seed, the epoch and the position in the epoch, and all of it is
computed inside a TensorFlow graph. The script `examples/benchmark_data.py` measures its speed.

On TensorFlow, `fit` on plain arrays can pause between epochs (1.1 s in one measurement), because
tf.data tunes itself. The datasets of `load` have this autotuning switched off. These lines make
a dataset of arrays without it; pass the dataset to `fit` with `shuffle=False`:

    >>> import numpy as np
    >>> import tensorflow as tf
    >>> arrays = np.zeros((64, 16, 16, 1), "float32"), np.zeros(64, "int64")
    >>> options = tf.data.Options()
    >>> options.autotune.enabled = False
    >>> dataset = tf.data.Dataset.from_tensor_slices(arrays).shuffle(64).batch(32)
    >>> dataset = dataset.with_options(options)
"""

from keras_mixers.data.augmentation import Augmentation
from keras_mixers.data.check import FolderReport, check
from keras_mixers.data.info import Info
from keras_mixers.data.load import images, load
from keras_mixers.data.prepare import prepare

__all__ = ["Augmentation", "FolderReport", "Info", "check", "images", "load", "prepare"]

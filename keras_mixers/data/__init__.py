"""Load datasets by name, or images from a folder, as batches for training.

`load` prepares images with tf.data while the model trains. On 2 CPU cores, its pipeline yields
29,000 colour images of 32 x 32 pixels per second without augmentation. It yields 12,000 with the
augmentation of the recipe "small", and 4,500 with DeiT's. The training steps of a ViT wait for
images during less than 1 % of the time, and for at most 0.2 s between epochs. The script
`examples/benchmark_data.py` measures these values.

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

__all__ = ["Augmentation", "FolderReport", "Info", "check", "images", "load"]

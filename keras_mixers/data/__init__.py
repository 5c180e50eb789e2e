"""Load datasets by name, from a folder, or from arrays, as batches for training.

`load` reads a dataset by its name or a folder. `prepare` does the same with arrays, or with a
`tf.data.Dataset` of a user.

Both prepare images with tf.data while the model trains. The order of the images and their
augmentation are functions of the seed, the epoch and the position in the epoch, and all of it is
computed inside a TensorFlow graph. The script `examples/benchmark_data.py` measures its speed.

On TensorFlow, `fit` on plain arrays can pause between epochs (1.1 s in one measurement), because
tf.data tunes itself. The datasets of `load` and `prepare` have this autotuning switched off. Pass
them to `fit` with `shuffle=False`:

    >>> import numpy as np
    >>> arrays = np.zeros((64, 16, 16, 1), "uint8"), np.arange(64) % 2
    >>> train, validation, info = prepare(arrays, batch_size=32)
"""

from keras_mixers.data.augmentation import Augmentation
from keras_mixers.data.check import FolderReport, check
from keras_mixers.data.info import Info
from keras_mixers.data.load import images, load
from keras_mixers.data.prepare import prepare

__all__ = ["Augmentation", "FolderReport", "Info", "check", "images", "load", "prepare"]

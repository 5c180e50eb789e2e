"""Read image files inside a TensorFlow graph, and name a file that is not a readable image.

TensorFlow's errors do not name the file, and a Python function that names it can keep a process
from ending. So the dataset ignores these errors. A number that is missing then shows which file
could not be read.
"""

import os

import numpy as np

from keras_mixers.data.epochs import THREADS
from keras_mixers.preprocessing.decode import NOT_READABLE, pixels_or_problem

DAMAGED = "it is damaged or incomplete, or it cannot be opened"


def read_images(pairs):
    """A dataset of (image, label), bytes `(H, W, 3)` and int64, from (path, label) pairs.

    An iteration raises an error at the first file that is not a readable image.
    """
    import tensorflow as tf

    count = len(pairs)
    paths = tf.constant([os.fsencode(path) for path, _ in pairs])
    labels = np.array([label for _, label in pairs], "int64")
    end = tf.constant(count, tf.int64), tf.zeros([0, 0, 3], tf.uint8), ""

    def check(expected, decoded):
        index, image, problem = decoded
        path = tf.strings.unicode_transcode(paths[expected], "UTF-8", "UTF-8", errors="replace")
        problem = tf.where(tf.equal(index, expected), problem, DAMAGED)
        advice = ". `km.data.check` finds all such files of a folder"
        message = tf.strings.join([path, NOT_READABLE, problem, advice])
        with tf.control_dependencies([tf.debugging.Assert(tf.equal(problem, ""), [message])]):
            return expected + 1, (tf.identity(image), tf.gather(labels, expected))

    decoded = decode(paths).concatenate(tf.data.Dataset.from_tensors(end))
    images = decoded.scan(tf.constant(0, tf.int64), check).take(count)
    return images.apply(tf.data.experimental.assert_cardinality(count))


def decode(paths):
    """A dataset of (index, image, problem), without the files that TensorFlow cannot decode."""
    import tensorflow as tf

    def read(index, path):
        return index, *pixels_or_problem(tf.io.read_file(path), 3)

    numbered = tf.data.Dataset.from_tensor_slices(paths).enumerate()
    return numbered.map(read, THREADS).ignore_errors()  # a fixed number, as autotuning is off

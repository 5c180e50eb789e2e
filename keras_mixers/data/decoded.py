"""Decode image files once, to find those that are damaged, and pictures that are equal."""

import dataclasses

from keras_mixers.data.image_files import from_files
from keras_mixers.data.progress import Progress
from keras_mixers.data.random_access import THREADS, plain, without_autotune

INCOMPLETE = "it is damaged or incomplete"


@dataclasses.dataclass(frozen=True)
class Decoded:
    """A readable image.

    Args:
        size: (height, width) in pixels.
        fingerprint: bytes that are equal for images with equal pixels.
    """

    size: tuple
    fingerprint: bytes


def decoded(paths, converted):
    """`{path: Decoded}` of the readable images, and `{path: problem}` of the other files.

    Args:
        paths: the paths of image files.
        converted: `{path: the converted file that is read instead}`.
    """
    import tensorflow as tf

    if not paths:
        return {}, {}
    images = from_files([(path, 0) for path in paths], converted=converted)

    def facts(index):
        image, _, problem = images.read(index)
        height_and_width = tf.shape(image)[:2]
        sides = tf.io.decode_raw(tf.strings.format("{}", height_and_width), tf.uint8)
        pixels = tf.concat([sides, tf.reshape(image, [-1])], 0)
        return index, height_and_width, tf.fingerprint(pixels[None])[0], problem

    found = tf.data.Dataset.range(len(paths)).map(plain(facts), THREADS).ignore_errors()
    progress, readable, problems = Progress(len(paths), "Decoding all images once"), {}, {}
    for index, size, fingerprint, problem in without_autotune(found).as_numpy_iterator():
        if problem:
            problems[paths[index]] = problem.decode()
        else:
            readable[paths[index]] = Decoded(tuple(size.tolist()), fingerprint.tobytes())
        progress.update(index + 1)
    damaged = [path for path in paths if path not in readable and path not in problems]
    return readable, problems | dict.fromkeys(damaged, INCOMPLETE)

"""Decode image files inside a TensorFlow graph, with a limit on their size.

A small file can hold an image that fills the memory. The size is therefore read from the header,
before anything is decoded. TensorFlow is imported late, because other backends need none of this.
"""

import functools

from keras_mixers.preprocessing.header import jpeg_header, other_header
from keras_mixers.preprocessing.outlined import outlined
from keras_mixers.preprocessing.pixels import jpeg_pixels, other_pixels

MAX_PIXELS = 2**26  # 8192 x 8192: more than most cameras give, and below 2 GB while it is decoded
# With `crop_mode="squash"`, a resize needs about 2 kB of weights for each pixel of the longer side.
MAX_SIDE = 2**18
CHANNELS = (1, 3, 4)  # grey, RGB, and RGB with alpha
NOT_READABLE = " is not a readable image: "


def decode_image(content, channels, limit=MAX_PIXELS, name=None):
    """The pixels of an image file: a scalar string to uint8 `(H, W, channels)`.

    The file is JPEG, PNG, BMP, WebP without animation, or GIF, of which only the first frame is
    read. A JPEG, PNG or WebP image is turned upright by its EXIF orientation.

    Args:
        content: the bytes of the file, a scalar string tensor.
        channels: 1, 3 or 4. Grey images become RGB, and RGB images become grey. With 4, images
            without alpha are opaque. With 1 or 3, images with alpha are laid over white.
        limit: the largest number of pixels. Each side has at most `MAX_SIDE`.
        name: what to call the file in an error, a scalar string tensor.

    Raises:
        tf.errors.InvalidArgumentError: when the graph runs, if the file is not such an image, is
            damaged, or has too many pixels.
    """
    import tensorflow as tf

    pixels, problem = pixels_or_problem(content, channels, limit)
    message = tf.strings.join(["the file" if name is None else name, NOT_READABLE, problem])
    with tf.control_dependencies([tf.debugging.Assert(tf.equal(problem, ""), [message])]):
        return tf.identity(pixels)


@functools.cache
def traced_decoder(channels):
    """`pixels_or_problem` of a file's content, traced once in a process, which takes a second."""
    import tensorflow as tf

    return tf.function(
        lambda content: pixels_or_problem(content, channels),
        input_signature=[tf.TensorSpec([], tf.string)],
        autograph=False,
    )


def pixels_or_problem(content, channels, limit=MAX_PIXELS):
    """`(pixels, "")`, or `(no pixels, problem)` if the header shows a problem.

    Damage that the header does not show raises TensorFlow's error.
    """
    import tensorflow as tf

    def decoded(read_header, read_pixels, content):
        size, content, problem = read_header(content)
        problem = tf.where(tf.equal(problem, ""), problem_of_size(size, limit), problem)
        pixels = tf.cond(
            tf.equal(problem, ""),
            lambda: read_pixels(content, channels),
            lambda: tf.zeros([0, 0, channels], tf.uint8),
        )
        return tf.ensure_shape(pixels, (None, None, channels)), problem

    content = tf.convert_to_tensor(content)
    # JPEG has its own branch, because most files are JPEG, and each operator takes time.
    return tf.cond(
        tf.equal(tf.strings.substr(content, 0, 3), b"\xff\xd8\xff"),
        lambda: decoded(jpeg_header, jpeg_pixels, content),
        lambda: outlined(decoded, other_header, other_pixels)(content),
    )


def too_large(limit=MAX_PIXELS):
    """The end of the problem of an image of too many pixels."""
    return (
        f" pixels (height x width); at most {limit} are read, and at most {MAX_SIDE} on one side;"
        " make it smaller"
    )


def problem_of_size(size, limit):
    """Why an image of `(height, width)`, int64, is not decoded; "" if it is."""
    import tensorflow as tf

    height, width = size[0], size[1]
    sides = tf.strings.format("{} x {}", (height, width))
    fits = (height <= limit // tf.maximum(width, 1)) & (tf.reduce_max(size) <= MAX_SIDE)
    return tf.where(
        tf.reduce_min(size) > 0,
        tf.where(
            fits,
            "",
            tf.strings.join(["it has ", sides, too_large(limit)]),
        ),
        "its size is 0",
    )

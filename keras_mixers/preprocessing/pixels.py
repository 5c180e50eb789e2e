"""The pixels of an image file as Pillow shows them, inside a TensorFlow graph."""

import functools

from keras_mixers.preprocessing.orientation import upright


def stored_pixels(content):
    """`(H, W, C)` with the 1 to 4 channels of a file whose header has no problem."""
    import tensorflow as tf

    def starts(magic):
        return tf.equal(tf.strings.substr(content, 0, len(magic)), magic)

    cases = [
        (starts(b"\xff\xd8"), lambda: jpeg(content)),
        (starts(b"\x89PNG"), lambda: png(content)),
        (starts(b"BM"), lambda: bmp(content)),
    ]
    others = functools.partial(tf.io.decode_image, content, expand_animations=False)
    pixels = tf.case(cases, default=others, exclusive=False)
    return tf.ensure_shape(pixels, (None, None, None))


def jpeg(content):
    """The upright pixels of a JPEG file, decoded as Pillow does."""
    import tensorflow as tf

    return upright(tf.io.decode_jpeg(content, dct_method="INTEGER_ACCURATE"), content)


def png(content):
    """The pixels of a PNG file, with alpha if it may have a transparent colour."""
    import tensorflow as tf

    depth = tf.io.decode_raw(tf.strings.substr(content, 24, 1), tf.uint8)[0]
    # With 4 channels, TensorFlow does not ignore a transparent colour. Below 8 bits, it then returns
    # a wrong alpha for opaque images.
    return tf.cond(
        depth < 8,
        lambda: tf.ensure_shape(tf.io.decode_png(content), (None, None, None)),
        lambda: tf.ensure_shape(tf.io.decode_png(content, channels=4), (None, None, None)),
    )


def bmp(content):
    """The colours of a BMP file without its fourth byte, which few programs set.

    TensorFlow returns the indices of a file with a palette, and this function looks them up.
    """
    import tensorflow as tf

    pixels = tf.io.decode_bmp(content)

    def look_up():
        header = tf.cast(tf.io.decode_raw(tf.strings.substr(content, 0, 18), tf.uint8), tf.int32)
        start = 14 + sum(header[14 + i] * 256**i for i in range(4))
        end = sum(header[10 + i] * 256**i for i in range(4))
        palette = tf.io.decode_raw(tf.strings.substr(content, start, end - start), tf.uint8)
        palette = tf.reshape(palette, (-1, 4))[:, 2::-1]  # blue, green, red and an unused byte
        return tf.gather(palette, tf.cast(pixels[:, :, 0], tf.int32))

    return tf.cond(tf.equal(tf.shape(pixels)[2], 1), look_up, lambda: pixels[:, :, :3])


def to_channels(pixels, channels):
    """`(H, W, channels)`, 1, 3 or 4, from the 1 to 4 channels that an image file has."""
    import tensorflow as tf

    found = tf.shape(pixels)[2]
    has_alpha = tf.equal(found % 2, 0)
    alpha = pixels[:, :, -1:]
    colors = pixels[:, :, : found - tf.cast(has_alpha, tf.int32)]
    if channels == 4:
        opaque = tf.fill(tf.shape(alpha), tf.constant(255, tf.uint8))
        alpha = tf.cond(has_alpha, lambda: alpha, lambda: opaque)
    else:
        is_transparent = has_alpha & (tf.reduce_min(alpha) < 255)
        colors = tf.cond(is_transparent, lambda: over_white(colors, alpha), lambda: colors)
    if channels == 1:
        return tf.cond(found > 2, lambda: grey(colors), lambda: colors)
    colors = tf.cond(found > 2, lambda: colors, lambda: tf.repeat(colors, 3, -1))
    return tf.concat([colors, alpha], -1) if channels == 4 else colors


def over_white(colors, alpha):
    """The colours, and white where alpha is 0."""
    import tensorflow as tf

    colors, alpha = tf.cast(colors, tf.uint16), tf.cast(alpha, tf.uint16)
    return tf.cast((colors * alpha + 255 * (255 - alpha) + 127) // 255, tf.uint8)


def grey(colors):
    """Pillow's and JPEG's luminance of an RGB image."""
    import tensorflow as tf

    red, green, blue = (tf.cast(colors[:, :, i : i + 1], tf.int32) for i in range(3))
    return tf.cast((19595 * red + 38470 * green + 7471 * blue + 2**15) // 2**16, tf.uint8)

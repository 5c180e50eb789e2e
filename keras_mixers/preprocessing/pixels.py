"""The pixels of an image file as Pillow shows them, inside a TensorFlow graph."""

from keras_mixers.preprocessing.header import number
from keras_mixers.preprocessing.orientation import (
    jpeg_orientation,
    png_orientation,
    upright,
    webp_orientation,
)


def jpeg_pixels(content, channels):
    """`(H, W, channels)` of a JPEG file, upright, decoded as Pillow does."""
    import tensorflow as tf

    # TensorFlow converts a grey image to RGB; it cannot convert every image to grey.
    stored = 3 if channels == 3 else 0
    pixels = tf.io.decode_jpeg(content, channels=stored, dct_method="INTEGER_ACCURATE")
    pixels = upright(pixels, jpeg_orientation(content))
    return pixels if stored else to_channels(pixels, channels)


def other_pixels(content, channels):
    """`(H, W, channels)` of a file that is not JPEG and whose header has no problem."""
    import tensorflow as tf

    def starts(magic):
        return tf.equal(tf.strings.substr(content, 0, len(magic)), magic)

    def webp_or_gif():
        pixels = tf.io.decode_image(content, expand_animations=False)
        orientation = tf.cond(
            starts(b"RIFF"), lambda: webp_orientation(content), lambda: tf.constant(1, tf.int64)
        )
        return upright(tf.ensure_shape(pixels, (None, None, None)), orientation)

    cases = [(starts(b"\x89PNG"), lambda: png(content)), (starts(b"BM"), lambda: bmp(content))]
    pixels = tf.case(cases, default=webp_or_gif, exclusive=False)
    return to_channels(tf.ensure_shape(pixels, (None, None, None)), channels)


def png(content):
    """The upright pixels of a PNG file, with alpha if it may have a transparent colour."""
    import tensorflow as tf

    depth = tf.io.decode_raw(tf.strings.substr(content, 24, 1), tf.uint8)[0]
    # With 4 channels, TensorFlow reads a transparent colour, which it ignores otherwise. Below 8
    # bits, it then returns a wrong alpha for opaque images.
    pixels = tf.cond(
        depth < 8,
        lambda: tf.ensure_shape(tf.io.decode_png(content), (None, None, None)),
        lambda: tf.ensure_shape(tf.io.decode_png(content, channels=4), (None, None, None)),
    )
    return upright(pixels, png_orientation(content))


def bmp(content):
    """The colours of a BMP file without its fourth byte, which few programs set.

    TensorFlow returns the indices of a file with a palette, and this function looks them up.
    """
    import tensorflow as tf

    pixels = tf.io.decode_bmp(content)

    def look_up():
        header = tf.cast(tf.io.decode_raw(tf.strings.substr(content, 0, 18), tf.uint8), tf.int32)
        start, end = 14 + number(header, 14, 4), number(header, 10, 4)
        palette = tf.io.decode_raw(tf.strings.substr(content, start, end - start), tf.uint8)
        palette = tf.reshape(palette, (-1, 4))[:, 2::-1]  # blue, green, red and an unused byte
        return tf.gather(palette, tf.cast(pixels[:, :, 0], tf.int32))

    return tf.cond(tf.equal(tf.shape(pixels)[2], 1), look_up, lambda: pixels[:, :, :3])


def to_channels(pixels, channels):
    """`(H, W, channels)`, 1, 3 or 4, from the 1 to 4 channels that an image file has."""
    import tensorflow as tf

    has_alpha = tf.equal(tf.shape(pixels)[2] % 2, 0)
    if channels == 4:
        opaque = tf.fill(tf.shape(pixels[:, :, :1]), tf.constant(255, tf.uint8))
        alpha = tf.cond(has_alpha, lambda: pixels[:, :, -1:], lambda: opaque)
        colors = tf.cond(has_alpha, lambda: pixels[:, :, :-1], lambda: pixels)
    else:
        colors = tf.cond(has_alpha, lambda: over_white(pixels), lambda: pixels)

    is_colored = tf.shape(colors)[2] > 1
    if channels == 1:
        return tf.cond(is_colored, lambda: grey(colors), lambda: colors)
    colors = tf.cond(is_colored, lambda: colors, lambda: tf.repeat(colors, 3, -1))
    return tf.concat([colors, alpha], -1) if channels == 4 else colors


def over_white(pixels):
    """The colours of pixels whose last channel is alpha: white where alpha is 0."""
    import tensorflow as tf

    colors, alpha = pixels[:, :, :-1], pixels[:, :, -1:]

    def mixed():
        wide, weight = tf.cast(colors, tf.uint16), tf.cast(alpha, tf.uint16)
        return tf.cast((wide * weight + 255 * (255 - weight) + 127) // 255, tf.uint8)

    return tf.cond(tf.reduce_min(alpha) < 255, mixed, lambda: colors)


def grey(colors):
    """Pillow's and JPEG's luminance of an RGB image."""
    import tensorflow as tf

    red, green, blue = (tf.cast(colors[:, :, i : i + 1], tf.int32) for i in range(3))
    return tf.cast((19595 * red + 38470 * green + 7471 * blue + 2**15) // 2**16, tf.uint8)

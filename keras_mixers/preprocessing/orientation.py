"""Turn an image upright by its EXIF orientation, inside a TensorFlow graph."""

from keras_mixers.preprocessing.outlined import outlined

ORIENTATION = 0x0112  # the tag's number in EXIF
SEARCHED = 2**17  # bytes; EXIF data is the first or the second segment, of up to 2 ** 16 bytes
START_OF_SCAN, APP1 = 0xDA, 0xE1  # markers in a JPEG file
SHORT = 3  # the type of an integer of 2 bytes in EXIF


def upright(pixels, orientation):
    """The pixels `(H, W, C)` of an image, turned and mirrored as its EXIF orientation says."""
    import tensorflow as tf

    def turn():
        turned = tf.cond(orientation >= 5, lambda: tf.transpose(pixels, (1, 0, 2)), lambda: pixels)
        mirrored = tf.reduce_any(tf.equal(orientation, [[3, 4, 7, 8], [2, 3, 6, 7]]), axis=1)
        return tf.reverse(turned, tf.where(mirrored)[:, 0])

    return tf.cond(orientation > 1, turn, lambda: pixels)


def jpeg_orientation(content):
    """The EXIF orientation of a JPEG file, 1 to 8; 1 if it has none."""
    import tensorflow as tf

    # This search is much faster than a loop over the segments, and most images have no EXIF data.
    head = tf.strings.substr(content, 0, SEARCHED)
    may_have_exif = tf.strings.regex_full_match(head, r"\C*Exif\x00\x00\C*")
    return tf.cond(
        may_have_exif, lambda: outlined(exif_orientation)(content), lambda: tf.constant(1, tf.int64)
    )


def exif_orientation(content):
    """The orientation in the EXIF data of a JPEG file that has some."""
    import tensorflow as tf

    return orientation_of(tf.strings.substr(content, *exif_segment(content)))


def png_orientation(content):
    """The EXIF orientation of a PNG file, before or after its pixels; 1 if it has none."""
    import tensorflow as tf

    end = tf.maximum(tf.strings.length(content) - SEARCHED, 0)
    parts = [tf.strings.substr(content, start, SEARCHED) for start in (0, end)]
    return tf.cond(
        tf.reduce_any(tf.strings.regex_full_match(parts, r"\C*eXIf\C*")),
        lambda: outlined(orientation_in_chunks, 8, b"eXIf", b"IEND")(content),
        lambda: tf.constant(1, tf.int64),
    )


def webp_orientation(content):
    """The EXIF orientation of a WebP file; 1 if it has none."""
    import tensorflow as tf

    header = tf.strings.join([tf.strings.substr(content, 0, 21), b"\0" * 21])
    flags = tf.io.decode_raw(tf.strings.substr(header, 20, 1), tf.uint8)[0]
    has_exif = tf.equal(tf.strings.substr(content, 12, 4), b"VP8X") & (flags // 8 % 2 > 0)
    return tf.cond(
        has_exif,
        lambda: outlined(orientation_in_chunks, 12, b"EXIF", b"")(content),
        lambda: tf.constant(1, tf.int64),
    )


def orientation_in_chunks(start, exif, last, content):
    """The orientation in the chunk `exif` of a PNG or WebP file; 1 if it has none.

    Args:
        start: where the first chunk begins: 8 for PNG, 12 for WebP.
        exif: the name of the chunk with EXIF data.
        last: the name of the chunk that ends the search.
        content: the bytes of the file.
    """
    import tensorflow as tf

    is_png = start == 8
    size_at, name_at = (0, 4) if is_png else (4, 0)
    length = tf.cast(tf.strings.length(content), tf.int64)

    def name_and_size(at):
        octets = tf.io.decode_raw(tf.strings.substr(content, at + size_at, 4), tf.uint8)
        powers = [256**i for i in range(4)]
        size = tf.reduce_sum(tf.cast(octets, tf.int64) * powers[:: -1 if is_png else 1])
        return tf.strings.substr(content, at + name_at, 4), size

    def is_before(at):
        def other():
            name, _ = name_and_size(at)
            return tf.reduce_all(tf.not_equal(name, [exif, last]))

        return tf.cond(at + 8 <= length, other, lambda: False)

    def after(at):
        _, size = name_and_size(at)
        # A chunk of PNG ends with a checksum; a chunk of WebP has an even size.
        return [at + 8 + (size + 4 if is_png else size + size % 2)]

    (at,) = tf.while_loop(is_before, after, [tf.constant(start, tf.int64)])

    def found():
        name, size = name_and_size(at)
        data = tf.strings.substr(content, at + 8, tf.where(tf.equal(name, exif), size, 0))
        return orientation_of(tf.strings.regex_replace(data, r"^Exif\x00\x00", ""))

    return tf.cond(at + 8 <= length, found, lambda: tf.constant(1, tf.int64))


def orientation_of(exif):
    """The orientation in EXIF data; 1 if it has none or is damaged."""
    import tensorflow as tf

    is_tiff = tf.reduce_any(tf.equal(tf.strings.substr(exif, 0, 4), [b"II*\0", b"MM\0*"]))
    return tf.cond(is_tiff, lambda: orientation_in(exif), lambda: tf.constant(1, tf.int64))


def exif_segment(content):
    """(start, length) of the EXIF data in a JPEG file; length 0 if it has none."""
    import tensorflow as tf

    end = tf.strings.length(content)

    def search(at, _):
        """Go from the segment at `at` to the next one, or stop at EXIF data: (at, length)."""
        head = tf.strings.substr(content, at, 10)
        octets = tf.cast(tf.io.decode_raw(head, tf.uint8), tf.int32)
        marker, size = octets[1], octets[2] * 256 + octets[3]
        is_exif = tf.equal(marker, APP1) & tf.equal(tf.strings.substr(head, 4, 6), b"Exif\0\0")
        is_last = tf.not_equal(octets[0], 0xFF) | tf.equal(marker, START_OF_SCAN)
        step = tf.where(tf.equal(marker, 0xFF), 1, 2 + size)  # a marker may have padding
        after = tf.where(is_exif, at + 10, tf.where(is_last, end, at + step))
        return after, tf.where(is_exif, tf.maximum(size - 8, 1), 0)

    at, length = tf.while_loop(
        lambda at, length: tf.equal(length, 0) & (at + 10 <= end), search, [2, 0]
    )
    return tf.minimum(at, end), length


def orientation_in(exif):
    """The orientation in EXIF data: a TIFF header, then entries of 12 bytes; 1 if it has none."""
    import tensorflow as tf

    octets = tf.cast(tf.io.decode_raw(exif, tf.uint8), tf.int64)
    size = tf.size(octets, tf.int64)
    # Zeros follow, because damaged data may refer to positions after its end.
    octets = tf.concat([octets, tf.zeros([size + 12], tf.int64)], 0)
    is_little = tf.equal(octets[0], ord("I"))

    def numbers(parts, begin, count):
        """The integers in `count` bytes of the last axis."""
        powers = [256**i for i in range(count)]
        powers = tf.where(is_little, powers, powers[::-1])
        return sum(parts[..., begin + i] * tf.cast(powers[i], tf.int64) for i in range(count))

    start = tf.minimum(numbers(octets, 4, 4), size)
    count = tf.minimum(numbers(octets[start:], 0, 2), size // 12)
    entries = tf.reshape(octets[start + 2 : start + 2 + 12 * count], (-1, 12))
    is_short = tf.equal(numbers(entries, 2, 2), SHORT)
    values = tf.where(is_short, numbers(entries, 8, 2), numbers(entries, 8, 4))
    is_orientation = tf.equal(numbers(entries, 0, 2), ORIENTATION) & (values <= 8)
    return tf.concat([values[is_orientation], [1]], 0)[0]

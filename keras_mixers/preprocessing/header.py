"""Read from the header of an image file who decodes it, and its size.

`decoder_of` decides before training, in Python. The other functions are part of a TensorFlow graph.
They find the size, and refuse the files that TensorFlow decodes wrongly.
"""

HEADER = 32  # bytes, which hold the size of an image in each format except JPEG and GIF
HEAD = 2**16  # bytes of a GIF file in which `decoder_of` searches for its first frame
GRAPHIC_CONTROL, NO_COLOR = 0xF9, -1  # the block of GIF that names a transparent colour
TENSORFLOW, PILLOW = "TensorFlow", "Pillow"
FORMATS = "JPEG, PNG, GIF, BMP, WebP or TIFF"
TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")  # the last two have sizes of 64 bits


def decoder_of(file):
    """Who decodes an image: `TENSORFLOW`, `PILLOW`, or "" if it is not in one of the `FORMATS`.

    Pillow reads the files that TensorFlow cannot decode, or of which it shows other pixels: TIFF,
    animated WebP, BMP with compression or few bits, and GIF whose first frame is smaller than the
    image.

    Args:
        file: an open binary file.
    """
    head = file.read(2 * HEADER).ljust(2 * HEADER, b"\0")
    if head.startswith((b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n")):
        return TENSORFLOW
    if head.startswith(TIFF):
        return PILLOW
    if head.startswith(b"RIFF") and head[8:15] == b"WEBPVP8":
        return PILLOW if head[15:16] == b"X" and head[20] & 2 else TENSORFLOW
    if head.startswith(b"GIF8"):
        head += file.read(HEAD)
        at = first_gif_block(head)
        return TENSORFLOW if head[at : at + 9] == b",\0\0\0\0" + head[6:10] else PILLOW
    if head.startswith(b"BM"):
        bits, compression = int.from_bytes(head[28:30], "little"), head[30:34]
        is_plain = compression == b"\0\0\0\0" and bits in (8, 24, 32)
        is_masked = compression == b"\3\0\0\0" and head[54:58] == b"\0\0\xff\0" and bits == 32
        return TENSORFLOW if is_plain or is_masked else PILLOW
    return ""


def first_gif_block(head):
    """Where a GIF file has its first block that is not an extension."""
    at = 13 + (3 * 2 ** (head[10] % 8 + 1) if head[10] >= 128 else 0)
    while head[at : at + 1] == b"!":
        at += 2
        while any(size := head[at : at + 1]):
            at += size[0] + 1
        at += 1
    return at


def jpeg_header(content):
    """As `other_header`, of a JPEG file."""
    import tensorflow as tf

    return tf.cast(tf.io.extract_jpeg_shape(content)[:2], tf.int64), content, ""


def other_header(content):
    """(size, content, problem) of an image file that is not JPEG.

    Returns:
        `(height, width)` as int64; the bytes of the file, without all but the first frame of GIF;
        and why TensorFlow must not decode the file, or "".
    """
    import tensorflow as tf

    head = tf.strings.join([tf.strings.substr(content, 0, HEADER), b"\0" * HEADER])
    head = tf.strings.substr(head, 0, HEADER)
    octets = tf.cast(tf.ensure_shape(tf.io.decode_raw(head, tf.uint8), [HEADER]), tf.int64)

    def starts(magic, offset=0):
        return tf.equal(tf.strings.substr(head, offset, len(magic)), magic)

    def sized(size, problem=""):
        return size, content, problem

    is_png = starts(b"\x89PNG\r\n\x1a\n") & starts(b"IHDR", 12)
    is_webp = starts(b"RIFF") & starts(b"WEBP", 8)
    none = tf.zeros([2], tf.int64)
    cases = [
        (is_png, lambda: sized(png_size(octets))),
        (starts(b"GIF8"), lambda: first_gif_frame(content)),
        (starts(b"BM"), lambda: sized(bmp_size(octets), bmp_problem(content, octets))),
        (is_webp & starts(b"VP8 ", 12), lambda: sized(lossy_webp_size(octets))),
        (is_webp & starts(b"VP8L", 12), lambda: sized(lossless_webp_size(octets))),
        (is_webp & starts(b"VP8X", 12), lambda: sized(*extended_webp(octets))),
        (tf.equal(content, ""), lambda: sized(none, "it is empty")),
    ]
    unknown = "its format is not JPEG, PNG, GIF, BMP or WebP"
    return tf.case(cases, default=lambda: sized(none, unknown), exclusive=False)


def number(octets, start, count, step=1):
    """The integer in `count` bytes of a tensor from `start` on, the lowest byte first."""
    return sum(octets[start + i * step] * 256**i for i in range(count))


def png_size(octets):
    """The size in PNG's first chunk."""
    import tensorflow as tf

    return tf.stack([number(octets, last, 4, step=-1) for last in (23, 19)])


def bmp_size(octets):
    """The size of a BMP file; a height from 2 ** 31 on is negative, for rows from the top."""
    import tensorflow as tf

    height, width = (number(octets, start, 4) for start in (22, 18))
    return tf.stack([tf.minimum(height, 2**32 - height), width])


def bmp_problem(content, octets):
    """Why TensorFlow decodes a BMP file wrongly: it reads neither compression nor colour masks."""
    import tensorflow as tf

    bits, compression = number(octets, 28, 2), number(octets, 30, 2)
    # The file may be shorter than the position of the red mask.
    end = tf.minimum(tf.strings.length(content), 58)
    red_mask = tf.strings.substr(content, tf.minimum(end, 54), 4)
    plain = tf.equal(compression, 0) & tf.reduce_any(tf.equal(bits, [8, 24, 32]))
    masked = tf.equal(compression, 3) & tf.equal(bits, 32) & tf.equal(red_mask, b"\0\0\xff\0")
    variant = tf.strings.format("it is a BMP of {} bits with compression {}", (bits, compression))
    return tf.where(plain | masked, "", tf.strings.join([variant, ", which is not supported"]))


def lossy_webp_size(octets):
    """The size of a WebP file with a VP8 frame."""
    import tensorflow as tf

    return tf.stack([number(octets, start, 2) % 2**14 for start in (28, 26)])


def lossless_webp_size(octets):
    """The size of a WebP file with a VP8L image."""
    import tensorflow as tf

    bits = number(octets, 21, 4)
    return tf.stack([bits // 2**14 % 2**14 + 1, bits % 2**14 + 1])


def extended_webp(octets):
    """The size of the canvas of a WebP file with alpha, metadata or several frames; the problem.

    Animations are a problem, because TensorFlow 2.21 writes past its memory for some of them.
    """
    import tensorflow as tf

    size = tf.stack([number(octets, start, 3) + 1 for start in (27, 24)])
    return size, tf.where(octets[20] // 2 % 2 > 0, "it is an animated WebP", "")


def first_gif_frame(content):
    """(height, width) of the first frame of a GIF file, the file up to its end, and the problem.

    A frame that does not cover the image is a problem, because TensorFlow returns only the frame.
    TensorFlow decodes all frames before it drops all but the first one. It also ignores the
    transparent colour, so this function makes that colour white.
    """
    import tensorflow as tf

    octets = tf.cast(tf.io.decode_raw(content, tf.uint8), tf.int64)
    count = tf.size(octets, tf.int64)
    # One block of zero bytes ends each search in a file that ends too early.
    octets = tf.concat([octets, tf.zeros([HEADER], tf.int64)], 0)

    def octet(position):
        return octets[tf.minimum(tf.cast(position, tf.int64), count)]

    def after_colors(flags, position):
        return position + tf.where(flags >= 128, 3 * 2 ** (flags % 8 + 1), 0)

    def after_blocks(position):  # each is its length in one byte, and the bytes; 0 ends them
        (end,) = tf.while_loop(
            lambda at: octet(at) > 0, lambda at: [at + octet(at) + 1], [position]
        )
        return end + 1

    def after_extension(at, transparent):
        is_control = tf.equal(octet(at + 1), GRAPHIC_CONTROL) & tf.equal(octet(at + 2), 4)
        given = tf.where(octet(at + 3) % 2 > 0, octet(at + 6), NO_COLOR)
        return after_blocks(at + 2), tf.where(is_control, given, transparent)

    header_end = after_colors(octet(10), tf.constant(13, tf.int64))
    start, transparent = tf.while_loop(
        lambda at, transparent: tf.equal(octet(at), ord("!")),
        after_extension,
        [header_end, tf.constant(NO_COLOR, tf.int64)],
    )
    start = tf.minimum(start, count)
    frame = octets[start : start + HEADER]
    is_frame = tf.cast(tf.equal(frame[0], ord(",")), tf.int64)
    size = tf.stack([number(frame, first, 2) for first in (7, 5)]) * is_frame
    place = tf.concat([tf.zeros([4], tf.int64), octets[6:10]], 0)  # that of the whole image
    is_part = tf.equal(is_frame, 1) & tf.reduce_any(tf.not_equal(frame[1:9], place))
    end = tf.minimum(after_blocks(after_colors(frame[9], start + 10) + 1), count)
    has_own_colors = frame[9] >= 128
    colors = tf.where(has_own_colors, start + 10, 13)
    colors_end = after_colors(tf.where(has_own_colors, frame[9], octet(10)), colors)
    color = colors + 3 * transparent
    white = (transparent >= 0) & (color < colors_end) & (colors_end <= end)
    content = tf.cond(white, lambda: replaced(content, color, b"\xff" * 3), lambda: content)
    header = tf.strings.substr(content, tf.zeros_like(end), tf.minimum(header_end, count))
    # Without the extensions before the frame, because one of them says what is transparent.
    frame = tf.strings.join([header, tf.strings.substr(content, start, end - start), b";"])
    return size, frame, tf.where(is_part, "its first frame does not cover the image", "")


def replaced(content, at, part):
    """The bytes with other bytes at a position."""
    import tensorflow as tf

    end = tf.cast(tf.strings.length(content), tf.int64)
    return tf.strings.join(
        [
            tf.strings.substr(content, tf.zeros_like(at), at),
            part,
            tf.strings.substr(content, at + len(part), end - at - len(part)),
        ]
    )

"""RandAugment: each image of a batch gets its own transformations.

The transformations are computed in groups that share one operator: geometric ones by one affine
transformation, those that map each value to another by one table. So the graph is small. This
matters because an epoch begins with the setup of this graph.
"""

import math

import numpy as np

GREY = 128.0  # fills what a geometric transformation moves in from outside
GEOMETRIC = ("ShearX", "ShearY", "TranslateX", "TranslateY", "Rotate")
BY_TABLE = ("Brightness", "Contrast", "Posterize", "Solarize", "AutoContrast", "Equalize")
LUMINANCE = (0.299, 0.587, 0.114)


class RandAugment:
    """Apply `num_ops` random transformations to each image, with a strength up to `magnitude`.

    Strengths are drawn uniformly from 0 to a limit. At magnitude 10 the limits are the published
    ones.

    Shapes: `(N, H, W, C) -> (N, H, W, C)`, float32 in 0..255.

    Source: "RandAugment: Practical automated data augmentation with a reduced search space", arXiv
    1909.13719; the transformations and their limits: timm, `timm/data/auto_augment.py`.
    """

    def __init__(self, num_ops, magnitude, channels):
        self.num_ops, self.limit = num_ops, magnitude / 10
        self.groups = [(GEOMETRIC, geometric), (BY_TABLE, by_table), (("Sharpness",), sharpness)]
        if channels == 3:
            self.groups.append((("Color",), color))

    def __call__(self, images, random):
        """Transformed images; `random` is a `RowRandom`."""
        import tensorflow as tf

        # A loop in the graph, because TensorFlow then sets up its body only once.
        return tf.while_loop(
            lambda i, _: i < self.num_ops,
            lambda i, images: (i + 1, self.transform_once(images, random.folded(i))),
            [0, images],
        )[1]

    def transform_once(self, images, random):
        """Each image, transformed by one of the transformations."""
        import tensorflow as tf

        sizes = [len(names) for names, _ in self.groups]
        drawn = random.integers(sum(sizes))
        first = np.cumsum([0, *sizes[:-1]], dtype="int32")
        group = tf.gather(np.repeat(np.arange(len(sizes), dtype="int32"), sizes), drawn)
        kind = drawn - tf.gather(first, group)
        strength = self.limit * random.uniform()
        sign = tf.where(random.uniform() < 0.5, -1.0, 1.0)

        members = tf.dynamic_partition(tf.range(tf.shape(images)[0]), group, len(sizes))
        transformed = [
            transform(*(tf.gather(part, indices) for part in (images, kind, strength, sign)))
            for (_, transform), indices in zip(self.groups, members, strict=True)
        ]
        result = tf.dynamic_stitch(members, transformed)
        return tf.ensure_shape(tf.clip_by_value(result, 0.0, 255.0), images.shape)


def geometric(images, kind, strength, sign):
    """Images, sheared, shifted or rotated; `kind` is an index of `GEOMETRIC`."""
    import tensorflow as tf

    height, width = images.shape[1:3]
    amount = strength * sign
    shear_x, shear_y, shift_x, shift_y, angle = (
        tf.where(kind == i, limit * amount, 0.0)
        for i, limit in enumerate((0.3, 0.3, 0.45 * width, 0.45 * height, math.pi / 6))
    )
    cos, sin = tf.cos(angle), tf.sin(angle)
    # The rotation keeps the centre of the image in its place.
    x, y = (width - 1) / 2, (height - 1) / 2
    matrix = [cos, shear_x - sin, shift_x + x - cos * x + sin * y]
    matrix += [shear_y + sin, cos, shift_y + y - sin * x - cos * y]
    return affine(images, matrix, "CONSTANT")


def affine(images, matrix, fill_mode):
    """Images whose pixel (x, y) comes from `(a x + b y + c, d x + e y + f)` of the original.

    `matrix` is the list of a to f, each `(N,)`. Outside of the original, the result is grey if
    `fill_mode` is `"CONSTANT"`, and has the value of the nearest pixel if it is `"NEAREST"`.
    """
    import tensorflow as tf

    zero = tf.zeros_like(matrix[0])
    return tf.raw_ops.ImageProjectiveTransformV3(
        images=images,
        transforms=tf.stack([*matrix, zero, zero], 1),
        output_shape=images.shape[1:3],
        fill_value=GREY,
        interpolation="BILINEAR",
        fill_mode=fill_mode,
    )


def by_table(images, kind, strength, sign):
    """Images, each of whose values is looked up in a table; `kind` is an index of `BY_TABLE`."""
    import tensorflow as tf

    count, channels = tf.shape(images)[0], images.shape[-1]
    first_entry = 256 * tf.reshape(tf.range(count * channels), (count, 1, 1, channels))
    entries = tf.cast(tf.round(images), "int32") + first_entry
    histogram = tf.raw_ops.DenseBincount(
        input=tf.reshape(entries, [-1]),
        size=256 * count * channels,
        weights=tf.zeros([0], "float32"),
        binary_output=False,
    )
    tables = value_tables(
        tf.reshape(histogram, (count, channels, 256)),
        images.shape[1] * images.shape[2],
        strength[:, None, None],
        sign[:, None, None],
    )
    chosen = tf.gather(tables, kind, batch_dims=1)
    return tf.gather(tf.reshape(chosen, [-1]), entries)


def value_tables(histogram, pixels, strength, sign):
    """The tables of the transformations in `BY_TABLE`, `(N, transformations, C, 256)`.

    Args:
        histogram: how many pixels have each value, `(N, C, 256)`.
        pixels: the number of pixels of an image.
        strength: from 0 to 1, `(N, 1, 1)`.
        sign: -1 or 1, `(N, 1, 1)`.
    """
    import tensorflow as tf

    values = tf.range(256.0)
    factor = 1 + 0.9 * strength * sign

    means = tf.reduce_sum(histogram * values, -1, keepdims=True) / pixels
    weights = LUMINANCE if histogram.shape[1] == 3 else (1 / histogram.shape[1],)
    mean = tf.reduce_sum(means * np.reshape(weights, (1, -1, 1)), 1, keepdims=True)
    step = 2.0 ** tf.floor(strength * 5)  # 0 to 4 of the 8 bits become 0

    present = histogram > 0
    lowest = tf.reduce_min(tf.where(present, values, 255.0), -1, keepdims=True)
    highest = tf.reduce_max(tf.where(present, values, 0.0), -1, keepdims=True)
    stretched = tf.math.divide_no_nan(255 * (values - lowest), highest - lowest)

    above = tf.cumsum(histogram, -1)
    last = tf.reduce_sum(tf.where(values == highest, histogram, 0.0), -1, keepdims=True)
    bin_size = tf.floor((pixels - last) / 255)
    equalized = tf.math.divide_no_nan(tf.floor(bin_size / 2) + above - histogram, bin_size)
    tables = (
        values * factor,
        (values - mean) * factor + mean,
        tf.floor(values / step) * step,
        tf.where(values < 255 * (1 - strength), values, 255 - values),
        tf.where(highest > lowest, stretched, values),
        tf.where(bin_size > 0, tf.floor(equalized), values),
    )
    tables = [tf.broadcast_to(table, tf.shape(histogram)) for table in tables]
    return tf.clip_by_value(tf.stack(tables, 1), 0.0, 255.0)


def sharpness(images, kind, strength, sign):
    """Images, blurred or sharpened."""
    import tensorflow as tf

    height, width = images.shape[1:3]
    inside = np.zeros((height, width, 1), bool)
    inside[1:-1, 1:-1] = True  # the blur leaves the border unchanged
    blurred = (9 * tf.nn.avg_pool2d(images, 3, 1, "SAME") + 4 * images) / 13
    return blend(tf.where(inside, blurred, images), images, strength * sign)


def color(images, kind, strength, sign):
    """Images with less or more colour."""
    import tensorflow as tf

    grey = tf.reduce_sum(images * LUMINANCE, -1, keepdims=True)
    return blend(grey, images, strength * sign)


def blend(degenerate, images, amount):
    """`images + 0.9 amount (images - degenerate)`; `amount` is from -1 to 1, `(N,)`."""
    return images + 0.9 * amount[:, None, None, None] * (images - degenerate)

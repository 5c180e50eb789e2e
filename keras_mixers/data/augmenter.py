"""Apply an `Augmentation` to batches of images, inside a TensorFlow graph."""

import math

from keras_mixers.data.rand_augment import RandAugment, affine

# Width over height of a random crop, from "Going Deeper with Convolutions", arXiv 1409.4842.
CROP_RATIO = (3 / 4, 4 / 3)
# Fraction of the image's area that random erasing replaces, and height over width of the rectangle,
# from "Random Erasing Data Augmentation", arXiv 1708.04896.
ERASED_AREA = (0.02, 1 / 3)
ERASED_RATIO = (0.3, 1 / 0.3)


class Augmenter:
    """Apply an `Augmentation` to batches of images of one size.

    Random crops are not included, because they change the size: see `random_crop`.
    """

    def __init__(self, augmentation, preprocessing, channels, num_classes):
        self.augmentation, self.preprocessing = augmentation, preprocessing
        self.num_classes = num_classes
        self.rand_augment = (
            RandAugment(*augmentation.rand_augment, channels) if augmentation.rand_augment else None
        )

    def __call__(self, images, labels, random, weights=None):
        """Bytes and labels -> preprocessed float32 images, and labels or soft labels.

        Shapes: `(N, H, W, C), (N,) -> (N, H, W, C), (N,)`; multi-hot and soft labels are
        `(N, num_classes)`. With weights `(N,)`, the result has weights as its third part. `random`
        is a `RowRandom`.
        """
        import tensorflow as tf

        a = self.augmentation
        if a.flip:
            images = flip(images, random)
        images = tf.cast(images, "float32")
        if a.translation:
            images = translate(images, a.translation, random)
        if self.rand_augment:
            images = self.rand_augment(images, random)
        images = self.preprocessing.normalize(images)
        if a.erasing:
            images = erase(images, a.erasing, random)
        if a.mixup or a.cutmix:
            if labels.shape.rank == 1:
                labels = tf.one_hot(labels, self.num_classes)
            images, labels, weights = self.mix(images, labels, random, weights)
        return (images, labels) if weights is None else (images, labels, weights)

    def mix(self, images, labels, random, weights):
        """Images, soft labels and weights, each mixed with its neighbour by MixUp or CutMix.

        The neighbours are pairs, 0 and 1, 2 and 3, and so on, in the random order of the epoch. So
        each process can mix its share of a batch, if its size is even. The last image of an odd
        number is kept.
        """
        import tensorflow as tf

        count = tf.shape(images)[0]
        neighbour = tf.minimum(tf.bitwise.bitwise_xor(tf.range(count), 1), count - 1)
        a = self.augmentation
        mixers = [(alpha, mix) for alpha, mix in ((a.mixup, mixup), (a.cutmix, cutmix)) if alpha]
        others = tf.gather(images, neighbour)
        branches = [
            lambda alpha=alpha, mix=mix: mix(images, others, random.beta(alpha), random)
            for alpha, mix in mixers
        ]
        chosen = tf.random.stateless_uniform([], random.seed(), maxval=len(mixers), dtype="int32")
        images, part = tf.switch_case(chosen, branches)
        if weights is not None:
            part, weights = weighted(part, weights, tf.gather(weights, neighbour))
        part = part[:, None]
        return images, part * labels + (1 - part) * tf.gather(labels, neighbour), weights


def flip(images, random):
    """Images, half of them mirrored left to right."""
    import tensorflow as tf

    # `Select` takes one condition per image. `tf.where` and a slice take several times as long.
    mirrored = tf.reverse(images, [2])
    return tf.raw_ops.Select(condition=random.uniform() < 0.5, x=mirrored, y=images)


def translate(images, limit, random):
    """Images, each shifted by up to `limit` of its height and width."""
    import tensorflow as tf

    height, width = images.shape[1:3]
    y, x = (random.uniform(-limit, limit) * side for side in (height, width))
    zero, one = tf.zeros_like(x), tf.ones_like(x)
    return affine(images, [one, zero, x, zero, one, y], "NEAREST")


def erase(images, rate, random):
    """Images, with noise in a rectangle in a fraction `rate` of them.

    The noise has about the range of normalized images. The images of a batch share a strip of
    noise, from which each takes a random part.
    """
    import tensorflow as tf

    height, width, channels = images.shape[1:]
    area = random.uniform(*ERASED_AREA) * height * width
    ratio = tf.exp(random.uniform(*map(math.log, ERASED_RATIO)))
    is_erased = random.uniform() < rate
    rows = tf.where(is_erased, tf.sqrt(area * ratio), 0.0)
    inside = rectangle(images, tf.round(rows), tf.round(tf.sqrt(area / ratio)), random)

    strip = tf.random.stateless_normal((2 * height, width, channels), random.seed())
    first_row = random.integers(height)
    noise = tf.gather(strip, first_row[:, None] + tf.range(height))
    return tf.where(inside, noise, images)


def weighted(part, weights, other_weights):
    """The part of an image in its soft label, and the weight of the mixed image.

    The weighted loss of the mixed image is then `part * weight * loss(label) + (1 - part) *
    other weight * loss(other label)`, for each loss that is affine in the label: cross-entropy of a
    softmax or of sigmoids, also with label smoothing. Two images of weight 0 keep their part.
    """
    import tensorflow as tf

    first, second = part * weights, (1 - part) * other_weights
    mixed = first + second
    return tf.where(mixed > 0, tf.math.divide_no_nan(first, mixed), part), mixed


def mixup(images, others, weight, random):
    """`weight * images + (1 - weight) * others`, and the weights, `(N,)`."""
    broadcast = weight[:, None, None, None]
    return broadcast * images + (1 - broadcast) * others, weight


def cutmix(images, others, weight, random):
    """Images with a rectangle of the others, and the fraction of the pixels that remain, `(N,)`."""
    import tensorflow as tf

    side = tf.sqrt(1 - weight)
    height, width = images.shape[1:3]
    inside = rectangle(images, tf.round(side * height), tf.round(side * width), random)
    remaining = 1 - tf.reduce_mean(tf.cast(inside, "float32"), (1, 2, 3))
    return tf.where(inside, others, images), remaining


def rectangle(images, rows, columns, random):
    """Which pixels are in a random rectangle of `rows` x `columns`, bool `(N, H, W, 1)`.

    A rectangle that is larger than the image covers its whole height or width.
    """
    import tensorflow as tf

    def covered(side, extent):
        extent = tf.minimum(extent, float(side))
        first = tf.floor(random.uniform() * (side - extent + 1))
        pixels = tf.range(float(side))
        return (pixels >= first[:, None]) & (pixels < (first + extent)[:, None])

    height, width = images.shape[1:3]
    vertical, horizontal = covered(height, rows), covered(width, columns)
    return (vertical[:, :, None] & horizontal[:, None])[..., None]


def random_crop(image, preprocessing, scale, seed):
    """A random part of the image, resized to the size of the preprocessing, as bytes.

    `seed` is two int32 numbers.
    """
    import tensorflow as tf

    begin, extent, _ = tf.image.stateless_sample_distorted_bounding_box(
        tf.shape(image),
        tf.zeros([1, 0, 4]),
        seed,
        min_object_covered=0.0,
        aspect_ratio_range=CROP_RATIO,
        area_range=scale,
        use_image_if_no_bounding_boxes=True,
    )
    part = tf.slice(image, begin, extent)
    part = tf.image.resize(
        part, preprocessing.size, method=preprocessing.interpolation, antialias=True
    )
    return tf.saturate_cast(tf.round(part), "uint8")

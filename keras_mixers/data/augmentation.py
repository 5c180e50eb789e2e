"""What training images go through, as data: whole batches at a time, by Keras's own layers."""

import dataclasses
import functools

import keras

from keras_mixers import arguments
from keras_mixers.data.rand_augment import RandAugment, applied, mixed

CROP_RATIO = (3 / 4, 4 / 3)  # width over height, as in "Going deeper with convolutions", 1409.4842
ERASED = (0.02, 1 / 3)  # share of the image, as in the paper


@dataclasses.dataclass(frozen=True)
class Augmentation:
    """What is done to training images, anew in every epoch, in the order of the arguments.

    The first four work on bytes, the others on what the model gets. With `mixup`
    or `cutmix` labels become shares of each class, `(N, num_classes)`.

    Args:
        crop_scale: (lowest, highest) share of the image's area that is cut out at random, of a
            shape from 3:4 to 4:3, and resized; `None` for the preprocessing's own crop.
        flip: whether to mirror half of the images left to right.
        translation: largest shift, as a share of the height and width; the border is repeated.
        rand_augment: (transformations an image, magnitude from 0 to 10), or `None`. The paper's are
            drawn from, without the identity; colour is taken away alone, and of colour images.
        erasing: share of the images of which a rectangle is replaced by noise.
        mixup: alpha of the beta distribution of the shares; 0 for none.
        cutmix: likewise, of rectangles; at most 1. With both, each batch has one or the other.

    Raises:
        ValueError, TypeError: an argument will not do; the message says which, and what would.

    Example:
        >>> Augmentation(flip=True, rand_augment=(2, 9), mixup=0.2)
        Augmentation(crop_scale=None, flip=True, translation=0.0, rand_augment=(2, 9.0), \
erasing=0.0, mixup=0.2, cutmix=0.0)

    Source: RandAugment: arXiv 1909.13719; random erasing: arXiv 1708.04896; mixup: arXiv
    1710.09412; CutMix: arXiv 1905.04899.
    """

    crop_scale: tuple[float, float] | None = None
    flip: bool = False
    translation: float = 0.0
    rand_augment: tuple[int, float] | None = None
    erasing: float = 0.0
    mixup: float = 0.0
    cutmix: float = 0.0

    def __post_init__(self):
        checked = {
            "crop_scale": _crop_scale("crop_scale", self.crop_scale),
            "flip": arguments.flag("flip", self.flip),
            "translation": arguments.rate("translation", self.translation),
            "rand_augment": _rand_augment("rand_augment", self.rand_augment),
            "erasing": arguments.rate("erasing", self.erasing),
            "mixup": arguments.real("mixup", self.mixup, 0.0),
            "cutmix": _cutmix("cutmix", self.cutmix),
        }
        for name, value in checked.items():
            object.__setattr__(self, name, value)  # the only way into a frozen dataclass

    def get_config(self) -> dict:
        """The arguments as JSON holds them."""
        return {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in dataclasses.asdict(self).items()
        }


class Augmenter:
    """An `Augmentation` at work on images of one size, as a function of a batch and its draws."""

    def __init__(self, augmentation, preprocessing, image_shape, num_classes):
        a, layers = augmentation, keras.layers
        self.preprocessing, self.num_classes = preprocessing, num_classes
        self.on_bytes, self.on_floats, self.mixers = [], [], []
        if a.flip:
            self.on_bytes.append(layers.RandomFlip("horizontal", dtype="float32"))
        if a.translation:
            share = (a.translation, a.translation)
            self.on_bytes.append(
                layers.RandomTranslation(*share, fill_mode="nearest", dtype="float32")
            )
        if a.rand_augment:
            self.on_bytes.append(RandAugment(*a.rand_augment, image_shape))
        if a.erasing:  # by noise of about the spread that normalised images have
            always = (a.erasing, a.erasing)
            self.on_floats.append(
                layers.RandomErasing(always, scale=ERASED, value_range=(-1, 1), dtype="float32")
            )
        if a.mixup:
            self.mixers.append(layers.MixUp(a.mixup, dtype="float32"))
        if a.cutmix:
            self.mixers.append(layers.CutMix((a.cutmix, a.cutmix), dtype="float32"))

    def __call__(self, images, labels, draws):
        """Bytes and class numbers -> what the model gets: float32 images, and labels."""
        import tensorflow as tf

        images = tf.cast(images, "float32")
        for layer in self.on_bytes:
            images = applied(layer, images, draws)
        images = self.preprocessing.normalize(images)
        for layer in self.on_floats:
            images = applied(layer, images, draws)
        if not self.mixers:
            return images, labels

        labels = tf.one_hot(labels, self.num_classes)
        which = tf.random.stateless_uniform(
            [], draws.next(), maxval=len(self.mixers), dtype="int32"
        )
        return tf.switch_case(
            which,
            [functools.partial(mixed, layer, images, labels, draws) for layer in self.mixers],
        )


def random_crop(image, preprocessing, scale, draws):
    """A part of the image at random, resized as bytes to what the preprocessing makes."""
    import tensorflow as tf

    begin, extent, _ = tf.image.stateless_sample_distorted_bounding_box(
        tf.shape(image),
        tf.zeros([1, 0, 4]),
        draws.next(),
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


def _check_two(name, value, expected):
    if not isinstance(value, (tuple, list)) or len(value) != 2:
        raise ValueError(f"{expected} Received: {name}={value!r}")


def _crop_scale(name, value):
    if value is None:
        return None
    expected = f"`{name}` must be None or (lowest, highest), with 0 < lowest <= highest <= 1."
    _check_two(name, value, expected)
    lowest, highest = (arguments.real(name, share, 0.0) for share in value)
    if not 0 < lowest <= highest <= 1:
        raise ValueError(f"{expected} Received: {name}={value!r}")
    return lowest, highest


def _rand_augment(name, value):
    if value is None:
        return None
    expected = f"`{name}` must be None or (transformations an image, magnitude from 0 to 10)."
    _check_two(name, value, expected)
    num_ops = arguments.integer(name, value[0], maximum=10)
    magnitude = arguments.real(name, value[1], 0.0)
    if magnitude > 10:
        raise ValueError(f"{expected} Received: {name}={value!r}")
    return num_ops, magnitude


def _cutmix(name, value):
    if arguments.real(name, value, 0.0) > 1:
        raise ValueError(f"`{name}` must be from 0 to 1. Received: {name}={value!r}")
    return float(value)

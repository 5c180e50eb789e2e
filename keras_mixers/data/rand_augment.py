"""RandAugment: each image gets transformations of its own, all of them Keras's layers."""

import contextlib

import keras

from keras_mixers.data.rng import KeyedSeeds


class RandAugment:
    """`num_ops` transformations an image, drawn anew for each, of a strength up to `magnitude`.

    Keras's layer of this name takes the same transformations for a whole batch, and computes every
    one of them to keep two. Here a batch is dealt out among them, so each image is transformed just
    `num_ops` times. Strengths are drawn uniformly up to the published ones at `magnitude`, of 10.

    Shapes: `(N, H, W, C) -> (N, H, W, C)`, in 0..255.

    Source: "RandAugment: Practical automated data augmentation with a reduced search space", arXiv
    1909.13719; the strengths at 10: timm, `timm/data/auto_augment.py`.
    """

    def __init__(self, num_ops, magnitude, image_shape):
        self.num_ops = num_ops
        self.layers = transformations(magnitude / 10, channels=image_shape[-1])
        for layer in self.layers:
            layer.build((None, *image_shape))

    def __call__(self, images, draws):
        """Transformed images, by the seeds of `draws`."""
        import tensorflow as tf

        # A loop in the graph, whose body is set up once: an epoch begins with setting it up.
        _, images = tf.while_loop(
            lambda i, _: i < self.num_ops,
            lambda i, images: (i + 1, self.once(images, KeyedSeeds(draws.key, i))),
            [0, images],
        )
        return tf.clip_by_value(images, 0.0, 255.0)

    def once(self, images, draws):
        """Each image transformed by one of the layers."""
        import tensorflow as tf

        count = tf.shape(images)[0]
        layer_of = tf.random.stateless_uniform(
            [count], draws.next(), maxval=len(self.layers), dtype="int32"
        )
        dealt = tf.dynamic_partition(tf.range(count), layer_of, len(self.layers))
        transformed = [
            applied_to_some(layer, tf.gather(images, indices), draws)
            for layer, indices in zip(self.layers, dealt, strict=True)
        ]
        return tf.ensure_shape(tf.dynamic_stitch(dealt, transformed), images.shape)


def transformations(strength, channels):
    """Keras's layers for the published transformations; `strength` is 1 at magnitude 10."""
    layers = keras.layers
    same = {"dtype": "float32"}
    moved = {"fill_mode": "constant", "fill_value": 128.0, **same}
    shades = {"value_range": (0, 255), **same}
    found = [
        layers.RandomShear(x_factor=0.3 * strength, **moved),
        layers.RandomShear(y_factor=0.3 * strength, **moved),
        layers.RandomTranslation(0.0, 0.45 * strength, **moved),
        layers.RandomTranslation(0.45 * strength, 0.0, **moved),
        layers.RandomRotation(strength * 30 / 360, **moved),
        Brightness(0.9 * strength, **shades),
        layers.RandomContrast((0.9 * strength, 0.9 * strength), **shades),
        # 0.5 leaves the image as it is; below it blurs, above it sharpens.
        layers.RandomSharpness((0.5 - 0.45 * strength, 0.5 + 0.45 * strength), **shades),
        layers.RandomPosterization((round(8 - 4 * strength), 8), **shades),
        Solarize(strength, **shades),
        layers.AutoContrast(**shades),
        layers.Equalization(**shades),
    ]
    if channels == 3:
        found.append(layers.RandomColorDegeneration(0.9 * strength, **shades))
    return found


class Brightness(keras.layers.RandomBrightness):
    """Every shade times a factor about 1, as in the paper; Keras's layer adds a number to each."""

    def transform_images(self, images, transformation, training=True):
        factor = 1.0 + transformation["rgb_delta"] / 255.0
        return self.backend.numpy.clip(images * factor, 0.0, 255.0)


class Solarize(keras.layers.Solarization):
    """Shades above a threshold inverted; the threshold falls from 255 as the strength grows.

    Keras's layer draws thresholds from its range's lower end in 0..1 to its upper in 0..255, and so
    inverts whole images at any strength.
    """

    def __init__(self, strength, **kwargs):
        super().__init__(**kwargs)
        self.strength = strength

    def get_random_transformation(self, data, training=True, seed=None):
        drawn = super().get_random_transformation(data, training=training, seed=seed)
        drawn["thresholds"] = 255.0 * self.backend.random.uniform(
            self.backend.shape(drawn["thresholds"]), 1.0 - self.strength, 1.0, seed=seed
        )
        return drawn


def applied_to_some(layer, images, draws):
    """The layer on some images of a batch, which may be none; not all layers take none."""
    import tensorflow as tf

    return tf.cond(tf.shape(images)[0] > 0, lambda: applied(layer, images, draws), lambda: images)


def applied(layer, images, draws):
    """Images by one of Keras's random layers or by `RandAugment`, with the seeds of `draws`."""
    if isinstance(layer, RandAugment):
        return layer(images, draws)
    with in_tensorflow(layer):
        drawn = layer.get_random_transformation(images, training=True, seed=draws)
        return layer.transform_images(images, drawn, training=True)


def mixed(layer, images, labels, draws):
    """(images, labels) by one of Keras's layers that mix both, with the seeds of `draws`."""
    with in_tensorflow(layer):
        drawn = layer.get_random_transformation(images, training=True, seed=draws)
        images = layer.transform_images(images, drawn, training=True)
        return images, layer.transform_labels(labels, drawn, training=True)


@contextlib.contextmanager
def in_tensorflow(layer):
    """Have the layer compute in TensorFlow, which tf.data is on every backend."""
    layer.backend.set_backend("tensorflow")
    try:
        yield
    finally:
        layer.backend.reset()

"""RandAugment with separate transformations for each image, each of them a Keras layer."""

import contextlib

import keras

from keras_mixers.data.rng import KeyedSeeds


class RandAugment:
    """Apply `num_ops` random transformations to each image, with a strength up to `magnitude`.

    Keras's `RandAugment` applies the same transformations to a whole batch, and computes all of
    them although it keeps only two. This class splits a batch among the transformations, so each
    image is transformed exactly `num_ops` times. Strengths are drawn uniformly from 0 to a limit.
    At magnitude 10 the limits are the published ones.

    Shapes: `(N, H, W, C) -> (N, H, W, C)`, values in 0..255.

    Source: "RandAugment: Practical automated data augmentation with a reduced search space", arXiv
    1909.13719; the strengths at magnitude 10: timm, `timm/data/auto_augment.py`.
    """

    def __init__(self, num_ops, magnitude, image_shape):
        self.num_ops = num_ops
        self.layers = transformations(magnitude / 10, channels=image_shape[-1])
        for layer in self.layers:
            layer.build((None, *image_shape))

    def __call__(self, images, seeds):
        """Transformed images; `seeds` is a `KeyedSeeds`."""
        import tensorflow as tf

        # A loop in the graph, because TensorFlow then sets up its body only once. An epoch begins
        # with this setup.
        _, images = tf.while_loop(
            lambda i, _: i < self.num_ops,
            lambda i, images: (i + 1, self.transform_once(images, KeyedSeeds(seeds.key, i))),
            [0, images],
        )
        return tf.clip_by_value(images, 0.0, 255.0)

    def transform_once(self, images, seeds):
        """Each image, transformed by one of the layers."""
        import tensorflow as tf

        count = tf.shape(images)[0]
        layer_of_image = tf.random.stateless_uniform(
            [count], seeds.next(), maxval=len(self.layers), dtype="int32"
        )
        groups = tf.dynamic_partition(tf.range(count), layer_of_image, len(self.layers))
        transformed = [
            apply_layer_if_any(layer, tf.gather(images, indices), seeds)
            for layer, indices in zip(self.layers, groups, strict=True)
        ]
        return tf.ensure_shape(tf.dynamic_stitch(groups, transformed), images.shape)


def transformations(strength, channels):
    """Keras's layers for the published transformations; `strength` is 1 at magnitude 10."""
    layers = keras.layers
    geometric = {"fill_mode": "constant", "fill_value": 128.0, "dtype": "float32"}
    photometric = {"value_range": (0, 255), "dtype": "float32"}
    result = [
        layers.RandomShear(x_factor=0.3 * strength, **geometric),
        layers.RandomShear(y_factor=0.3 * strength, **geometric),
        layers.RandomTranslation(0.0, 0.45 * strength, **geometric),
        layers.RandomTranslation(0.45 * strength, 0.0, **geometric),
        layers.RandomRotation(strength * 30 / 360, **geometric),
        Brightness(0.9 * strength, **photometric),
        layers.RandomContrast((0.9 * strength, 0.9 * strength), **photometric),
        # A factor of 0.5 keeps the image. A smaller factor blurs it, a larger one sharpens it.
        layers.RandomSharpness((0.5 - 0.45 * strength, 0.5 + 0.45 * strength), **photometric),
        layers.RandomPosterization((round(8 - 4 * strength), 8), **photometric),
        Solarize(strength, **photometric),
        layers.AutoContrast(**photometric),
        layers.Equalization(**photometric),
    ]
    if channels == 3:
        result.append(layers.RandomColorDegeneration(0.9 * strength, **photometric))
    return result


class Brightness(keras.layers.RandomBrightness):
    """Multiply all values by a factor around 1, as in the paper.

    Keras's layer adds a number to all values instead.
    """

    def transform_images(self, images, transformation, training=True):
        factor = 1.0 + transformation["rgb_delta"] / 255.0
        return self.backend.numpy.clip(images * factor, 0.0, 255.0)


class Solarize(keras.layers.Solarization):
    """Invert values above a threshold, which falls from 255 as the strength grows.

    Keras's layer draws the threshold between a lower limit in 0..1 and an upper limit in 0..255. It
    therefore inverts whole images at any strength.
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


def apply_layer_if_any(layer, images, seeds):
    """Apply the layer unless there are no images, because some layers fail on an empty batch."""
    import tensorflow as tf

    return tf.cond(
        tf.shape(images)[0] > 0, lambda: apply_layer(layer, images, seeds), lambda: images
    )


def apply_layer(layer, images, seeds):
    """Images, transformed by one of Keras's random layers or by `RandAugment`."""
    if isinstance(layer, RandAugment):
        return layer(images, seeds)
    with tensorflow_backend(layer):
        drawn = layer.get_random_transformation(images, training=True, seed=seeds)
        return layer.transform_images(images, drawn, training=True)


def apply_mixer(layer, images, labels, seeds):
    """(images, labels), transformed by Keras's `MixUp` or `CutMix`."""
    with tensorflow_backend(layer):
        drawn = layer.get_random_transformation(images, training=True, seed=seeds)
        images = layer.transform_images(images, drawn, training=True)
        return images, layer.transform_labels(labels, drawn, training=True)


@contextlib.contextmanager
def tensorflow_backend(layer):
    """Let the layer compute in TensorFlow, because tf.data needs it with every Keras backend."""
    layer.backend.set_backend("tensorflow")
    try:
        yield
    finally:
        layer.backend.reset()

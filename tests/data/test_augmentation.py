"""Augmentation: what each transformation does to a batch of training images."""

import numpy as np
import pytest
import tensorflow as tf

import keras_mixers as km
from keras_mixers.data.augmentation import Augmenter, random_crop
from keras_mixers.data.rand_augment import apply_layer, transformations
from keras_mixers.data.rng import KeyedSeeds

AS_BYTES = km.Preprocessing((12, 16), 1.0, "bilinear", 0.0, 1 / 255)
BAD = {
    "crop_scale": [0.5, (0, 1), (0.9, 0.5), (0.5, 1.5), "ab", (True, 1)],
    "flip": [1, None],
    "translation": [-0.1, 1, None],
    "rand_augment": [2, (0, 5), (2, 11), (2, -1), (1.5, 5), "ab"],
    "erasing": [-0.1, 1, "0"],
    "mixup": [-1, None, float("nan")],
    "cutmix": [-1, 1.5],
}


def photo(count=32, channels=3):
    return np.random.RandomState(0).randint(0, 256, (count, 12, 16, channels)).astype("uint8")


def augmented(images, labels=None, key=(0,), preprocessing=AS_BYTES, **arguments):
    augment = Augmenter(km.data.Augmentation(**arguments), preprocessing, images.shape[1:], 4)
    labels = np.arange(len(images)) % 4 if labels is None else labels
    run = tf.function(lambda x, y: augment(x, y, KeyedSeeds(*key)))
    return [part.numpy() for part in run(tf.constant(images), tf.constant(labels))]


@pytest.mark.parametrize(("name", "bad"), [(name, bad) for name in BAD for bad in BAD[name]])
def test_augmentation_raises_on_invalid_argument(name, bad):
    with pytest.raises((ValueError, TypeError), match=f"`{name}` must"):
        km.data.Augmentation(**{name: bad})


def test_default_augmentation_changes_nothing():
    images = photo()
    result, labels = augmented(images)
    np.testing.assert_allclose(result, images, atol=1e-4)
    np.testing.assert_array_equal(labels, np.arange(32) % 4)


def test_flip_mirrors_half_of_the_images():
    images = photo(200)
    flipped, _ = augmented(images, flip=True)
    pairs = list(zip(flipped, images, strict=True))
    mirrored = [np.allclose(after, before[:, ::-1], atol=1e-4) for after, before in pairs]
    kept = [np.allclose(after, before, atol=1e-4) for after, before in pairs]
    np.testing.assert_array_equal(mirrored, np.logical_not(kept))
    assert 70 < sum(mirrored) < 130


def test_translation_shifts_each_image_differently():
    ramp = np.tile(np.arange(0, 160, 10, dtype="uint8")[None, None, :, None], (50, 12, 1, 1))
    shifted, _ = augmented(ramp, translation=0.25)
    shifts = (shifted[:, 6, 8, 0] - 80) / 10
    assert np.abs(shifts).max() <= 4
    assert np.abs(shifts).max() > 3
    assert len(np.unique(np.round(shifts, 2))) > 40


def test_erasing_changes_a_fraction_of_images():
    images = np.full((400, 12, 16, 1), 128, "uint8")
    erased, _ = augmented(images, erasing=0.25)
    changed = (np.abs(erased - 128) > 1).any((1, 2, 3))
    assert 60 < changed.sum() < 140


@pytest.mark.parametrize("mixer", ["mixup", "cutmix"])
def test_mixer_mixes_labels_like_images(mixer):
    """Each image is 240 in the channel of its class, so its mean gives the weight of each class."""
    labels = np.arange(64) % 4
    images = np.zeros((64, 12, 16, 4), "uint8")
    images[np.arange(64), :, :, labels] = 240
    mixed, soft = augmented(images, labels, **{mixer: 1.0})
    np.testing.assert_allclose(soft.sum(-1), 1, atol=1e-5)
    # CutMix rounds its rectangle to whole pixels, but not its label.
    np.testing.assert_allclose(
        mixed.mean((1, 2)) / 240, soft, atol={"mixup": 1e-5}.get(mixer, 0.12)
    )
    assert 0.1 < (soft.max(-1) < 0.95).mean()


@pytest.mark.slow
def test_batch_gets_either_mixup_or_cutmix():
    images = photo()
    pixels = {tuple(pixel) for pixel in images.reshape(-1, 3)}
    kinds = set()
    for number in range(12):
        mixed, _ = augmented(images, key=(number,), mixup=1.0, cutmix=1.0)
        is_original = [tuple(np.rint(pixel)) in pixels for pixel in mixed.reshape(-1, 3)]
        kinds.add("cutmix" if all(is_original) else "mixup")
    assert kinds == {"mixup", "cutmix"}


@pytest.mark.parametrize("channels", [1, 3])
def test_rand_augment_transforms_each_image_differently(channels):
    images = photo(64, channels)
    transformed, _ = augmented(images, rand_augment=(1, 10))
    assert transformed.min() >= 0
    assert transformed.max() <= 255
    changed = (np.abs(transformed - images) > 1).any((1, 2, 3))
    assert 0.6 < changed.mean() <= 1
    # Equal images become many different ones.
    equal = np.repeat(images[:1], 64, 0)
    results = {image.tobytes() for image in augmented(equal, rand_augment=(1, 10))[0]}
    assert len(results) > 30


@pytest.mark.parametrize("index", range(len(transformations(1.0, 3))))
def test_transformation_grows_with_magnitude(index):
    images = tf.constant(photo(64), "float32")
    distances = []
    for strength in (0.1, 1.0):
        layer = transformations(strength, 3)[index]
        layer.build((None, 12, 16, 3))
        result = tf.function(lambda x, layer=layer: apply_layer(layer, x, KeyedSeeds(1)))(images)
        distances.append(float(tf.reduce_mean(tf.abs(result - images))))
    without_magnitude = {"AutoContrast", "Equalization"}
    if type(layer).__name__ in without_magnitude:
        np.testing.assert_allclose(*distances)
    else:
        assert distances[0] < 0.6 * distances[1], distances
        assert distances[1] > 1


def test_solarize_keeps_values_below_threshold():
    ramp = tf.tile(tf.range(256.0)[None, :, None, None], (100, 1, 2, 1))
    layer = next(t for t in transformations(0.5, 1) if type(t).__name__ == "Solarize")
    result = tf.function(lambda x: apply_layer(layer, x, KeyedSeeds(2)))(ramp).numpy()
    values = result[:, :, 0, 0]
    np.testing.assert_allclose(values[:, :127], np.tile(np.arange(127.0), (100, 1)))
    assert (values[:, 255] == 0).all()


def test_augmenter_depends_only_on_key():
    images, labels = tf.constant(photo()), tf.range(32) % 4
    augment = Augmenter(
        km.data.Augmentation(rand_augment=(2, 9), mixup=0.5), AS_BYTES, (12, 16, 3), 4
    )
    run = tf.function(lambda *key: augment(images, labels, KeyedSeeds(*key))[0])
    keys = ((1, 2, 3), (1, 2, 3), (1, 2, 4))
    first, again, other = (run(*map(tf.constant, key)).numpy() for key in keys)
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_random_crop_is_part_of_the_image():
    rows = np.tile(np.arange(0, 200, 5, dtype="uint8")[:, None, None], (1, 60, 1))
    heights = []
    for number in range(40):
        crop = random_crop(tf.constant(rows), km.Preprocessing(20), (0.2, 0.5), KeyedSeeds(number))
        assert crop.shape == (20, 20, 1)
        column = crop.numpy()[:, 10, 0].astype(float)
        assert (np.diff(column) >= 0).all()
        heights.append((column[-1] - column[0]) / 5 + 1)
    assert len(set(heights)) > 5
    # The area is at most half of the image, with an aspect ratio of at most 3:4.
    assert max(heights) <= 1 + (0.5 * 40 * 60 * 4 / 3) ** 0.5


@pytest.mark.slow
def test_random_crops_differ_between_epochs(digits_folder):
    crops = km.data.Augmentation(crop_scale=(0.3, 1.0))
    train, _, _ = km.data.load("digits", image_size=16, augmentation=crops)
    first, second = (np.concatenate([images for images, _ in train]) for _ in range(2))
    assert first.shape == (1437, 16, 16, 1)
    assert not np.array_equal(first, second)
    plain = km.data.load("digits", image_size=16)[0]
    assert np.abs(first - np.concatenate([images for images, _ in plain])).mean() > 0.05

"""What training images go through: each transformation by its meaning, on whole batches."""

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
def test_a_bad_argument_is_named(name, bad):
    with pytest.raises((ValueError, TypeError), match=f"`{name}` must"):
        km.data.Augmentation(**{name: bad})


def test_nothing_is_done_by_default():
    images = photo()
    seen, labels = augmented(images)
    np.testing.assert_allclose(seen, images, atol=1e-4)
    np.testing.assert_array_equal(labels, np.arange(32) % 4)


def test_half_of_the_images_are_mirrored():
    images = photo(200)
    seen, _ = augmented(images, flip=True)
    mirrored = [np.allclose(s, i[:, ::-1], atol=1e-4) for s, i in zip(seen, images, strict=True)]
    kept = [np.allclose(s, i, atol=1e-4) for s, i in zip(seen, images, strict=True)]
    np.testing.assert_array_equal(mirrored, np.logical_not(kept))
    assert 70 < sum(mirrored) < 130


def test_images_are_shifted_each_on_its_own():
    ramp = np.tile(np.arange(0, 160, 10, dtype="uint8")[None, None, :, None], (50, 12, 1, 1))
    seen, _ = augmented(ramp, translation=0.25)
    shifts = (seen[:, 6, 8, 0] - 80) / 10
    assert np.abs(shifts).max() <= 4
    assert np.abs(shifts).max() > 3
    assert len(np.unique(np.round(shifts, 2))) > 40


def test_noise_replaces_a_rectangle_in_a_share_of_images():
    images = np.full((400, 12, 16, 1), 128, "uint8")
    seen, _ = augmented(images, erasing=0.25)
    touched = (np.abs(seen - 128) > 1).any((1, 2, 3))
    assert 60 < touched.sum() < 140


@pytest.mark.parametrize("mixer", ["mixup", "cutmix"])
def test_labels_are_mixed_as_the_images_are(mixer):
    """Images that show their class in every pixel: the mean says what share each class has."""
    labels = np.arange(64) % 4
    images = np.zeros((64, 12, 16, 4), "uint8")
    images[np.arange(64), :, :, labels] = 240
    seen, shares = augmented(images, labels, **{mixer: 1.0})
    np.testing.assert_allclose(shares.sum(-1), 1, atol=1e-5)
    # CutMix's rectangle is cut to whole pixels, and its label is not
    np.testing.assert_allclose(
        seen.mean((1, 2)) / 240, shares, atol={"mixup": 1e-5}.get(mixer, 0.12)
    )
    assert 0.1 < (shares.max(-1) < 0.95).mean()


def test_a_batch_has_one_kind_of_mixture():
    images = photo()
    pixels = {tuple(pixel) for pixel in images.reshape(-1, 3)}
    kinds = set()
    for number in range(12):
        seen, _ = augmented(images, key=(number,), mixup=1.0, cutmix=1.0)
        of_one_image = [tuple(np.rint(pixel)) in pixels for pixel in seen.reshape(-1, 3)]
        kinds.add("cutmix" if all(of_one_image) else "mixup")
    assert kinds == {"mixup", "cutmix"}


@pytest.mark.parametrize("channels", [1, 3])
def test_rand_augment_deals_a_batch_out(channels):
    images = photo(64, channels)
    seen, _ = augmented(images, rand_augment=(1, 10))
    assert seen.min() >= 0
    assert seen.max() <= 255
    changed = (np.abs(seen - images) > 1).any((1, 2, 3))
    assert 0.6 < changed.mean() <= 1
    # each on its own: equal images come out in many ways
    equal = np.repeat(images[:1], 64, 0)
    ways = {image.tobytes() for image in augmented(equal, rand_augment=(1, 10))[0]}
    assert len(ways) > 30


@pytest.mark.parametrize("index", range(len(transformations(1.0, 3))))
def test_each_transformation_grows_with_its_magnitude(index):
    images = tf.constant(photo(64), "float32")
    distances = []
    for strength in (0.1, 1.0):
        layer = transformations(strength, 3)[index]
        layer.build((None, 12, 16, 3))
        moved = tf.function(lambda x, layer=layer: apply_layer(layer, x, KeyedSeeds(1)))(images)
        distances.append(float(tf.reduce_mean(tf.abs(moved - images))))
    always = {"AutoContrast", "Equalization"}  # these have no magnitude
    if type(layer).__name__ in always:
        np.testing.assert_allclose(*distances)
    else:
        assert distances[0] < 0.6 * distances[1], distances
        assert distances[1] > 1


def test_solarizing_spares_the_shades_below_its_threshold():
    ramp = tf.tile(tf.range(256.0)[None, :, None, None], (100, 1, 2, 1))
    layer = next(t for t in transformations(0.5, 1) if type(t).__name__ == "Solarize")
    seen = tf.function(lambda x: apply_layer(layer, x, KeyedSeeds(2)))(ramp).numpy()[:, :, 0, 0]
    np.testing.assert_allclose(seen[:, :127], np.tile(np.arange(127.0), (100, 1)))
    assert (seen[:, 255] == 0).all()


def test_draws_are_a_function_of_the_key():
    images, labels = tf.constant(photo()), tf.range(32) % 4
    augment = Augmenter(
        km.data.Augmentation(rand_augment=(2, 9), mixup=0.5), AS_BYTES, (12, 16, 3), 4
    )
    run = tf.function(lambda *key: augment(images, labels, KeyedSeeds(*key))[0])
    keys = ((1, 2, 3), (1, 2, 3), (1, 2, 4))
    first, again, other = (run(*map(tf.constant, key)).numpy() for key in keys)
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_a_random_crop_is_a_part_of_the_image():
    rows = np.tile(np.arange(0, 200, 5, dtype="uint8")[:, None, None], (1, 60, 1))
    heights = []
    for number in range(40):
        crop = random_crop(tf.constant(rows), km.Preprocessing(20), (0.2, 0.5), KeyedSeeds(number))
        assert crop.shape == (20, 20, 1)
        column = crop.numpy()[:, 10, 0].astype(float)
        assert (np.diff(column) >= 0).all()
        heights.append((column[-1] - column[0]) / 5 + 1)
    assert len(set(heights)) > 5
    # the area is at most a half, of a shape up to 3:4
    assert max(heights) <= 1 + (0.5 * 40 * 60 * 4 / 3) ** 0.5


def test_crops_come_from_the_images_as_they_are(digits_folder):
    crops = km.data.Augmentation(crop_scale=(0.3, 1.0))
    train, _, _ = km.data.load("digits", image_size=16, augmentation=crops)
    first, second = (np.concatenate([images for images, _ in train]) for _ in range(2))
    assert first.shape == (1437, 16, 16, 1)
    assert not np.array_equal(first, second)
    plain = km.data.load("digits", image_size=16)[0]
    assert np.abs(first - np.concatenate([images for images, _ in plain])).mean() > 0.05

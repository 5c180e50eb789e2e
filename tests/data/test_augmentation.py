"""Augmentation: what each transformation does to a batch of training images."""

import math

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image, ImageEnhance, ImageOps

import keras_mixers as km
from keras_mixers.data import rand_augment
from keras_mixers.data.augmenter import Augmenter, random_crop
from keras_mixers.data.randomness import RowRandom, fold_in

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


def augmented(images, labels=None, key=0, preprocessing=AS_BYTES, rows=None, **arguments):
    """Augmented images and labels; `rows` are the rows of a batch that a process has."""
    augment = Augmenter(km.data.Augmentation(**arguments), preprocessing, images.shape[-1], 4)
    labels = np.arange(len(images)) % 4 if labels is None else labels
    rows = np.arange(len(images)) if rows is None else rows
    run = tf.function(
        lambda x, y: augment(x, y, RowRandom(fold_in(key), rows, len(images))), autograph=False
    )
    return [part.numpy() for part in run(tf.constant(images[rows]), tf.constant(labels[rows]))]


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
    np.testing.assert_allclose(mixed.mean((1, 2)) / 240, soft, atol=1e-5)
    assert 0.1 < (soft.max(-1) < 0.95).mean()
    assert (soft[0::2, 0] + soft[0::2, 1] > 1 - 1e-5)[::2].all(), "neighbours are mixed"


@pytest.mark.slow
def test_batch_gets_either_mixup_or_cutmix():
    images = photo()
    pixels = {tuple(pixel) for pixel in images.reshape(-1, 3)}
    kinds = set()
    for number in range(12):
        mixed, _ = augmented(images, key=number, mixup=1.0, cutmix=1.0)
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


def transformed(images, name, amount):
    """The images, transformed by one transformation with a strength and a sign."""
    groups = rand_augment.RandAugment(1, 10, images.shape[-1]).groups
    names, transform = next(group for group in groups if name in group[0])
    parts = names.index(name), np.float32(abs(amount)), np.float32(math.copysign(1, amount))
    repeated = [tf.repeat(tf.constant(part), len(images)) for part in parts]
    return transform(tf.constant(images, "float32"), *repeated).numpy()


PILLOW = {
    "Brightness": lambda x, a: ImageEnhance.Brightness(x).enhance(1 + 0.9 * a),
    "Contrast": lambda x, a: ImageEnhance.Contrast(x).enhance(1 + 0.9 * a),
    "Color": lambda x, a: ImageEnhance.Color(x).enhance(1 + 0.9 * a),
    "Sharpness": lambda x, a: ImageEnhance.Sharpness(x).enhance(1 + 0.9 * a),
    "Posterize": lambda x, a: ImageOps.posterize(x, 8 - int(5 * abs(a))),
    "Solarize": lambda x, a: ImageOps.solarize(x, 255 * (1 - abs(a))),
    "AutoContrast": lambda x, a: ImageOps.autocontrast(x),
    "Equalize": lambda x, a: ImageOps.equalize(x),
}


@pytest.mark.parametrize("amount", [-0.7, 0.35])
@pytest.mark.parametrize("name", PILLOW)
def test_transformation_equals_pillow(name, amount):
    """Pillow rounds some intermediate values to bytes, which makes a difference below 2."""
    wide = np.random.RandomState(1).randint(0, 256, (2, 32, 32, 3)).astype("uint8")
    for images in (wide, wide // 2 + 40):
        expected = [np.asarray(PILLOW[name](Image.fromarray(x), amount)) for x in images]
        result = np.clip(transformed(images, name, amount), 0, 255)
        np.testing.assert_allclose(result, expected, atol=2)
    assert np.abs(result - images).max() >= 1


@pytest.mark.parametrize(
    ("name", "matrix"),
    [
        ("ShearX", (1, 0.15, 0, 0, 1, 0)),
        ("ShearY", (1, 0, 0, 0.15, 1, 0)),
        ("TranslateX", (1, 0, 0.225 * 16, 0, 1, 0)),
        ("TranslateY", (1, 0, 0, 0, 1, 0.225 * 12)),
    ],
)
def test_geometric_transformation_maps_coordinates(name, matrix):
    """On a plane, an affine transformation of the coordinates is known without interpolation."""
    y, x = np.mgrid[:12, :16].astype("float32")
    plane = (3 * x + 5 * y)[None, ..., None]
    a, b, c, d, e, f = matrix
    source_x, source_y = a * x + b * y + c, d * x + e * y + f
    inside = (source_x >= 0) & (source_x <= 15) & (source_y >= 0) & (source_y <= 11)
    result = transformed(plane, name, 0.5)[0, ..., 0]
    np.testing.assert_allclose(result[inside], (3 * source_x + 5 * source_y)[inside], atol=1e-3)
    far = (source_x < -1) | (source_x > 16) | (source_y < -1) | (source_y > 12)
    assert (result[far] == 128).all()


def test_rotation_turns_around_the_centre():
    disc = np.hypot(*(np.mgrid[:13, :17] - np.array([6, 8]).reshape(2, 1, 1)))[None, ..., None]
    turned = transformed(disc.astype("float32"), "Rotate", 1.0)
    inside = disc < 5.5
    np.testing.assert_allclose(turned[inside], disc[inside], atol=0.4)
    edge = np.zeros((1, 13, 17, 1), "float32")
    edge[:, :, 9:] = 255
    # By 30 degrees, the edge is at columns that differ by the tangent for each row.
    columns = (transformed(edge, "Rotate", 1.0)[0, 2:11, :, 0] < 128).sum(-1)
    np.testing.assert_allclose(np.abs(np.diff(columns)).mean(), math.tan(math.pi / 6), atol=0.1)


@pytest.mark.parametrize("channels", [1, 3])
def test_transformation_of_no_images_is_empty(channels):
    for names, _ in rand_augment.RandAugment(1, 10, channels).groups:
        assert transformed(photo(0, channels), names[0], 0.5).shape == (0, 12, 16, channels)


ALL = {
    "flip": True,
    "translation": 0.2,
    "rand_augment": (2, 9),
    "erasing": 0.5,
    "mixup": 0.5,
    "cutmix": 1.0,
}


def test_augmentation_depends_only_on_key():
    first, again, other = (augmented(photo(), key=key, **ALL)[0] for key in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_augmentation_of_a_share_equals_that_of_the_batch():
    """A process that has some rows of a batch makes of them what one process makes of the batch."""
    images, labels = augmented(photo(), **ALL)
    for rows in (np.arange(8), np.arange(8, 32)):
        share, share_labels = augmented(photo(), rows=rows, **ALL)
        np.testing.assert_array_equal(share, images[rows])
        np.testing.assert_array_equal(share_labels, labels[rows])


def test_random_crop_is_part_of_the_image():
    rows = np.tile(np.arange(0, 200, 5, dtype="uint8")[:, None, None], (1, 60, 1))
    heights = []
    for number in range(40):
        crop = random_crop(tf.constant(rows), km.Preprocessing(20), (0.2, 0.5), (number, 0))
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

"""Arrays and datasets of a user: the same batches as from `load`, and a clear error for others."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_mixers as km
from keras_mixers.data import user_arrays, user_dataset
from keras_mixers.data.batches import read_epoch
from keras_mixers.data.in_order import InOrder
from keras_mixers.data.order import Order

RANDOM = np.random.RandomState(0)
IMAGES = RANDOM.randint(0, 256, (40, 6, 5, 3)).astype("uint8")
LABELS = np.arange(40) % 4
WEIGHTS = RANDOM.rand(40).astype("float32")
MIXED = km.data.Augmentation(flip=True, mixup=0.5)
DATASET = tf.data.Dataset.from_tensor_slices((IMAGES, LABELS, WEIGHTS))
NAMES = ["a", "b", "c", "d"]


def batches(dataset):
    return list(dataset.as_numpy_iterator())


def assert_equal(found, expected):
    assert len(found) == len(expected) > 0
    for batch, expected_batch in zip(found, expected, strict=True):
        for part, expected_part in zip(batch, expected_batch, strict=True):
            np.testing.assert_array_equal(part, expected_part)


def classes_of(dataset):
    return [labels.tolist() for _, labels, *_ in batches(dataset)]


@pytest.fixture
def nothing_fits(monkeypatch):
    """Read datasets in their order, as if they did not fit into memory."""
    monkeypatch.setattr(user_dataset, "KEPT_BYTES", 0)


def test_arrays_give_the_batches_of_load(digits_folder):
    arguments = {"image_size": 12, "augmentation": MIXED, "seed": 3, "start": (1, 20)}
    expected = km.data.load("digits", **arguments)
    arrays = [
        [np.stack(part) for part in zip(*km.data.images("digits", split), strict=True)]
        for split in ("train", "validation")
    ]
    found = km.data.prepare(arrays[0], validation=arrays[1], **arguments)
    assert found[2].input_shape == expected[2].input_shape == (12, 12, 1)
    assert found[2].class_names == expected[2].class_names
    assert (found[2].num_train, found[2].num_validation) == (1437, 360)
    assert (found[2].validation_source, found[2].multi_label) == ("validation", False)
    for part, expected_part in zip(found[:2], expected, strict=False):
        assert_equal(batches(part), batches(expected_part))


def test_dataset_in_memory_gives_the_batches_of_arrays():
    arguments = {"batch_size": 8, "augmentation": MIXED}
    train, _, info = km.data.prepare((IMAGES, LABELS, WEIGHTS), **arguments)
    found = km.data.prepare(DATASET, **arguments)
    assert found[2].num_train == info.num_train == 36
    assert_equal(batches(found[0]), batches(train))


@pytest.mark.parametrize(
    "change",
    [
        lambda image, label, weight: (tf.cast(image, "float32") + 0.4, label, weight),
        lambda image, label, weight: (image, tf.one_hot(label, 4), weight),
        lambda image, *rest: (tf.io.decode_png(tf.io.encode_png(image), 3), *rest),
    ],
    ids=["floats", "one-hot", "unknown size"],
)
def test_dataset_in_another_form_has_the_same_images(change):
    images = user_dataset.images_of_dataset("data", DATASET.map(change), False, None)
    pixels, labels = images.read_batch(np.arange(40))
    np.testing.assert_array_equal(pixels, IMAGES)
    np.testing.assert_array_equal(labels, LABELS)
    np.testing.assert_array_equal(images.weights, WEIGHTS)


def test_validation_is_held_out_at_random_but_fixed():
    images = np.arange(50, dtype="uint8")[:, None, None] + np.zeros((50, 2, 2), "uint8")
    parts = []
    for seed in (0, 1):
        data = images, np.arange(50), np.arange(50)
        parts += km.data.prepare(data, seed=seed, validation_fraction=0.2)[:2]
    train, held_out, _, again = (np.concatenate(classes_of(part)) for part in parts)
    np.testing.assert_array_equal(held_out, again)
    assert sorted([*train, *held_out]) == list(range(50))
    assert len(held_out) == 10
    assert held_out.tolist() != list(range(10))
    assert 15 < held_out.mean() < 35, "not the images of the first or the last classes"
    for part in parts[:2]:
        (pixels, labels, weights), *_ = batches(part)
        np.testing.assert_allclose((pixels[:, 0, 0, 0] + 1) * 127.5, labels, atol=1e-4)
        np.testing.assert_array_equal(weights, labels)


@pytest.mark.parametrize(("fits", "crop_scale"), [(True, None), (False, (0.5, 1))])
def test_images_in_different_sizes_are_resized_or_cropped(fits, crop_scale, monkeypatch):
    def examples():
        for i in range(12):
            yield np.full((4 + i % 3, 5, 3), 20 * i, "uint8"), i % 2

    spec = tf.TensorSpec((None, None, 3), "uint8"), tf.TensorSpec((), "int64")
    dataset = tf.data.Dataset.from_generator(examples, output_signature=spec)
    dataset = dataset.apply(tf.data.experimental.assert_cardinality(12))
    if not fits:
        monkeypatch.setattr(user_dataset, "KEPT_BYTES", 0)
    train, _, _ = km.data.prepare(
        dataset,
        image_size=4,
        batch_size=5,
        validation=dataset,
        class_names=["a", "b"],
        augmentation=km.data.Augmentation(crop_scale),
    )
    found = batches(train)
    values = np.round((np.concatenate([images for images, _ in found]) + 1) * 127.5)
    assert values.shape == (12, 4, 4, 3)
    assert (values == values[:, :1, :1, :1]).all()
    numbers = values[:, 0, 0, 0] / 20
    assert sorted(numbers) == list(range(12))
    np.testing.assert_array_equal(np.concatenate([each for _, each in found]), numbers % 2)
    with pytest.raises(ValueError, match="`image_size` must be given, because the images differ"):
        km.data.prepare(dataset, validation=dataset, class_names=["a", "b"])


def test_large_dataset_is_shuffled_by_epoch_and_resumes(nothing_fits):
    keras.utils.set_random_seed(1)  # the global seed, which must have no effect
    arguments = {"batch_size": 8, "class_names": NAMES, "validation": DATASET.take(9)}
    arguments["augmentation"] = km.data.Augmentation(mixup=0.5)
    train, validation, info = km.data.prepare(DATASET, **arguments)
    first, second = batches(train), batches(train)
    assert not np.array_equal(first[0][0], second[0][0])
    assert (info.num_train, info.num_validation, len(train)) == (40, 9, 5)
    keras.utils.set_random_seed(2)
    resumed = km.data.prepare(DATASET, start=(1, 2), **arguments)[0]
    assert_equal(batches(resumed), second[2:])
    found = [(labels, weights) for _, labels, weights in batches(validation)]
    assert_equal(found, [(LABELS[:8], WEIGHTS[:8]), (LABELS[8:9], WEIGHTS[8:9])])


def test_shares_of_a_large_dataset_make_up_its_batches():
    images = InOrder(DATASET.take(13), 13, IMAGES.shape[1:])

    def weights_of(shard, epoch=2, first_batch=1):
        place = (tf.constant(number, tf.int64) for number in (epoch, first_batch))
        read = read_epoch(images, Order(13, 4, seed=3, shard=shard), *place)
        return [batch[-1].tolist() for batch in batches(read)]

    whole, *shares = map(weights_of, [(0, 1), (0, 2), (1, 2)])
    orders = [np.concatenate(weights_of((0, 1), epoch, 0)).tolist() for epoch in (2, 3)]
    assert orders[0] != orders[1]
    assert sorted(orders[0]) == sorted(orders[1]) == sorted(WEIGHTS[:13].tolist())
    assert [len(each) for each in whole] == [4, 4, 1]
    assert [one + other for one, other in zip(*shares, strict=True)] == whole


def test_epoch_reads_each_image_of_a_large_dataset_once(nothing_fits):
    """The setup of an iterator has no batch, and must not read the dataset to find none."""
    read = []

    def examples():
        for i in range(8):
            read.append(i)
            yield IMAGES[i], LABELS[i]

    spec = tf.TensorSpec((6, 5, 3), "uint8"), tf.TensorSpec((), "int64")
    dataset = tf.data.Dataset.from_generator(examples, output_signature=spec)
    dataset = dataset.apply(tf.data.experimental.assert_cardinality(8))
    train = km.data.prepare(dataset, batch_size=3, validation=dataset, class_names=NAMES)[0]
    read.clear()
    assert len(list(train)) == 3
    assert sorted(read) == list(range(8))


def test_labels_in_all_forms_are_the_same():
    one_hot = np.eye(4)[LABELS]
    for labels in (LABELS[:, None], LABELS.astype("float32"), one_hot, one_hot.tolist()):
        found = user_arrays.images_of_arrays("data", (IMAGES, labels), False)
        assert (found.labels().tolist(), found.num_classes) == (LABELS.tolist(), None)
    for data in ((IMAGES, np.eye(5)[LABELS]), DATASET.map(lambda x, y, _: (x, tf.one_hot(y, 5)))):
        assert km.data.prepare(data)[2].class_names == ("0", "1", "2", "3", "4")
    train, _, info = km.data.prepare((IMAGES, one_hot), multi_label=True)
    assert info.multi_label
    assert info.class_names == ("0", "1", "2", "3")
    (_, labels), *_ = batches(train)
    assert labels.dtype == "float32"
    assert labels.shape == (36, 4)
    assert (labels.sum(axis=1) == 1).all()


def test_multi_hot_labels_are_mixed(nothing_fits):
    labels = np.random.RandomState(1).randint(0, 2, (40, 4))
    dataset = tf.data.Dataset.from_tensor_slices((IMAGES, labels))
    arguments = {"multi_label": True, "validation": dataset, "class_names": NAMES}
    mixup = km.data.Augmentation(mixup=0.5)
    train, validation, info = km.data.prepare(dataset, augmentation=mixup, **arguments)
    assert info.multi_label
    mixed, plain = (batches(part)[0][1] for part in (train, validation))
    np.testing.assert_array_equal(plain, labels)
    assert ((mixed > 0) & (mixed < 1)).any()
    # Pairs of neighbours are mixed both ways, so that the mean changes only at random.
    assert abs(mixed.mean() - labels.mean()) < 0.1


@pytest.mark.parametrize(
    ("data", "arguments", "message"),
    [
        (IMAGES, {}, r"`data` must be arrays \(images, labels\).*a ndarray"),
        ((IMAGES,), {}, "`data` must be arrays.*a tuple of 1"),
        ((IMAGES[:, 0, 0], LABELS), {}, r"images of `data` must have the shape.*\(40, 3\)"),
        ((IMAGES / 255, LABELS), {}, "images of `data` must be bytes.*at most 1"),
        ((IMAGES.astype("int32") * 9, LABELS), {}, "images of `data` must be.*from 0 to"),
        ((IMAGES * np.nan, LABELS), {}, "images of `data` must be bytes.*nan"),
        (([IMAGES[0], IMAGES[0, :2]], [0, 1]), {}, "images of `data` must be an array"),
        ((IMAGES, LABELS[:3]), {}, r"labels of `data` must have the shape \(40,\).*\(3,\)"),
        ((IMAGES, LABELS + 0.5), {}, "labels of `data` must be class numbers.*0.5"),
        ((IMAGES, LABELS - 1), {}, "labels of `data` must be class numbers.*Received: -1"),
        ((IMAGES, LABELS + 10**9), {}, "labels of `data` must be class numbers.*1000000000"),
        ((IMAGES, np.where(LABELS, LABELS, np.inf)), {}, "labels of `data` must be.*inf"),
        ((IMAGES, LABELS.astype(str)), {}, "labels of `data` must be an array of numbers"),
        ((IMAGES, np.ones((40, 2))), {}, "labels of `data` must be.*pass multi_label=True"),
        ((IMAGES, LABELS), {"multi_label": True}, r"must have the shape \(40, num_classes\)"),
        ((IMAGES, np.full((40, 2), 0.5)), {"multi_label": True}, "labels of `data` must be 0 or 1"),
        ((IMAGES, LABELS, WEIGHTS[:2]), {}, r"weights of `data` must have the shape \(40,\)"),
        ((IMAGES, LABELS, -WEIGHTS), {}, "weights of `data` must be at least 0"),
        ((IMAGES, LABELS, 0 * WEIGHTS), {}, "weights of `data` must be.*one above 0"),
        ((IMAGES, LABELS), {"class_names": NAMES[:2]}, "`class_names` must be 4 strings"),
        ((IMAGES, np.eye(5)[LABELS]), {"class_names": NAMES}, "`class_names` must be 5 strings"),
        ((IMAGES, LABELS), {"class_names": "abcd"}, "`class_names` must be different strings"),
        ((IMAGES, LABELS), {"class_names": ["a"] * 4}, "`class_names` must be different strings"),
        ((IMAGES[:1], [0]), {}, "`data` must have more images than are held out.*1 image"),
        ((IMAGES, LABELS), {"batch_size": 0}, "`batch_size` must"),
        ((IMAGES, LABELS), {"start": (0, 1)}, "`start` must be.*from 0 to 0"),
        (
            (IMAGES, LABELS),
            {"validation": (IMAGES, LABELS), "validation_fraction": 0.1},
            "`validation_fraction` must be None if `validation`",
        ),
        (
            (IMAGES, LABELS),
            {"validation": (IMAGES[..., :1], LABELS), "image_size": 4},
            "`validation` must have as many channels",
        ),
        (DATASET.batch(4), {}, r"`data` must be a dataset of single examples.*`\.unbatch\(\)`"),
        (DATASET.repeat(), {}, "`data` must be finite"),
        (DATASET.take(0), {}, "`data` must have at least one image"),
        (DATASET.map(lambda *parts: parts[0]), {}, "`data` must be a dataset of single examples"),
        (
            DATASET.map(lambda image, *rest: (tf.cast(image, "float32") / 255, *rest)),
            {},
            "images of `data` must be bytes.*at most 1",
        ),
    ],
)
def test_prepare_raises_on_invalid_data(data, arguments, message):
    with pytest.raises((ValueError, TypeError), match=message):
        km.data.prepare(data, **arguments)


@pytest.mark.parametrize(
    ("dataset", "arguments", "message"),
    [
        (DATASET.filter(lambda *_: True), {}, r"`data` must know its length.*assert_cardinality"),
        (DATASET, {"class_names": None}, "`class_names` must be given"),
        (DATASET, {"validation": None}, "`validation` must be given"),
        (DATASET, {"class_weight": "balanced"}, "`class_weight` must be None or a dict"),
        (DATASET, {"class_names": NAMES[:3]}, "A label of `data` must be one of 3 classes"),
        (DATASET.map(lambda x, y, w: (x, y, -w)), {}, "A weight of `data` must be at least 0"),
        (DATASET.map(lambda x, y, w: (tf.cast(x, "int32") * 9, y, w)), {}, "images of `data` must"),
    ],
)
def test_large_dataset_raises_if_it_is_invalid(dataset, arguments, message, nothing_fits):
    arguments = {"class_names": NAMES, "validation": (IMAGES, LABELS % 3), **arguments}
    with pytest.raises((ValueError, tf.errors.InvalidArgumentError), match=message):
        batches(km.data.prepare(dataset, **arguments)[0])

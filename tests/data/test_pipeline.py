"""The input pipeline: order, shares, several iterations, random access, and what it leaves."""

import argparse
import dataclasses
import gc
import os
import pathlib
import subprocess
import sys
import threading
import time
import weakref

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

import keras_mixers as km
from keras_mixers.data import random_access, sources, streams
from keras_mixers.data.batches import changed_batches, read_epoch
from keras_mixers.data.epochs import with_cardinality
from keras_mixers.data.order import Order
from keras_mixers.data.random_access import from_arrays

EVERYTHING = km.data.Augmentation(
    flip=True, translation=0.1, rand_augment=(2, 9), erasing=0.5, mixup=0.5, cutmix=1.0
)


def batches(dataset):
    return list(dataset.as_numpy_iterator())


def labels_of(dataset):
    return np.concatenate([labels for _, labels in batches(dataset)])


@pytest.fixture
def photos(tmp_path):
    """A folder of 24 images in different sizes, in two classes.

    They are JPEG files, because TensorFlow sets up the decoder of all other formats in more time.
    """
    random = np.random.RandomState(0)
    for i in range(24):
        file = tmp_path / "ab"[i % 2] / f"{i}.jpg"
        file.parent.mkdir(exist_ok=True)
        pixels = random.randint(0, 256, (8 + i, 40 - i, 3)).astype("uint8")
        Image.fromarray(pixels).save(file)
    return tmp_path


def test_epoch_depends_on_seed_and_number_only(digits_folder):
    def labels_of_epochs(count, **arguments):
        train = km.data.load("digits", **arguments)[0]
        return [labels_of(train) for _ in range(count)]

    keras.utils.set_random_seed(1)
    first, second, third = labels_of_epochs(3, seed=1)
    assert not np.array_equal(first, second)
    np.testing.assert_array_equal(np.sort(first), np.sort(second))
    keras.utils.set_random_seed(2)  # the global seed, which must have no effect
    np.testing.assert_array_equal(labels_of_epochs(1, seed=1)[0], first)
    assert not np.array_equal(labels_of_epochs(1, seed=2)[0], first)
    np.testing.assert_array_equal(labels_of_epochs(1, seed=1, start=(2, 0))[0], third)
    resumed, whole = labels_of_epochs(2, seed=1, start=(1, 5))
    np.testing.assert_array_equal(resumed, second[5 * 64 :])
    np.testing.assert_array_equal(whole, third)


def test_epoch_is_a_permutation_of_all_images():
    """The shuffle is global: an image is anywhere in the epoch, at ImageNet's size too."""
    count = 1_281_167
    first, second = (
        Order(count, 256, seed=3).indices(tf.constant(epoch, tf.int64)).numpy() for epoch in (0, 1)
    )
    places = np.arange(count)
    np.testing.assert_array_equal(np.sort(first), places)
    # The mean distance of two random places is a third. In a window of 10,000 it would be 0.003.
    assert abs(np.abs(first - places).mean() / count - 1 / 3) < 0.002
    for one, other in ((first, places), (first, second), (first[1:], first[:-1])):
        assert abs(np.corrcoef(one, other)[0, 1]) < 0.005


def test_order_of_few_images_is_uniform():
    order = Order(4, 2, seed=0)
    indices = tf.function(order.indices, autograph=False)
    found = [tuple(indices(tf.constant(epoch)).numpy()) for epoch in range(2400)]
    counts = np.array([found.count(each) for each in set(found)])
    assert len(counts) == 24
    assert ((counts - 100) ** 2 / 100).sum() < 50  # chi squared with 23 degrees of freedom


def test_iterations_at_the_same_time_are_independent(digits_folder):
    train = km.data.load("digits")[0]
    pairs = list(zip(train, train, strict=True))
    assert len(pairs) == 23
    for (images, _), (same_images, _) in pairs:
        np.testing.assert_array_equal(images, same_images)
    # Both were the first epoch. An iteration that begins now is the second one.
    slow = iter(train)
    second = [next(slow)[1].numpy()]
    third_begins = labels_of(train)  # also the second epoch, because none has ended in between
    second += [labels.numpy() for _, labels in slow]
    np.testing.assert_array_equal(np.concatenate(second), third_begins)
    assert train.keras_mixers_position() == (2, 0)


def test_interrupted_epoch_is_repeated(digits_folder):
    train = km.data.load("digits")[0]
    whole = labels_of(train)
    for _ in range(2):
        first_batch = next(iter(train))[1]
    again = labels_of(train)
    np.testing.assert_array_equal(first_batch, again[:64])
    assert not np.array_equal(again, whole)


@pytest.mark.parametrize("source", ["arrays", "crops", "files"])
def test_shares_make_up_the_batches(source, photos, digits_folder):
    """Each process reads and augments its share; together they see what one process sees."""
    arguments = {"image_size": 8, "start": (1, 1)}
    if source == "arrays":
        name = "digits"
        arguments.update(augmentation=EVERYTHING, batch_size=48, drop_remainder=True)
    else:
        name = photos
        crop_scale = (0.3, 1) if source == "crops" else None
        augmentation = km.data.Augmentation(crop_scale, flip=True, mixup=0.5)
        arguments.update(augmentation=augmentation, batch_size=8, validation_fraction=1 / 3)
    whole = km.data.load(name, **arguments)
    shares = [km.data.load(name, shard=(i, 2), **arguments) for i in range(2)]
    assert all(len(share[0]) == len(whole[0]) for share in shares)
    parts = [0] if source == "crops" else [0, 1]  # validation images are not cropped at random
    for part in parts:
        expected, *found = (batches(loaded[part]) for loaded in (whole, *shares))
        assert len(expected) == len(found[0]) == len(found[1])
        for batch, first, second in zip(expected, *found, strict=True):
            for value, *halves in zip(batch, first, second, strict=True):
                assert len(halves[0]) == len(halves[1])
                np.testing.assert_allclose(np.concatenate(halves), value, atol=1e-5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"shard": 2}, r"`shard` must be None or \(index, count\).*2"),
        ({"shard": (2, 2)}, r"`shard` must be None.*\(2, 2\)"),
        ({"shard": (0, 0)}, "`shard` must be.*0"),
        ({"shard": (0, 3)}, "`batch_size` must be a multiple of 3.*batch_size=64"),
        ({"shard": (0, 2)}, "`drop_remainder` must be True.*a last batch of 29 images"),
        (
            {
                "shard": (0, 2),
                "batch_size": 6,
                "drop_remainder": True,
                "augmentation": km.data.Augmentation(mixup=1.0),
            },
            "`batch_size` must be a multiple of 4, because MixUp.*batch_size=6",
        ),
    ],
)
def test_load_raises_on_invalid_shard(arguments, message, digits_folder):
    with pytest.raises(ValueError, match=message):
        km.data.load("digits", **arguments)


def test_load_takes_its_share_from_the_distribution(digits_folder, monkeypatch):
    distribution = argparse.Namespace(
        num_processes=4, num_model_replicas=7, data_shard_id=3, auto_shard_dataset=False
    )
    monkeypatch.setattr(keras.distribution, "distribution", lambda: distribution)
    arguments = {"batch_size": 28, "drop_remainder": True}
    with pytest.warns(UserWarning, match="leaves out 3 of 360 validation images.*7 equal parts"):
        train, _, info = km.data.load("digits", **arguments)
    assert info.num_validation == 357
    with pytest.raises(ValueError, match=r"`batch_size` must be a multiple of 28.*batch_size=64"):
        km.data.load("digits", drop_remainder=True)
    distribution.auto_shard_dataset = True  # Keras divides the batches
    with pytest.raises(ValueError, match=r"`shard` must be None if.*auto_shard_dataset = False"):
        km.data.load("digits", shard=(0, 4), **arguments)
    distribution.num_model_replicas = 1
    whole = labels_of(km.data.load("digits", **arguments)[0]).reshape(-1, 4, 7)
    np.testing.assert_array_equal(labels_of(train).reshape(-1, 7), whole[:, 3])


@pytest.mark.parametrize("read_batch", [True, False])
def test_shares_of_an_incomplete_batch_have_all_images(read_batch):
    images = from_arrays(np.zeros((13, 2, 2, 1), "uint8"), np.arange(13))
    images = dataclasses.replace(images, read_batch=read_batch and images.read_batch)
    found = []
    zero = tf.constant(0, tf.int64)
    for i in range(3):
        read = read_epoch(images, Order(13, 6, shard=(i, 3)), zero, zero)
        found.append([batch[3].tolist() for batch in batches(read)])
    assert found[2] == [[4, 5], [10, 11], [12]]
    assert found[0][:2] + found[1][:2] == [[0, 1], [6, 7], [2, 3], [8, 9]]
    assert found[0][2:] == found[1][2:] == [[]]


def test_images_that_do_not_fit_are_read_from_records(digits_folder, monkeypatch):
    augmentation = km.data.Augmentation(flip=True, mixup=0.5)
    arguments = {"image_size": 8, "augmentation": augmentation, "start": (2, 20)}
    expected = [batches(part) for part in km.data.load("digits", **arguments)[:2]]
    monkeypatch.setattr(sources, "KEPT_BYTES", 0)
    for kept in (2**30, 0):
        monkeypatch.setattr(random_access, "KEPT_BYTES", kept)
        loaded = km.data.load("digits", **arguments)[:2]
        for part, batches_in_memory in zip(loaded, expected, strict=True):
            for batch, in_memory in zip(part.as_numpy_iterator(), batches_in_memory, strict=True):
                for value, value_in_memory in zip(batch, in_memory, strict=True):
                    np.testing.assert_array_equal(value, value_in_memory)


def test_incomplete_records_raise(tmp_path, monkeypatch):
    km.data.load("digits", data_dir=tmp_path)
    monkeypatch.setattr(sources, "KEPT_BYTES", 0)
    file = next(tmp_path.rglob("digits-train.tfrecord*"))
    content = file.read_bytes()
    file.write_bytes(content[: len(content) // 2])
    with pytest.raises(ValueError, match="`name` must be a complete dataset.*instead of 1437"):
        km.data.load("digits", data_dir=tmp_path)
    damaged = bytearray(content)
    damaged[60] ^= 255
    file.write_bytes(damaged)
    train = km.data.load("digits", data_dir=tmp_path)[0]
    with pytest.raises(tf.errors.OpError, match=f"{file} at byte 0 is not a readable image"):
        batches(train)


def test_kept_images_are_read_once(photos):
    train, _, _ = km.data.load(photos, image_size=8, batch_size=6)
    first = {tuple(image.ravel()) for images, _ in batches(train) for image in images}
    for file in photos.rglob("*.jpg"):
        file.unlink()
    second = {tuple(image.ravel()) for images, _ in batches(train) for image in images}
    assert first == second


def test_with_cardinality_reports_count_of_shorter_dataset():
    shorter = with_cardinality(tf.data.Dataset.range(3), 5)
    assert len(shorter) == 5
    for _ in range(2):
        assert batches(shorter) == [0, 1, 2]


def test_iterators_share_the_setup(monkeypatch):
    """Keras creates an iterator without using it, before it creates the one that it uses."""
    created, new_stream = [], streams.Streams.new_stream

    def recorded(self):
        created.append(threading.current_thread() is threading.main_thread())
        return new_stream(self)

    monkeypatch.setattr(streams.Streams, "new_stream", recorded)
    images = from_arrays(np.zeros((6, 2, 2, 1), "uint8"), np.arange(6))
    dataset = changed_batches(images, Order(6, 2, seed=0), lambda *batch: batch)
    unused = None
    for epoch in range(6):
        used = iter(dataset)
        streams.BACKGROUND.submit(int).result()  # wait for it, because it has one thread
        assert len(list(used)) == 3
        unused = iter(dataset)
        assert dataset.keras_mixers_position() == (epoch + 1, 0)
    assert created == [True, False]
    assert sorted(labels_of(dataset)) == list(range(6))
    assert len(list(unused)) == 3


def test_many_datasets_cause_no_warning(caplog):
    """A search loads the images for each trial, and each dataset traces the same function."""
    for seed in range(8):
        train, _, _ = km.data.prepare((np.zeros((4, 2, 2, 1)), [0, 0, 1, 1]), 2, seed=seed)
        next(iter(train))
    assert not [record.message for record in caplog.records if "retracing" in record.message]


def test_dropped_datasets_leave_no_threads_and_no_images(digits_folder, monkeypatch):
    def load_and_read():
        """Weak references to the images and the datasets that have been read and dropped."""
        images = from_arrays(np.zeros((100, 8, 8, 1), "uint8"), np.zeros(100, "int64"))
        source = sources.Source(images, images, "test", ("a", "b"))
        monkeypatch.setattr(sources, "find", lambda *_: source)
        train, validation, _ = km.data.load("digits")
        for part in (train, train, validation):
            next(iter(part))
        monkeypatch.undo()
        return [weakref.ref(each) for each in (images, source, train, validation)]

    def count_threads():
        streams.BACKGROUND.submit(int).result()  # wait for it, because it has one thread
        gc.collect()
        return len(list(pathlib.Path("/proc/self/task").iterdir()))

    load_and_read()
    threads = count_threads()
    references = [reference for _ in range(3) for reference in load_and_read()]
    assert count_threads() <= threads + 4
    assert [reference() for reference in references] == [None] * 12


def test_iteration_begins_again_after_an_unreadable_image(photos, monkeypatch):
    """The stream that failed at its first batch is not used again."""
    monkeypatch.setattr(random_access, "KEPT_BYTES", 0)
    train = km.data.load(photos, image_size=8, batch_size=4)[0]
    file = next(photos.rglob("*.jpg"))
    content = file.read_bytes()
    for _ in range(2):
        file.write_bytes(b"")
        with pytest.raises(tf.errors.InvalidArgumentError, match="is not a readable image: it is"):
            batches(train)
        file.write_bytes(content)
        assert len(labels_of(train)) == 22
    assert train.keras_mixers_position() == (2, 0)


@pytest.mark.slow
def test_process_ends_after_an_unreadable_image(photos):
    """A process that fails in the pipeline ends at once, with an error that names the file."""
    (photos / "a" / "0.jpg").write_bytes(b"\xff\xd8\xff\xe0 not a JPEG image")
    code = (
        "import sys, time, keras_mixers as km\n"
        "train, validation, info = km.data.load(sys.argv[1], image_size=8, batch_size=4)\n"
        "try:\n"
        "    list(zip(train, train))\n"
        "    list(validation)\n"
        "finally:\n"
        "    print(time.time(), flush=True)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, os.fspath(photos)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    failed = float(process.stdout.readline() or "nan")
    _, errors = process.communicate(timeout=60)
    assert time.time() - failed < 20, errors
    assert process.returncode == 1
    assert "a/0.jpg is not a readable image" in errors


def test_pipeline_has_no_python_in_its_graph(photos, monkeypatch, digits_folder):
    def refuse(*_args, **_kwargs):
        raise AssertionError

    for name in ("py_function", "numpy_function"):
        monkeypatch.setattr(tf, name, refuse)
    monkeypatch.setattr(tf.data.Dataset, "from_generator", refuse)
    for name, augmentation in (("digits", km.data.Augmentation()), (photos, EVERYTHING)):
        train, validation, _ = km.data.load(name, image_size=8, augmentation=augmentation)
        assert len(batches(train)) == len(train)
        assert len(batches(validation)) == len(validation)

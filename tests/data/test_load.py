"""Datasets by name: the digits bundled with scikit-learn, and any TFDS dataset."""

import functools
import pathlib
import socket

import numpy as np
import pytest
import tensorflow_datasets as tfds
from sklearn.datasets import load_digits

import keras_mixers as km
from keras_mixers.data import sources


def concatenated(dataset):
    """All images and all labels of a dataset."""
    batches = list(dataset.as_numpy_iterator())
    return np.concatenate([b[0] for b in batches]), np.concatenate([b[1] for b in batches])


@pytest.fixture
def no_network(monkeypatch):
    def fail(*_args, **_kwargs):
        pytest.fail("a connection was opened")

    monkeypatch.setattr(socket.socket, "connect", fail)


def test_digits_are_split_stratified_and_fixed(tmp_path, no_network):
    train, test, info = km.data.load("digits", batch_size=100, data_dir=tmp_path)
    assert info.class_names == tuple(str(digit) for digit in range(10))
    files = [file.name for file in pathlib.Path(tmp_path).rglob("*.tfrecord*")]
    assert len(files) == 2

    (train_x, train_y), (test_x, test_y) = concatenated(train), concatenated(test)
    assert train_x.shape == (1437, 8, 8, 1)
    assert test_x.shape == (360, 8, 8, 1)
    assert train_x.dtype == "float32"

    digits = load_digits()
    pairs = functools.partial(zip, strict=True)
    expected = {(image.tobytes(), label) for image, label in pairs(digits.images, digits.target)}
    images = np.rint((np.concatenate([train_x, test_x])[..., 0] + 1) * 8).astype("float64")
    labels = np.concatenate([train_y, test_y])
    assert {(image.tobytes(), label) for image, label in pairs(images, labels)} == expected
    # A fifth of each class is in the test split.
    np.testing.assert_allclose(np.bincount(test_y), np.bincount(digits.target) / 5, atol=0.7)

    _, again, _ = km.data.load("digits", batch_size=100, data_dir=tmp_path, seed=9)
    np.testing.assert_array_equal(concatenated(again)[0], test_x)


def test_load_resizes_and_batches_images(digits_folder):
    train, _, _ = km.data.load("digits", image_size=(12, 16), batch_size=50)
    assert train.element_spec[0].shape.as_list() == [None, 12, 16, 1]
    images, labels = next(train.as_numpy_iterator())
    assert images.shape == (50, 12, 16, 1)
    assert labels.shape == (50,)
    assert images.min() >= -1
    assert images.max() <= 1
    assert len(train) == 29
    assert sum(len(labels) for _, labels in train) == 1437


def test_drop_remainder_gives_batches_of_one_size(digits_folder):
    train = km.data.load("digits", drop_remainder=True)[0]
    assert train.element_spec[0].shape.as_list() == [64, 8, 8, 1]
    assert len(train) == len(list(train)) == 22


def test_pipeline_equals_preprocessing_layer(digits_folder):
    """Validation images equal those that the layer in an exported model computes."""
    preprocessing = km.Preprocessing(12, 0.9, "bicubic", (0.4, 0.5, 0.6), (0.2, 0.3, 0.4))
    _, test, info = km.data.load("digits", preprocessing=preprocessing)
    assert info.preprocessing == preprocessing
    assert info.input_shape == (12, 12, 3), "with three means, grey images become RGB images"
    original = np.stack([image for image, _ in km.data.images("digits").as_numpy_iterator()])
    expected = preprocessing.layer()(np.repeat(original, 3, -1))
    np.testing.assert_allclose(concatenated(test)[0], expected, atol=1e-6)


def test_validation_fraction_holds_out_training_images(digits_folder):
    train, validation, info = km.data.load("digits", validation_fraction=0.2)
    assert (info.num_train, info.num_validation, info.validation_source) == (1150, 287, "train")
    parts = [{image.tobytes() for image in concatenated(part)[0]} for part in (train, validation)]
    assert len(parts[0] & parts[1]) <= 1, "the digits contain one image twice"
    assert sum(map(len, parts)) >= 1436


def test_load_disables_autotune(digits_folder):
    for dataset in km.data.load("digits")[:2]:
        assert dataset.options().autotune.enabled is False


def write_dataset_info(name, splits, folder):
    """Write the description that TFDS stores with a prepared dataset: its features and splits."""
    builder = tfds.builder(name, data_dir=folder)
    infos = []
    for split in splits:
        template = tfds.core.ShardedFileTemplate(
            dataset_name=name, data_dir=folder, split=split, filetype_suffix="tfrecord"
        )
        infos.append(
            tfds.core.SplitInfo(
                name=split, shard_lengths=[20], num_bytes=1, filename_template=template
            )
        )
    builder.info.set_splits(tfds.core.SplitDict(infos))
    version = pathlib.Path(folder, name, str(builder.version))
    version.mkdir(parents=True)
    builder.info.write_to_directory(version)


def test_load_reads_folder_of_a_prepared_dataset(digits_folder):
    train, _, info = km.data.load(pathlib.Path(digits_folder, "digits", "1.0.0"))
    assert info.num_train == 1437
    expected = km.data.load("digits")[0]
    np.testing.assert_array_equal(concatenated(train)[0], concatenated(expected)[0])


def test_load_reads_any_tfds_name(tmp_path):
    write_dataset_info("cifar10", ["train", "test"], tmp_path)
    with tfds.testing.mock_data(num_examples=20, data_dir=tmp_path):
        train, validation, info = km.data.load(
            "cifar10", image_size=16, batch_size=8, data_dir=tmp_path
        )
        images, labels = next(train.as_numpy_iterator())
        assert images.shape == (8, 16, 16, 3)
        assert set(labels) <= set(range(10))
        assert info.num_classes == 10
        assert len(concatenated(validation)[1]) == 20


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "digist"}, "`name` must be 'digits', a TFDS.*'digist'. Did you mean 'digits'"),
        ({"name": "cifar11"}, "`name`.*'cifar11'. Did you mean.*'cifar10'"),
        ({"name": 3}, "`name` must be.*a folder.*name=3"),
        ({"name": "imdb_reviews"}, "`name` must be a dataset of images.*'imdb_reviews'.*text"),
        ({"name": "oxford_flowers102"}, "`image_size` must be given.*'oxford_flowers102'"),
        ({"name": "digits", "batch_size": 0}, "`batch_size` must.*0"),
        ({"name": "digits", "batch_size": 1.5}, "`batch_size` must.*1.5"),
        ({"name": "digits", "image_size": 0}, "`image_size` must.*0"),
        ({"name": "digits", "image_size": (8, 8, 1)}, r"`image_size` must.*\(8, 8, 1\)"),
        ({"name": "digits", "seed": -1}, "`seed` must.*-1"),
        ({"name": "digits", "start": 3}, r"`start` must be \(epoch, batch\).*3"),
        ({"name": "digits", "start": (0, -1)}, "`start` must.*-1"),
        ({"name": "digits", "start": (0, 23)}, r"`start` must be.*from 0 to 22.*\(0, 23\)"),
        (
            {"name": "digits", "batch_size": 1438, "drop_remainder": True},
            "`batch_size` must be at most.*1438 for 1437",
        ),
        ({"name": "digits", "validation_fraction": 0}, "`validation_fraction` must.*0"),
        ({"name": "digits", "validation_fraction": 1}, "`validation_fraction` must.*1"),
        ({"name": "digits", "drop_remainder": 1}, "`drop_remainder` must.*1"),
        ({"name": "digits", "augmentation": {}}, r"`augmentation` must be Augmentation.*\{\}"),
        ({"name": "digits", "preprocessing": 8}, "`preprocessing` must be Preprocessing.*8"),
        (
            {"name": "digits", "image_size": 8, "preprocessing": km.Preprocessing(12)},
            r"`image_size` must be None or.*\(8, 8\)",
        ),
        (
            {"name": "/nowhere/at/all"},
            "`name` must be.*a folder or CSV file that exists.*'/nowhere/at/all'",
        ),
    ],
)
def test_load_raises_on_invalid_argument(arguments, message, no_network):
    with pytest.raises((ValueError, TypeError), match=message):
        km.data.load(**arguments)


def test_validation_split_is_preferred_to_test(tmp_path):
    write_dataset_info("cifar10", ["train", "test", "validation"], tmp_path)
    with tfds.testing.mock_data(num_examples=20, data_dir=tmp_path):
        assert sources.find("cifar10", None, tmp_path).validation_source == "validation"


def test_dataset_without_validation_holds_out_a_tenth(tmp_path):
    write_dataset_info("stl10", ["train"], tmp_path)
    with tfds.testing.mock_data(num_examples=20, data_dir=tmp_path):
        train, validation, info = km.data.load("stl10", image_size=16, data_dir=tmp_path)
        assert (info.num_train, info.num_validation, info.validation_source) == (18, 2, "train")
        assert len(concatenated(train)[1]) == 18
        assert len(concatenated(validation)[1]) == 2


def test_load_reads_what_another_process_prepared(tmp_path, monkeypatch):
    from keras_mixers.data.digits import Digits

    prepare = Digits.download_and_prepare

    def prepare_too_late(builder):
        prepare(builder)
        raise FileExistsError

    monkeypatch.setattr(Digits, "download_and_prepare", prepare_too_late)
    assert len(concatenated(km.data.load("digits", data_dir=tmp_path)[1])[1]) == 360


def test_load_names_the_dataset_that_cannot_be_downloaded(tmp_path, monkeypatch):
    from keras_mixers.data.digits import Digits

    def download(builder):
        raise tfds.download.DownloadError("status 404")

    monkeypatch.setattr(Digits, "download_and_prepare", download)
    with pytest.raises(OSError, match=r"`name` must be .*name='digits': status 404"):
        km.data.load("digits", data_dir=tmp_path)


def test_interrupted_preparation_leaves_no_partial_dataset(tmp_path, monkeypatch):
    from keras_mixers.data.digits import Digits

    def interrupt(*_args, **_kwargs):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Digits, "_generate_examples", interrupt)
        with pytest.raises(KeyboardInterrupt):
            km.data.load("digits", data_dir=tmp_path)
    assert not (tmp_path / "digits" / "1.0.0").exists()
    assert len(concatenated(km.data.load("digits", data_dir=tmp_path)[1])[1]) == 360

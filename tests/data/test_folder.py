"""A folder of images by class, read through TFDS's ImageFolder."""

import numpy as np
import pytest
import tensorflow as tf

import keras_mixers as km


def write_image(path, value, size=(6, 5), channels=3):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = np.full((*size, channels), value, "uint8")
    path.write_bytes(tf.io.encode_png(image).numpy())


@pytest.fixture
def by_class(tmp_path):
    for i in range(10):
        write_image(tmp_path / "cat" / f"{i}.png", 10 * i)
        write_image(tmp_path / "dog" / f"{i}.PNG", 100 + 10 * i, size=(4, 8), channels=1)
    return tmp_path


def test_folder_of_classes_holds_out_a_tenth(by_class):
    train, validation, info = km.data.load(by_class, image_size=4, batch_size=32)
    assert info.class_names == ("cat", "dog")
    assert (info.num_train, info.num_validation, info.validation_source) == (18, 2, "train")
    batches = [next(iter(part)) for part in (train, validation)]
    values = np.concatenate([(images.numpy()[:, 0, 0, 0] + 1) * 127.5 for images, _ in batches])
    labels = np.concatenate([labels for _, labels in batches])
    assert sorted(np.rint(values)) == list(range(0, 200, 10))
    np.testing.assert_array_equal(labels, values > 95)


def test_folder_of_splits_uses_its_test_split(by_class):
    for name in ("cat", "dog"):
        (by_class / "train").mkdir(exist_ok=True)
        (by_class / name).rename(by_class / "train" / name)
    write_image(by_class / "test" / "dog" / "a.png", 7)
    _, test, info = km.data.load(by_class, image_size=4)
    assert (info.num_train, info.num_validation, info.validation_source) == (20, 1, "test")
    assert next(iter(test))[1].numpy() == [1]


def test_unreadable_image_raises_with_its_path(by_class):
    (by_class / "dog" / "3.PNG").write_bytes(b"not an image")
    train, validation, _ = km.data.load(by_class, image_size=4)
    message = rf"{by_class.resolve()}/dog/3.PNG is not a readable image"
    with pytest.raises(tf.errors.OpError, match=message):
        list(validation.concatenate(train))


def test_load_raises_on_invalid_folder(tmp_path, by_class):
    empty = tmp_path.with_name(tmp_path.name + "-none")
    empty.mkdir()
    with pytest.raises(ValueError, match=f"`name` must be a folder.*{empty}.*no such image"):
        km.data.load(empty, image_size=4)
    write_image(empty / "cat" / "a.png", 3)
    with pytest.raises(ValueError, match="at least two classes.*only 'cat'"):
        km.data.load(empty, image_size=4)
    (by_class / "eel").mkdir()
    with pytest.raises(ValueError, match="images of every class.*has no images of 'eel'"):
        km.data.load(by_class, image_size=4)
    (by_class / "eel").rmdir()
    with pytest.raises(ValueError, match="`image_size` must be given.*differ in size"):
        km.data.load(by_class)

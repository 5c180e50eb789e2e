"""A folder of images by class: its layout, hostile content, and a check before training."""

import os

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

import keras_mixers as km
from keras_mixers.data.image_files import from_files


def write_image(path, value, size=(6, 5), channels=3):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = np.full((*size, channels), value, "uint8")
    is_jpeg = path.suffix.lower() == ".jpg"
    content = tf.io.encode_jpeg(image, quality=100) if is_jpeg else tf.io.encode_png(image)
    path.write_bytes(content.numpy())


def write_classes(folder, cat, dog):
    for i in range(10):
        write_image(folder / "cat" / f"{i}{cat}", 10 * i)
        write_image(folder / "dog" / f"{i}{dog}", 100 + 10 * i, size=(4, 8), channels=1)
    return folder


@pytest.fixture
def by_class(tmp_path):
    """JPEG files, because TensorFlow sets up the decoder of all other formats in more time."""
    return write_classes(tmp_path, ".jpg", ".JPG")


@pytest.fixture
def by_class_as_png(tmp_path):
    return write_classes(tmp_path, ".png", ".PNG")


def move_into_train(folder):
    """Make the folders of the classes the training split."""
    (folder / "train").mkdir()
    for name in ("cat", "dog"):
        (folder / name).rename(folder / "train" / name)


def test_folder_of_classes_holds_out_a_tenth(by_class):
    train, validation, info = km.data.load(by_class, image_size=4, batch_size=32)
    assert info.class_names == ("cat", "dog")
    assert (info.num_train, info.num_validation, info.validation_source) == (18, 2, "train")
    batches = [next(iter(part)) for part in (train, validation)]
    values = np.concatenate([(images.numpy()[:, 0, 0, 0] + 1) * 127.5 for images, _ in batches])
    labels = np.concatenate([labels for _, labels in batches])
    assert sorted(np.rint(values)) == list(range(0, 200, 10))
    np.testing.assert_array_equal(labels, values > 95)
    assert sorted(batches[1][1].numpy()) == [0, 1], "one image of each class is held out"


def test_folder_of_splits_uses_its_test_split(by_class):
    move_into_train(by_class)
    write_image(by_class / "test" / "dog" / "a.jpg", 7)
    _, test, info = km.data.load(by_class, image_size=4)
    assert (info.num_train, info.num_validation, info.validation_source) == (20, 1, "test")
    assert next(iter(test))[1].numpy() == [1]


def test_unreadable_image_raises_with_its_path(by_class):
    (by_class / "dog" / "3.JPG").write_bytes(b"\x89PNG\r\n\x1a\n not an image")
    train, validation, _ = km.data.load(by_class, image_size=4)
    message = rf"{by_class.resolve()}/dog/3.JPG is not a readable image"
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


def test_tensorflow_error_does_not_hide_the_file(by_class):
    """A file that TensorFlow cannot decode, whose damage the header does not show."""
    content = (by_class / "cat" / "1.jpg").read_bytes()
    for place, damaged in (("cat/1.jpg", content[:-20]), ("dog/2.JPG", b"\xff\xd8\xff")):
        good = (by_class / place).read_bytes()
        (by_class / place).write_bytes(damaged)
        train, validation, _ = km.data.load(by_class, image_size=4)
        with pytest.raises(tf.errors.OpError, match=f"{by_class}/{place} is not a readable image"):
            list(validation.concatenate(train))
        (by_class / place).write_bytes(good)


@pytest.mark.parametrize("position", [0, 1, -1])
def test_error_names_missing_file_whose_name_is_not_utf8(by_class, position):
    pairs = [(os.fspath(file), 0) for file in sorted(by_class.rglob("*.*"))]
    pairs[position] = (os.fsdecode(b"/gone/\xe9\n.png"), 0)
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"/gone/\ufffd\\n.png is not a read"):
        list(from_files(pairs).dataset())


def test_check_lists_every_file_that_is_not_readable(by_class_as_png):
    """A PNG file with a damaged comment is readable, although Pillow refuses it."""
    good = (by_class_as_png / "cat" / "5.png").read_bytes()
    comment = b"\0\0\0\3tEXta\0b" + b"crc?"
    (by_class_as_png / "cat" / "5.png").write_bytes(good[:33] + comment + good[33:])
    (by_class_as_png / "cat" / "3.png").write_bytes(b"")
    (by_class_as_png / "dog" / "4.PNG").write_bytes(b"\xff\xd8\xff\xe0")
    for name in ("notes.txt", "page.jpg"):
        (by_class_as_png / "dog" / name).write_bytes(b"<html>")
    report = km.data.check(by_class_as_png)
    assert report.bad == {
        f"{by_class_as_png}/cat/3.png": "it is empty",
        f"{by_class_as_png}/dog/4.PNG": "it is damaged or incomplete",
    }
    assert report.num_images == {"train": 20}
    assert report.skipped == {
        ".txt": [f"{by_class_as_png}/dog/notes.txt"],
        "not an image": [f"{by_class_as_png}/dog/page.jpg"],
    }
    assert (report.smallest, report.largest) == ((6, 5), (4, 8))
    assert "not readable: 2\n" in str(report)
    with pytest.raises(
        ValueError, match="`name` must be the path of a folder or of a CSV.*'digits'"
    ):
        km.data.check("digits")


def test_load_counts_files_that_it_skips(by_class):
    cat = by_class / "cat"
    for name in (".trash/x.jpg", ".ipynb_checkpoints/y.png", ".git/HEAD", "__MACOSX/cat/._0.jpg"):
        write_image(by_class / name, 3)
    for name in ("._0.jpg", ".DS_Store", "Thumbs.db"):
        (cat / name).write_bytes(b"no image")
    for name in ("a.tif", "b.TIF", "c.heic", "README"):
        (cat / name).write_bytes(b"no image")
    write_image(cat / "more" / "1.png", 3)
    write_image(by_class / "top.png", 3)
    os.mkfifo(cat / "pipe.jpg")
    (cat / "zero.jpg").symlink_to("/dev/zero")
    (cat / "gone.jpg").symlink_to(by_class / "nowhere.jpg")
    (cat / "circle.jpg").symlink_to(cat / "circle.jpg")
    with (cat / "sparse.jpg").open("wb") as file:
        file.truncate(2**40)
    with pytest.warns(UserWarning, match=r"`load` skips files in .*: 1 \.heic, .*2 not an image"):
        train, validation, info = km.data.load(by_class, image_size=4)
    assert info.class_names == ("cat", "dog")
    assert info.skipped == {
        ".heic": 1,
        "not an image": 2,
        "no suffix": 1,
        "not a regular file": 2,
        "broken link": 2,
        "folder inside a class": 1,
        "outside of classes": 1,
        "over 256 MiB": 1,
    }
    assert sum(len(labels) for part in (train, validation) for _, labels in part) == 20


def test_load_turns_upright_and_lays_over_white(tmp_path):
    pixels = np.zeros((4, 8, 3), "uint8")
    pixels[:, :4] = 255  # white on the left, and after a turn by 90 degrees on the top
    exif = Image.Exif()
    exif[0x0112] = 6
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    Image.fromarray(pixels).save(tmp_path / "a" / "1.jpg", exif=exif, quality=100)
    Image.fromarray(np.zeros((8, 4, 4), "uint8")).save(tmp_path / "b" / "1.png")
    images = {}
    for part in ("train", "validation"):
        for image, label in km.data.images(tmp_path, part):
            images[int(label)] = image.numpy()
    assert images[0].shape == (8, 4, 3)
    assert images[0][:4].min() > 250
    assert images[0][4:].max() < 5
    assert images[1].min() == 255


def test_class_called_train_is_a_class(by_class):
    (by_class / "dog").rename(by_class / "train")
    assert km.data.load(by_class, image_size=4)[2].class_names == ("cat", "train")


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (["train/a/1.png", "train/b/1.png", "train/2.png"], "'train', and images in 'train'"),
        (["train/a/1.png", "train/b/1.png", "c/1.png"], "'train', and images in 'c'"),
        (["train/1.png", "test/1.png"], "has images without a class in 'test', 'train'"),
        (
            ["train/a/1.png", "train/b/1.png", "val/a/1.png", "valid/a/1.png"],
            "several folders for the split 'validation': 'val', 'valid'",
        ),
        (
            ["train/a/1.png", "train/b/1.png", "test/a/1.png", "test/C/1.png"],
            "classes in 'test' that 'train' lacks: 'C'",
        ),
    ],
)
def test_load_raises_on_ambiguous_layout(tmp_path, files, message):
    for file in files:
        write_image(tmp_path / file, 3)
    with pytest.raises(ValueError, match=f"`name` must be a folder of images.*{message}"):
        km.data.load(tmp_path, image_size=4)


@pytest.mark.parametrize("name", ["val", "valid", "validation"])
def test_folder_of_splits_finds_validation(tmp_path, name):
    for file in ("train/a/1.jpg", "train/b/1.jpg", f"{name}/a/1.jpg", "test/1.jpg"):
        write_image(tmp_path / file, 3)
    with pytest.warns(UserWarning, match="1 outside of classes"):
        _, _, info = km.data.load(tmp_path, image_size=4)
    assert (info.num_train, info.num_validation, info.validation_source) == (2, 1, "validation")


def test_class_names_that_are_not_utf8_stay_different(tmp_path):
    for name in (b"caf\xe9", b"caf\\xe9", b"caf\xe8", "caf\xe9".encode()):
        write_image(tmp_path / os.fsdecode(name) / os.fsdecode(b"\xff\n.jpg"), 3)
    train, validation, info = km.data.load(tmp_path, image_size=4)
    assert set(info.class_names) == {"caf\\xe9", "caf\\xe9 (2)", "caf\\xe8", "caf\xe9"}
    assert sum(len(labels) for part in (train, validation) for _, labels in part) == 4


def test_folder_needs_no_links_and_no_python_in_the_graph(by_class, monkeypatch):
    def refuse(*_args, **_kwargs):
        raise OSError("links need a privilege")

    monkeypatch.setattr(os, "symlink", refuse)
    monkeypatch.setattr(tf, "py_function", refuse)
    assert len(list(km.data.images(by_class, "train"))) == 18


def test_links_to_images_and_folders_are_read(by_class, tmp_path_factory):
    root = tmp_path_factory.mktemp("links")
    for name in ("cat", "dog"):
        (root / name).symlink_to(by_class / name)
    (by_class / "cat" / "link.jpg").symlink_to(by_class / "cat" / "0.jpg")
    (by_class / "cat" / "back").symlink_to(root)
    with pytest.warns(UserWarning, match="1 folder inside a class"):
        assert km.data.load(root, image_size=4)[2].num_train == 19


def test_load_skips_files_that_are_not_readable(by_class_as_png):
    """Before training: with a damage after the header, a damaged checksum, and no pixels."""
    good = (by_class_as_png / "dog" / "3.PNG").read_bytes()
    contents = {"cut.png": good[:-20], "sum.png": good[:-13] + b"?" + good[-12:], "zero.gif": b""}
    for name, content in contents.items():
        (by_class_as_png / "dog" / name).write_bytes(content)
    with pytest.raises(ValueError, match=r"on_error='skip'.*1 cannot be read: .*zero.gif: it is e"):
        km.data.load(by_class_as_png, image_size=4)
    with pytest.raises(ValueError, match="`on_error` must be one of 'raise', 'skip'"):
        km.data.load(by_class_as_png, on_error="ignore")
    with pytest.warns(
        UserWarning, match=r"3 unreadable \(.*zero.gif: it is empty; .*cut.png: it i"
    ):
        train, validation, info = km.data.load(by_class_as_png, image_size=4, on_error="skip")
        held_out = km.data.images(by_class_as_png, on_error="skip")
    assert info.skipped == {"unreadable": 3}
    assert [label for _, label in held_out] == [i for _, labels in validation for i in labels]
    assert sum(len(labels) for part in (train, validation) for _, labels in part) == 20


def test_load_needs_a_readable_image_of_each_class(by_class):
    for file in (by_class / "dog").iterdir():
        file.write_bytes(b"")
    with (
        pytest.warns(UserWarning, match="10 unreadable"),
        pytest.raises(ValueError, match="readable images of every class.*without one of 'dog'"),
    ):
        km.data.load(by_class, image_size=4, on_error="skip")


def test_load_does_not_replace_a_split_that_is_not_readable(by_class):
    """Otherwise the validation would silently be held out of the training images."""
    move_into_train(by_class)
    write_image(by_class / "test" / "cat" / "1.png", 1)
    (by_class / "test" / "cat" / "1.png").write_bytes(b"")
    with (
        pytest.warns(UserWarning, match="1 unreadable"),
        pytest.raises(ValueError, match="readable images in each split.*without one in 'test'"),
    ):
        km.data.load(by_class, image_size=4, on_error="skip")


def test_check_finds_pictures_that_are_there_several_times(by_class_as_png):
    """In the same class, in other classes, in several splits, and in another format."""
    move_into_train(by_class_as_png)
    cat, dog, test = (by_class_as_png / name for name in ("train/cat", "train/dog", "test/cat"))
    test.mkdir(parents=True)
    (dog / "same.png").write_bytes((cat / "1.png").read_bytes())
    Image.open(cat / "2.png").save(test / "other.bmp")
    (dog / "copy.png").write_bytes((dog / "5.PNG").read_bytes())
    (cat / "square.png").write_bytes(tf.io.encode_png(np.full((5, 6, 3), 30, "uint8")).numpy())
    (test / "gone.png").write_bytes(b"")
    report = km.data.check(by_class_as_png)
    conflict = (f"{cat}/1.png", f"{dog}/same.png")
    leak = (f"{test}/other.bmp", f"{cat}/2.png")
    assert report.duplicates == [leak, conflict, (f"{dog}/5.PNG", f"{dog}/copy.png")]
    assert report.in_several_splits == [leak]
    assert report.conflicting == [conflict]
    assert report.num_per_class == {"train": {"cat": 11, "dog": 12}, "test": {"cat": 1, "dog": 0}}
    assert report.median == (5, 5)
    text = str(report)
    assert "  cat: 11 in train, 1 in test\n  dog: 12 in train, 0 in test\n" in text
    assert f"several times: 3\n  {leak[0]}, {leak[1]}\n" in text
    assert "different labels (some labels are wrong): 1\n" in text

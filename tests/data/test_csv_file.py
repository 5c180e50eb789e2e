"""CSV files of images: their columns, wrong lines, and multi-hot labels in batches."""

import numpy as np
import pytest
from PIL import Image

import keras_mixers as km
from keras_mixers.data.csv_file import list_csv
from keras_mixers.data.image_files import from_files


def write(folder, text, encoding="utf-8"):
    path = folder / "labels.csv"
    path.write_bytes(text.encode(encoding))
    return path


def listed(folder, text, **options):
    """The class names and `{split: {file name: label}}` of a CSV file."""
    listing = list_csv(write(folder, text, **options))
    return listing.class_names, {
        split: {path.removeprefix(f"{folder}/"): label for path, label in pairs}
        for split, pairs in listing.images.items()
    }


def test_label_is_a_class(tmp_path):
    """With a mark of a spreadsheet, quotes, an empty line, an absolute path and other columns."""
    lines = ["Path, label ,score,SPLIT", '"a, b.jpg",dog,1,Train', "", "/x/c.jpg, cat ,2,train"]
    text = "\r\n".join([*lines, '"n\n.jpg",cat,3,val', ""])
    names, images = listed(tmp_path, text, encoding="utf-8-sig")
    assert names == ("cat", "dog")
    assert images == {"train": {"a, b.jpg": 1, "/x/c.jpg": 0}, "validation": {"n\n.jpg": 0}}


def test_integer_labels_are_sorted_as_numbers(tmp_path):
    names, _ = listed(tmp_path, "path,label\na,10\nb,9\n")
    assert names == ("9", "10")


def test_labels_and_columns_are_several_classes(tmp_path):
    expected = {"train": {"a": (0, 1), "b": (1,), "c": ()}}
    assert listed(tmp_path, "path,labels\na,y; x ;y\nb,y;\nc,\n") == (("x", "y"), expected)
    assert listed(tmp_path, "y,path,x\n1,a,1\n0.0,b,True\n0,c,0\n") == (
        ("y", "x"),
        {"train": {"a": (0, 1), "b": (1,), "c": ()}},
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"its first line is \[\], without a column 'path'"),
        ("a.jpg,cat\nb.jpg,dog\n", r"its first line is \['a.jpg', 'cat'\], without a column"),
        ("path;label\na;x\n", r"\['path;label'\], without a column 'path'"),
        ("path,label,path\na,x,a\n", "with two columns 'path'"),
        ("path,label,labels\na,x,x\n", "with 'label' and 'labels'"),
        ("path,split\na,train\n", "lacks the name of a column with labels"),
        (",path,x\n0,a,1\n", "lacks the name of a column with labels"),
        ("path,label\na,x\n,y\n", "line 3.*column 'path' must be the path of an image, not ''"),
        ("path,label\na,x\nb,y\na,y\n", "line 4.*column 'path' repeats 'a' of line 2"),
        ("path,label\na,x\nb,\n", "line 3.*column 'label' is empty"),
        ("path,label\na,x\nb,c,y\n", "line 3.*it has 3 values for 2 columns"),
        ('path,label\na,x\n"b,y\n', "line 3.*unexpected end of data"),
        ("path,label,split\na,x,eval\n", "line 2.*'split' must be one of train, val.*not 'eval'"),
        ("path,label,split\na,x,val\n", "it has no images for training"),
        ("path,label\na,x\nb,x\n", r"have only the labels \['x'\]"),
        ("path,labels\na,\n", r"have only the labels \[\]"),
        ("path,x,y\na,1,2\n", "line 2.*column 'y' must be 0 or 1, not '2'"),
        ("path,x,y\na,1,0\nb,1,0\n", "no image in 'train' has the label 'y'"),
        ("path,x,split\na,1,train\nb,1,\n", "line 3.*'split' must be one of"),
        (
            "path,label,split\na,x,train\nb,y,train\nc,z,test\n",
            "line 4.*label 'z' in 'test' must be that of an image in 'train' too",
        ),
    ],
)
def test_wrong_line_is_named(tmp_path, text, message):
    with pytest.raises(ValueError, match=f"(?s)`name` must be a CSV.*/labels.csv.*{message}"):
        list_csv(write(tmp_path, text))


def test_text_that_is_not_utf8_is_refused(tmp_path):
    with pytest.raises(ValueError, match="bytes that are not UTF-8"):
        list_csv(write(tmp_path, "path,label\nä,x\n", encoding="latin-1"))


def test_missing_csv_file_is_refused(tmp_path):
    with pytest.raises(ValueError, match="`name` must be the path of .*CSV file that exists"):
        km.data.load(tmp_path / "labels.csv", image_size=4)


def test_multi_hot_labels_reach_the_batches(tmp_path):
    """The grey value of an image is ten times the number that its labels write in binary."""
    rows = ["path,one,two,four"]
    for number in range(8):
        Image.new("L", (5, 4), 10 * number).save(tmp_path / f"{number}.jpg", quality=100)
        rows.append(f"{number}.jpg,{number % 2},{number // 2 % 2},{number // 4}")
    path = write(tmp_path, "\n".join(rows))
    train, validation, info = km.data.load(
        path, 4, 2, augmentation=km.data.Augmentation(mixup=1.0), validation_fraction=0.25
    )
    assert info.multi_label and info.class_names == ("one", "two", "four")
    assert train.element_spec[1].shape.as_list() == [None, 3]
    for dataset, size, are_mixed in ((train, 6, True), (train, 6, True), (validation, 2, False)):
        batches = list(dataset.as_numpy_iterator())
        images, labels = (np.concatenate(parts) for parts in zip(*batches, strict=True))
        assert len(labels) == size
        values = (images[:, 0, 0, 0] + 1) * 127.5
        np.testing.assert_allclose(labels @ [10, 20, 40], values, atol=1e-3)
        assert (set(labels.ravel()) <= {0, 1}) != are_mixed


def test_all_multi_hot_labels_are_one_array():
    images = from_files([("a", (2,)), ("b", ()), ("c", (0, 2))], num_classes=3)
    np.testing.assert_array_equal(images.labels(), [[0, 0, 1], [0, 0, 0], [1, 0, 1]])

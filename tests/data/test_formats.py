"""Image files of each kind: read as Pillow shows them, or named; and their conversion."""

import csv
import errno
import io
import os
import pathlib
import time

import numpy as np
import pytest
from PIL import Image, ImageOps

import keras_mixers as km
from keras_mixers.data import converted as conversion
from keras_mixers.data.converted import converted
from keras_mixers.data.readable import readable
from keras_mixers.predicting.read import read

PIXELS = np.random.default_rng(0).integers(0, 256, (6, 9, 4), "uint8")
RGBA = Image.fromarray(PIXELS)
RGB, LA = RGBA.convert("RGB"), RGBA.convert("LA")
GREY, INVERSE = RGB.convert("L"), ImageOps.invert(RGB)
DEEP = np.random.default_rng(1).integers(0, 65536, (6, 9), "uint16")
SIDEWAYS = Image.Exif()
SIDEWAYS[0x0112] = 6
TURNED = RGB.transpose(Image.Transpose.ROTATE_90)
TWO = {"save_all": True, "append_images": [INVERSE]}
FILES = {  # what `Image.save` writes to each file
    "rgb.jpg": (RGB, {}),
    "grey.jpeg": (GREY, {}),
    "cmyk.jpe": (RGB.convert("CMYK"), {}),
    "turned.jpg": (TURNED, {"exif": SIDEWAYS}),
    "rgb.png": (RGB, {}),
    "grey.png": (GREY, {}),
    "alpha.png": (RGBA, {}),
    "grey alpha.png": (LA, {}),
    "palette.png": (RGB.quantize(16), {"transparency": 3}),
    "16 bits.png": (Image.fromarray(DEEP), {}),
    "turned.png": (TURNED, {"exif": SIDEWAYS}),
    "animated.png": (RGB, TWO),
    "rgb.webp": (RGB, {}),
    "alpha.webp": (RGBA, {"lossless": True}),
    "animated.webp": (RGB, TWO | {"lossless": True}),
    "turned.webp": (TURNED, {"exif": SIDEWAYS, "lossless": True}),
    "rgb.bmp": (RGB, {}),
    "1 bit.bmp": (RGB.convert("1"), {}),
    "animated.gif": (RGB.quantize(16), TWO),
    "rgb.tif": (RGB, {}),
    "alpha.TIFF": (RGBA, {}),
    "grey alpha.tif": (LA, {}),
    "1 bit.tif": (RGB.convert("1"), {"compression": "group4"}),
    "palette.tif": (RGB.quantize(16), {}),
    "16 bits.tif": (Image.fromarray(DEEP), {}),
    "cmyk.tif": (RGB.convert("CMYK"), {"compression": "tiff_lzw"}),
    "lab.tif": (RGB.convert("LAB"), {}),
    "pages.tif": (RGB, TWO),
    "turned ä\n.tif": (TURNED, {"exif": SIDEWAYS}),
    "png in a.jpg": (RGB, {"format": "PNG"}),
    "tiff in a.jpg": (RGB, {"format": "TIFF"}),
}


def shown(file):
    """What Pillow shows of a file, over white; the high byte of 16 bits, which Pillow clips."""
    with Image.open(file) as image:
        image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I;16"):
        image = Image.fromarray((np.asarray(image) >> 8).astype("uint8"))
    if image.has_transparency_data:
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image.convert("RGBA"))
    return np.asarray(image.convert("RGB"))


def with_small_frame():
    """A GIF file of 6 x 9 pixels whose first frame has 4 x 7, at (1, 2)."""
    file = io.BytesIO()
    RGB.quantize(16).crop((0, 0, 7, 4)).save(file, "GIF")
    content = bytearray(file.getvalue())
    at = content.index(b",", 13 + 3 * 16)
    content[6:10], content[at + 1 : at + 5] = b"\x09\0\x06\0", b"\x02\0\x01\0"
    return bytes(content)


def with_late_exif():
    """A PNG file whose EXIF data follow the pixels, as some programs write them."""
    parts = io.BytesIO(), io.BytesIO()
    TURNED.save(parts[0], "PNG", exif=SIDEWAYS)
    TURNED.save(parts[1], "PNG")
    content, plain = (part.getvalue() for part in parts)
    exif = content[content.index(b"eXIf") - 4 : content.index(b"IDAT") - 4]
    return plain[:-12] + exif + plain[-12:]


@pytest.fixture(autouse=True)
def home(tmp_path_factory, monkeypatch):
    """A home for the converted images, which is not the user's."""
    home = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("KERAS_HOME", str(home))
    return home / "keras_mixers" / "images"


def test_each_kind_of_file_equals_pillow(tmp_path):
    """Through a CSV file, which gives each file a label, and as `predict` reads it."""
    for name, (image, options) in FILES.items():
        image.save(tmp_path / name, **options)
    (tmp_path / "small frame.gif").write_bytes(with_small_frame())
    (tmp_path / "late.png").write_bytes(with_late_exif())
    RGB.save(tmp_path / "validation.png")
    names = sorted([*FILES, "small frame.gif", "late.png"])
    with (tmp_path / "labels.csv").open("w", newline="", encoding="utf-8") as file:
        rows = [[name, str(i), "train"] for i, name in enumerate(names)]
        rows = [["path", "label", "split"], *rows, ["validation.png", "0", "val"]]
        csv.writer(file).writerows(rows)

    expected = {name: shown(tmp_path / name) for name in names}
    loaded = {names[i]: x.numpy() for x, i in km.data.images(tmp_path / "labels.csv", "train")}
    paths = [str(tmp_path / name) for name in names]
    predicted = read(paths, km.Preprocessing((6, 9), crop_fraction=1.0), 3)
    for name, pixels in zip(names, predicted, strict=True):
        np.testing.assert_array_equal(loaded[name], expected[name], err_msg=name)
        np.testing.assert_array_equal(pixels, expected[name], err_msg=name)

    report = km.data.check(tmp_path / "labels.csv")
    assert not report.bad
    changed = {kind: sorted(map(os.path.basename, paths)) for kind, paths in report.changed.items()}
    assert changed["16 bits"] == ["16 bits.png", "16 bits.tif"]
    assert changed["CMYK"] == ["cmyk.jpe", "cmyk.tif"]
    assert "grey alpha.tif" in changed["grey"] and "palette.png" in changed["with alpha"]
    assert sorted(map(os.path.basename, report.rotated)) == [n for n in names if "turned" in n]


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data:UserWarning")
def test_file_that_is_not_readable_is_named_before_training(tmp_path):
    contents = {
        "zero.jpg": b"",
        "text.png": b"<html></html>",
        "text.bmp": b"BM is a text file",
        "head.tif": b"II*\0",
        "half.tif": (),
    }
    for name, content in contents.items():
        (tmp_path / name).write_bytes(bytes(content))
    RGB.save(tmp_path / "half.tif", compression="tiff_lzw")
    (tmp_path / "half.tif").write_bytes((tmp_path / "half.tif").read_bytes()[:150])
    Image.fromarray(DEEP.astype("float32")).save(tmp_path / "float.tif")
    Image.fromarray(DEEP.astype("int32")).save(tmp_path / "int.tif")
    for name, side in {"large": 8200, "huge": 14000}.items():
        Image.new("1", (side, side)).save(tmp_path / f"{name}.tif", compression="group4")
    (tmp_path / "folder.jpg").mkdir()
    (tmp_path / "link.jpg").symlink_to("nowhere")
    os.mkfifo(tmp_path / "pipe.jpg")
    found = readable(sorted(map(str, tmp_path.iterdir())))
    assert found.no_images == [str(tmp_path / "text.png")]
    assert not found.converted
    problems = {pathlib.Path(path).name: problem for path, problem in found.problems.items()}
    assert problems["large.tif"].startswith("it has 8200 x 8200 pixels (height x width); at most")
    assert problems["huge.tif"] == "it has more than 67108864 pixels"
    assert problems["zero.jpg"] == "it is empty"
    assert problems["link.jpg"] == "it cannot be opened: No such file or directory"
    assert problems["folder.jpg"] == problems["pipe.jpg"] == "it is not a regular file"
    for name in ("text.bmp", "head.tif", "half.tif"):
        assert problems[name].startswith("it is damaged or incomplete")
    for name, kind in {"float.tif": "floats", "int.tif": "integers"}.items():
        assert problems[name].startswith(f"its values are {kind} of 32 bits")


def test_image_is_converted_once_until_it_changes(tmp_path, home, monkeypatch):
    path = str(tmp_path / "a.tif")
    RGB.save(path)
    (first,) = converted([path])[0].values()
    opened = []
    monkeypatch.setattr(conversion, "open_image", lambda path: opened.append(path) or RGB)
    assert converted([path]) == ({path: first}, {})
    assert not opened
    os.utime(path, (0, 0))
    (second,) = converted([path])[0].values()
    assert opened == [path] and second != first
    assert {file.name for file in home.iterdir()} == {first.name, second.name}
    long_ago = time.time() - 31 * 24 * 3600
    os.utime(first, (long_ago, long_ago))
    assert converted([path])[0] == {path: second}
    assert list(home.iterdir()) == [second]


def test_another_image_of_the_same_size_and_time_is_converted(tmp_path):
    """Archives store one time for all files, and TIFF files of equal sides have equal sizes."""
    path = str(tmp_path / "a.tif")
    for image in (RGB, INVERSE):
        image.save(path)
        os.utime(path, (1e9, 1e9))
        (kept,) = converted([path])[0].values()
        np.testing.assert_array_equal(np.asarray(Image.open(kept)), np.asarray(image))


def test_interrupted_conversion_leaves_complete_files(tmp_path, home, monkeypatch):
    paths = [str(tmp_path / f"{i}.tif") for i in range(200)]
    for path in paths:
        RGB.save(path)
    monkeypatch.setattr(
        conversion,
        "open_image",
        lambda path: (_ for _ in ()).throw(KeyboardInterrupt) if path == paths[2] else RGB,
    )
    with pytest.raises(KeyboardInterrupt):
        converted(paths)
    left = list(home.iterdir())
    assert 2 <= len(left) < len(paths) / 2
    for file in left:
        np.testing.assert_array_equal(np.asarray(Image.open(file)), PIXELS[..., :3])


def test_full_disk_is_an_error_that_names_the_file(tmp_path, home, monkeypatch):
    RGB.save(tmp_path / "a.tif")

    def full(*_args, **_kwargs):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", full)
    with pytest.raises(OSError, match=rf"No space left on device.*/a.tif.*converted: '{home}'"):
        converted([str(tmp_path / "a.tif")])
    assert list(home.iterdir()) == []


def test_home_that_cannot_be_written_is_replaced_by_a_temporary_folder(tmp_path, monkeypatch):
    RGB.save(tmp_path / "a.tif")
    (tmp_path / "file").touch()
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "file"))
    with pytest.warns(UserWarning, match="Converted images are kept only until this process ends"):
        (kept,) = converted([str(tmp_path / "a.tif")])[0].values()
    np.testing.assert_array_equal(np.asarray(Image.open(kept)), PIXELS[..., :3])

"""Decode image files in the graph: Pillow's bytes, upright, over white, and never too large."""

import functools
import io
import struct

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image, ImageOps

from keras_mixers.preprocessing.decode import MAX_PIXELS, MAX_SIDE, decode_image
from keras_mixers.preprocessing.header import PILLOW, TENSORFLOW, decoder_of

pytestmark = pytest.mark.one_backend("TensorFlow decodes the images on each backend")
PIXELS = np.kron(
    np.random.default_rng(0).integers(0, 256, (4, 7, 4), "uint8"), np.ones((8, 8, 1), "uint8")
)
RGB, RGBA = Image.fromarray(PIXELS[..., :3]), Image.fromarray(PIXELS)
GREY = RGB.convert("L")


def encoded(image, kind, **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def with_orientation(orientation, endian="<", image=RGB, kind="JPEG", **options):
    exif = Image.Exif()
    exif.endian = endian
    exif[0x010E], exif[0x0112], exif[0x0131] = "a description", orientation, "some software"
    return encoded(image, kind, exif=exif, **options)


def shown(content):
    """What Pillow shows of a file, over white."""
    image = ImageOps.exif_transpose(Image.open(io.BytesIO(content)))
    if image.mode in ("RGBA", "LA") or "transparency" in image.info:
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image.convert("RGBA"))
    return np.asarray(image.convert("RGB"))


@pytest.fixture(autouse=True)
def default_seed_and_dtype_policy():
    """No new seed for each test, because TensorFlow then optimizes the decoder's graph again."""


@functools.cache
def decoder(channels=3):
    return tf.function(
        lambda content: decode_image(content, channels, name="cat.jpg"),
        input_signature=[tf.TensorSpec([], tf.string)],
        autograph=False,
    )


FILES = {
    "jpeg": encoded(RGB, "JPEG"),
    "progressive": encoded(RGB, "JPEG", progressive=True),
    "grey jpeg": encoded(GREY, "JPEG"),
    "cmyk jpeg": encoded(RGB.convert("CMYK"), "JPEG"),
    "png": encoded(RGB, "PNG"),
    "png with alpha": encoded(RGBA, "PNG"),
    "grey png with alpha": encoded(RGBA.convert("LA"), "PNG"),
    "palette of 4 bits": encoded(RGB.quantize(16), "PNG"),
    "transparent palette": encoded(RGB.quantize(16), "PNG", transparency=0),
    "transparent colour": encoded(RGB, "PNG", transparency=tuple(PIXELS[0, 0, :3].tolist())),
    "png of 1 bit": encoded(RGB.convert("1"), "PNG"),
    "gif": encoded(RGB, "GIF"),
    "gif with a transparent colour": encoded(RGB.quantize(16), "GIF", transparency=3),
    "animated gif": encoded(RGB, "GIF", save_all=True, append_images=[ImageOps.invert(RGB)]),
    "bmp": encoded(RGB, "BMP"),
    "bmp with a palette": encoded(RGB.quantize(16), "BMP"),
    "bmp with 4 bytes per pixel": encoded(RGBA, "BMP"),
    "webp": encoded(RGB, "WEBP"),
    "webp with alpha": encoded(RGBA, "WEBP", lossless=True),
}


@pytest.mark.parametrize("kind", FILES)
def test_decode_image_equals_pillow(kind):
    assert decoder_of(io.BytesIO(FILES[kind])) == TENSORFLOW
    expected = shown(FILES[kind]).astype(int)
    assert np.abs(decoder()(FILES[kind]).numpy() - expected).max() == 0


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("endian", "<>")
def test_decode_image_turns_upright(endian, kind):
    options = {"lossless": True} if kind == "WEBP" else {}
    for orientation in range(10):
        content = with_orientation(orientation, endian, kind=kind, **options)
        np.testing.assert_array_equal(decoder()(content).numpy(), shown(content), str(orientation))


@pytest.mark.parametrize("kind", ["JPEG", "WEBP"])
def test_damaged_exif_data_is_ignored(kind):
    content = with_orientation(6, kind=kind)
    start = content.index(b"II*\0")
    upright = np.asarray(RGB).shape
    for position in range(start, start + 10):  # the TIFF header, and the number of entries
        damaged = bytearray(content)
        damaged[position] = 0xFF
        height, width, _ = decoder()(bytes(damaged)).shape
        assert {height, width} == set(upright[:2])


def test_exif_data_after_other_segments_is_found():
    content = with_orientation(6)
    other = b"\xff\xe2" + (60_000).to_bytes(2, "big") + b"Exif\0\0".ljust(59_998, b"x")
    content = content[:2] + b"\xff" + other + content[2:]  # with padding before a marker
    np.testing.assert_array_equal(decoder()(content).numpy(), shown(with_orientation(6)))


def test_decode_image_of_16_bits_keeps_the_high_byte():
    values = np.arange(0, 65536, 257, "uint16").reshape(16, 16)
    content = encoded(Image.fromarray(values), "PNG")
    np.testing.assert_array_equal(decoder()(content).numpy()[..., 0], values // 256)


def test_decode_image_gives_channels():
    grey, rgba = decoder(1)(FILES["png"]).numpy(), decoder(4)(FILES["png with alpha"]).numpy()
    np.testing.assert_array_equal(grey[..., 0], np.asarray(GREY))
    np.testing.assert_array_equal(rgba, PIXELS)
    assert decoder(1)(FILES["cmyk jpeg"]).shape[-1] == 1
    assert decoder(4)(FILES["jpeg"]).numpy()[..., 3].min() == 255


def large(kind):
    """A small file whose header has 65,500 x 65,500 pixels."""
    content = bytearray(encoded(RGB, kind))
    side = (65_500).to_bytes(2, "little")
    if kind == "JPEG":
        at = content.index(b"\xff\xc0") + 5
        content[at : at + 4] = side[::-1] * 2
    elif kind == "PNG":
        content[16:24] = (b"\0\0" + side[::-1]) * 2
    elif kind == "GIF":
        at = content.index(b",", 13) + 5
        content[at : at + 4] = content[6:10] = side * 2
    elif kind == "BMP":
        content[18:26] = (side + b"\0\0") * 2
    else:  # WebP has at most 16,383
        content[26:30] = (16_383).to_bytes(2, "little") * 2
    return bytes(content)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "BMP", "WEBP"])
def test_decode_image_refuses_too_many_pixels(kind):
    message = rf"cat.jpg is not a readable image: it has \d+ x \d+ pixels.*at most {MAX_PIXELS}"
    with pytest.raises(tf.errors.InvalidArgumentError, match=message):
        decoder()(large(kind))
    if kind == "PNG":  # JPEG and GIF files are smaller
        line = large(kind)[:16] + struct.pack(">II", 1, MAX_SIDE + 1) + large(kind)[24:]
        with pytest.raises(
            tf.errors.InvalidArgumentError, match="262145 x 1 pixels.*262144 on one"
        ):
            decoder()(line)


@pytest.mark.parametrize(
    ("content", "problem", "decoded_by"),
    [
        (b"", "it is empty", ""),
        (b"<html></html>", "its format is not JPEG, PNG, GIF, BMP or WebP", ""),
        (encoded(RGB, "TIFF"), "its format is not", PILLOW),
        (encoded(RGB, "TIFF", big_tiff=True), "its format is not", PILLOW),
        (encoded(RGB.convert("1"), "BMP"), "it is a BMP of 1 bits", PILLOW),
        (FILES["png"][:20], "its size is 0", TENSORFLOW),
        (FILES["gif"][:30], "its size is 0", PILLOW),
        (
            FILES["gif"][:6] + b"\xff\0" + FILES["gif"][8:],
            "its first frame does not cover the image",
            PILLOW,
        ),
        (
            encoded(RGB, "WEBP", save_all=True, append_images=[ImageOps.invert(RGB)]),
            "it is an animated WebP",
            PILLOW,
        ),
    ],
)
def test_decode_image_names_a_file_that_is_not_readable(content, problem, decoded_by):
    assert decoder_of(io.BytesIO(content)) == decoded_by
    with pytest.raises(tf.errors.InvalidArgumentError, match=f"cat.jpg.*readable image: {problem}"):
        decoder()(content)


@pytest.mark.parametrize("kind", ["jpeg", "progressive", "png", "webp"])
def test_decode_image_raises_on_a_truncated_file(kind):
    for size in (len(FILES[kind]) * 9 // 10, len(FILES[kind]) // 2, 50):
        with pytest.raises(tf.errors.InvalidArgumentError):
            decoder()(FILES[kind][:size])

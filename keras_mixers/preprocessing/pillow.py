"""Read images with Pillow as `decode_image` reads them: 8 bits per value, upright."""

from keras_mixers.preprocessing.decode import MAX_PIXELS, MAX_SIDE, too_large
from keras_mixers.preprocessing.orientation import ORIENTATION

READ_BY_PILLOW = ("BMP", "GIF", "TIFF", "WEBP")  # as `decoder_of` decides
GREY_OF_16_BITS = ("I;16", "I;16L", "I;16B", "I;16N")


def open_image(path):
    """The first frame of an image file, as `eight_bits` returns it.

    Raises:
        ValueError: if the file is not a readable image; the message is the problem.
    """
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path, formats=READ_BY_PILLOW) as image:
            return eight_bits(image)
    except UnidentifiedImageError as error:
        raise ValueError("it is damaged or incomplete") from error
    except OSError as error:
        raise ValueError(error.strerror or f"it is damaged or incomplete ({error})") from error
    except Image.DecompressionBombError as error:
        raise ValueError(f"it has more than {MAX_PIXELS} pixels") from error
    except MemoryError:
        raise
    except Exception as error:  # a damaged file raises many kinds of errors
        raise ValueError(str(error) or type(error).__name__) from error


def kind_of_image(path):
    """The EXIF orientation of an image file, and what `load` changes of it; reads the header only.

    Pillow refuses some files that TensorFlow reads, such as a PNG file with a damaged comment. They
    have no kind.

    Returns:
        1 to 8, and a tuple of some of "grey", "CMYK", "with alpha" and "16 bits".
    """
    from PIL import Image

    try:
        with Image.open(path) as image:
            # Pillow would decode a PNG file to find EXIF data after the pixels.
            has_exif = image.format != "PNG" or "exif" in image.info
            orientation = image.getexif().get(ORIENTATION, 1) if has_exif else 1
            kinds = {
                "grey": image.mode in ("1", "L", "LA", *GREY_OF_16_BITS),
                "CMYK": image.mode == "CMYK",
                "with alpha": image.has_transparency_data,
                "16 bits": image.format in ("PNG", "TIFF") and ";16" in str(image.tile),
            }
    except MemoryError:
        raise
    except Exception:  # a damaged file raises many kinds of errors
        return 1, ()
    return orientation, tuple(kind for kind, applies in kinds.items() if applies)


def eight_bits(image):
    """A PIL image in mode L, RGB or RGBA, turned upright by its EXIF orientation.

    Values of 16 bits become their high byte, as those of PNG files do. So white stays white.

    Raises:
        ValueError: if the image has more pixels than are decoded, or if its values are floats or
            integers of 32 bits, whose range is not known.
        OSError, SyntaxError: if its file is damaged.
    """
    from PIL import Image, ImageOps

    if image.width * image.height > MAX_PIXELS or max(image.size) > MAX_SIDE:
        raise ValueError(f"it has {image.height} x {image.width}{too_large()}")
    if image.mode in ("F", "I"):
        kind = {"F": "floats", "I": "integers"}[image.mode]
        raise ValueError(
            f"its values are {kind} of 32 bits, whose range is not known; save it with 8 or 16 bits"
        )
    upright = ImageOps.exif_transpose(image)
    if upright.mode in GREY_OF_16_BITS:
        import numpy as np

        return Image.fromarray((np.asarray(upright) >> 8).astype("uint8"))
    if upright.has_transparency_data:
        return upright.convert("RGBA")
    return upright.convert("L" if upright.mode in ("1", "L") else "RGB")

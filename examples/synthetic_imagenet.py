"""Write a TFDS dataset of ImageNet's shape, because ImageNet itself may not be distributed.

    python examples/synthetic_imagenet.py DATA_DIR --fraction 0.01

    km.data.load("synthetic_imagenet", 224, data_dir=DATA_DIR)     # needs no code of this file

At fraction 1 it has ImageNet's 1,281,167 training and 50,000 validation images, 1,000 classes,
1,024 and 64 shards, and 147 GB. Sizes of images and files follow ImageNet's:

- TFDS's checksums of imagenet2012 list archives of 115 kB per training image. The benchmark MLPerf
  Storage states a mean of 114,660 bytes and a standard deviation of 136,075.
- The commonly cited mean size is 469 x 387 pixels (width x height). Most images have a longer side
  of 500 pixels, a JPEG quality of 96 and full colour resolution: Ehrlich, "Compression in the
  ImageNet Dataset", 2021. How many images have which size is a guess that fits these means.
- ImageNet has 22 CMYK files and one PNG file, named .JPEG. TFDS converts them when it prepares
  ImageNet. Here, the second and the first training image are such files.

An image is noise with the spectrum of photographs in random ellipses. The images are encoded once,
and then reused in random order with random labels. So two records may have the same pixels, but
not the same `file_name`. A pool larger than the processor's cache decodes as slowly as different
images do.
"""

import argparse
import io
import math
import pathlib
import statistics

from command_line import at_least, positive_float, start

NUM_IMAGES = {"train": 1_281_167, "validation": 50_000}
NUM_CLASSES = 1000
# Sizes with a longer side of 500 pixels, (height, width), and how frequent each is among them.
COMMON_SIZES = ((375, 500), (500, 375), (333, 500), (400, 500), (500, 500), (500, 333))
FREQUENCIES = (0.56, 0.17, 0.12, 0.07, 0.04, 0.04)
OTHER_SIZES = 0.2  # fraction of the images with another size, whose longer side is log-normal
LONGER_SIDE, LONGER_SIDE_SPREAD = 300, 1.0  # median in pixels, and deviation of the logarithm
SIDES = (48, 4000)  # limits of the longer side
ASPECTS = (0.75, 2 / 3, 1.0, 9 / 16)  # shorter side over longer side
GREY = 0.015  # fraction of grey images
PNG, CMYK = 0, 1  # these images of the pool, which the first two training images use
GOLDEN_RATIO = (math.sqrt(5) - 1) / 2
NOISE_SIDE = 1024  # of the noise from which all images are cut
ELLIPSES = 24
TEXTURE, TEXTURE_SPREAD = 9.5, 0.6  # median contrast in grey levels, deviation of the logarithm


def parse_arguments():
    parser = argparse.ArgumentParser(
        description=__doc__.split("\n")[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("data_dir", type=pathlib.Path, help="folder for TFDS datasets")
    parser.add_argument(
        "--fraction", type=positive_float, default=0.001, help="fraction of ImageNet's images"
    )
    parser.add_argument("--pool", type=at_least(2), default=500, help="number of different images")
    parser.add_argument("--seed", type=at_least(0), default=0)
    parser.add_argument(
        "--largest-side", type=at_least(8), default=SIDES[1], help="limit in pixels, for tests"
    )
    return parser.parse_args()


if __name__ == "__main__":
    start(parse_arguments)

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image


class SyntheticImagenet(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """Invented images with the sizes, labels and file names of ImageNet."""

    VERSION = tfds.core.Version("1.0.0")
    name = "synthetic_imagenet"

    def __init__(self, *, files, fraction, seed, data_dir):
        self.files, self.seed = files, seed
        self.counts = {split: max(1, round(fraction * n)) for split, n in NUM_IMAGES.items()}
        super().__init__(data_dir=data_dir)

    def _info(self):
        return tfds.core.DatasetInfo(
            builder=self,
            description=f"Invented images of ImageNet's shape; seed {self.seed}.",
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(encoding_format="jpeg"),
                    "label": tfds.features.ClassLabel(num_classes=NUM_CLASSES),
                    "file_name": tfds.features.Text(),
                }
            ),
            supervised_keys=("image", "label"),
        )

    def _split_generators(self, dl_manager):
        return {split: self._generate_examples(split) for split in self.counts}

    def _generate_examples(self, split):
        count = self.counts[split]
        random = np.random.default_rng([self.seed, len(split)])
        labels = random.integers(NUM_CLASSES, size=count)
        chosen = random.integers(len(self.files), size=count)
        if split == "train":
            chosen[:2] = [PNG, CMYK][:count]
        for i, (label, file) in enumerate(zip(labels, chosen, strict=True)):
            name = f"{split}_{i:08}.JPEG"
            yield name, {"image": self.files[file], "label": int(label), "file_name": name}


def encoded_images(seed, count, largest_side):
    """The files of `count` different images, as bytes."""
    noise = colour_noise(np.random.default_rng(seed))
    return [encoded_image(seed, i, noise, largest_side) for i in range(count)]


def encoded_image(seed, index, noise, largest_side):
    """One file, which depends only on the seed and the index."""
    random = np.random.default_rng([seed, index])
    size, is_common = size_of(index, random)
    scale = min(1, largest_side / max(size))
    size = tuple(max(1, round(side * scale)) for side in size)
    image = Image.fromarray(picture(random, size, noise))
    if index == CMYK:
        image = image.convert("CMYK")
    elif random.random() < GREY:
        image = image.convert("L")
    quality, subsampling = (96, "4:4:4") if is_common else (random.integers(75, 97), "4:2:0")
    file = io.BytesIO()
    if index == PNG:
        image.save(file, "PNG")
    else:
        image.save(file, "JPEG", quality=int(quality), subsampling=subsampling)
    return file.getvalue()


def size_of(index, random):
    """((height, width), whether it is one of the common sizes)."""
    # Multiples of the golden ratio spread evenly over 0..1, so that small pools have the right
    # mixture of sizes too.
    quantile = (0.5 + index * GOLDEN_RATIO) % 1
    if quantile >= OTHER_SIZES:
        return COMMON_SIZES[random.choice(len(COMMON_SIZES), p=FREQUENCIES)], True
    normal = statistics.NormalDist(math.log(LONGER_SIDE), LONGER_SIDE_SPREAD)
    longer = np.clip(math.exp(normal.inv_cdf((quantile + 1e-4) / (OTHER_SIZES + 2e-4))), *SIDES)
    sides = round(longer * random.choice(ASPECTS)), round(longer)
    return sides if random.random() < 0.7 else sides[::-1], False


def colour_noise(random):
    """Periodic noise `(NOISE_SIDE, NOISE_SIDE, 3)` of luminance and chrominance.

    Its amplitude falls as 1 / frequency, as in photographs: Field, "Relations between the
    statistics of natural images and the response properties of cortical cells", 1987.
    """
    rows, columns = np.fft.fftfreq(NOISE_SIDE)[:, None], np.fft.rfftfreq(NOISE_SIDE)
    frequency = np.hypot(rows, columns)
    frequency[0, 0] = np.inf
    white = random.standard_normal((3, NOISE_SIDE, NOISE_SIDE))
    noise = np.fft.irfft2(np.fft.rfft2(white) / frequency)
    noise /= noise.std(axis=(1, 2), keepdims=True)
    return np.moveaxis(noise * np.array([1, 0.3, 0.3])[:, None, None], 0, -1).astype("float32")


def picture(random, size, noise):
    """Bytes `size + (3,)`: ellipses that cover each other, each with its colour and contrast."""
    contrast_of_image = random.lognormal(math.log(TEXTURE), TEXTURE_SPREAD)
    contrast = np.full((*size, 1), contrast_of_image, "float32")
    colour = np.zeros((*size, 3), "float32")
    rows, columns = np.ogrid[: size[0], : size[1]]
    for _ in range(ELLIPSES):
        y, x = random.random(2) * size
        height, width = 2 + random.exponential(0.2, 2) * size
        inside = ((rows - y) / height) ** 2 + ((columns - x) / width) ** 2 < 1
        colour[inside] = random.normal(0, (45, 15, 15))
        contrast[inside] = contrast_of_image * random.lognormal(-0.5, 1)
    first = random.integers(NOISE_SIDE, size=2)
    rows, columns = (start + np.arange(side) for start, side in zip(first, size, strict=True))
    part = noise.take(rows, 0, mode="wrap").take(columns, 1, mode="wrap")
    return to_rgb(128 + colour + contrast * part)


def to_rgb(values):
    """Luminance plus 128 in each channel, and two differences of colour, as RGB bytes."""
    luminance, blue, red = np.moveaxis(values - np.float32([0, 128, 128]), -1, 0)
    green = luminance - 0.344 * blue - 0.714 * red
    rgb = np.stack([luminance + 1.402 * red, green, luminance + 1.772 * blue], -1)
    return np.clip(np.rint(rgb), 0, 255).astype("uint8")


def describe(files):
    """The statistics that the docstring states for ImageNet, as a line of text."""
    lengths = np.array([len(file) for file in files])
    sizes = np.array([Image.open(io.BytesIO(file)).size for file in files])
    width, height = sizes.mean(axis=0)
    per_pixel = lengths.sum() / sizes.prod(axis=1).sum()
    return (
        f"{len(files)} different images: mean {width:.0f} x {height:.0f} pixels, mean"
        f" {lengths.mean():,.0f} bytes (deviation {lengths.std():,.0f}), {per_pixel:.2f} bytes per"
        " pixel"
    )


def main():
    args = parse_arguments()
    folder = args.data_dir / SyntheticImagenet.name / str(SyntheticImagenet.VERSION)
    if folder.exists():
        raise SystemExit(f"synthetic_imagenet.py: {folder} exists; remove it first")
    files = encoded_images(args.seed, args.pool, args.largest_side)
    print(describe(files), flush=True)
    builder = SyntheticImagenet(
        files=files, fraction=args.fraction, seed=args.seed, data_dir=args.data_dir
    )
    builder.download_and_prepare()
    for split, info in builder.info.splits.items():
        print(f"{split}: {info.num_examples} images in {info.num_shards} shards")
    print(folder)


if __name__ == "__main__":
    main()

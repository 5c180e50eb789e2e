"""Check a folder of images before training."""

import dataclasses
import os
import pathlib

from keras_mixers import arguments
from keras_mixers.data.folder import described, list_folder
from keras_mixers.data.random_access import DAMAGED, THREADS, from_files, plain, without_autotune


@dataclasses.dataclass(frozen=True)
class FolderReport:
    """What `check` found in a folder of images; `print` shows it.

    Args:
        name: the path of the folder.
        class_names: one name per class, in the order of the class indices.
        num_images: `{split: number of image files}`.
        bad: `{path: problem}` of the files that are not readable images.
        skipped: `{reason: paths}` of the files and folders that `load` does not read.
        smallest: (height, width) of the readable image with the fewest pixels, or None.
        largest: (height, width) of the readable image with the most pixels, or None.
    """

    name: str
    class_names: tuple[str, ...]
    num_images: dict[str, int]
    bad: dict[str, str]
    skipped: dict[str, list[str]]
    smallest: tuple[int, int] | None
    largest: tuple[int, int] | None

    def __str__(self) -> str:
        counts = ", ".join(f"{count} in {split}" for split, count in self.num_images.items())
        lines = [f"{self.name}: {len(self.class_names)} classes, images: {counts}"]
        if self.smallest and self.largest:
            small, large = ("{} x {}".format(*size) for size in (self.smallest, self.largest))
            lines.append(f"height x width: from {small} to {large} pixels")
        if self.skipped:
            lines.append(f"skipped: {described(self.skipped)}")
        lines.append(f"not readable: {len(self.bad)}")
        lines += [f"  {path}: {problem}" for path, problem in self.bad.items()]
        text = "\n".join(lines)
        return os.fsencode(text).decode("utf-8", "backslashreplace")


def check(name: str | os.PathLike[str]) -> FolderReport:
    """Decode each image of a folder, and list the files that are not readable images.

    Training ends at the first such file. Call this function before training to find all of them.

    Args:
        name: the path of a folder of images, as for `load`.

    Raises:
        ValueError, TypeError: if `name` is not a folder of images by class.

    Example:
        >>> import pathlib, tempfile
        >>> import keras
        >>> photos = tempfile.mkdtemp()
        >>> for path in ("cat/1.png", "dog/1.png", "dog/2.png"):
        ...     file = pathlib.Path(photos, path)
        ...     file.parent.mkdir(exist_ok=True)
        ...     keras.utils.save_img(file, keras.ops.zeros((8, 9, 3)))
        >>> _ = file.write_bytes(b"not an image")
        >>> report = check(photos)
        >>> report.num_images, report.smallest, list(report.bad.values())
        ({'train': 3}, (8, 9), ['its format is not JPEG, PNG, GIF, BMP or WebP'])
    """
    root = arguments.path("name", name, "the path of a folder")
    if not root.is_dir():
        raise ValueError(f"`name` must be the path of a folder. {arguments.received(name=name)}")
    folder = list_folder(root)
    sizes, bad = sizes_and_problems([pair for pairs in folder.images.values() for pair in pairs])
    return FolderReport(
        name=os.fspath(name),
        class_names=folder.class_names,
        num_images={split: len(pairs) for split, pairs in folder.images.items()},
        bad=bad,
        skipped=folder.skipped,
        smallest=min(sizes, key=area, default=None),
        largest=max(sizes, key=area, default=None),
    )


def sizes_and_problems(pairs):
    """The (height, width) of each readable image, and `{path: problem}` of the other files."""
    import tensorflow as tf

    images = from_files(pairs)

    def size_and_problem(index):
        image, _, problem = images.read(index)
        return index, tf.shape(image)[:2], problem

    found = tf.data.Dataset.range(len(pairs)).map(plain(size_and_problem), THREADS).ignore_errors()
    sizes, problems = {}, {}
    for index, size, problem in without_autotune(found).as_numpy_iterator():
        sizes[index] = tuple(size.tolist())
        problems[index] = problem.decode()
    bad = {
        path: problems.get(i) or why_damaged(path)
        for i, (path, _) in enumerate(pairs)
        if problems.get(i, DAMAGED)
    }
    return [size for i, size in sizes.items() if not problems[i]], bad


def why_damaged(path):
    """Whether a file cannot be opened, or is damaged."""
    try:
        with pathlib.Path(path).open("rb"):
            return "it is damaged or incomplete"
    except OSError as error:
        return f"it cannot be opened: {error.strerror}"


def area(size):
    """The number of pixels."""
    return size[0] * size[1]

"""Report what a folder or a CSV file of images contains, before training."""

import collections
import os
import statistics

from keras_mixers import arguments
from keras_mixers.data.decoded import decoded
from keras_mixers.data.listing import SPLITS
from keras_mixers.data.progress import in_threads
from keras_mixers.data.readable import NOT_AN_IMAGE, readable
from keras_mixers.data.report import FolderReport
from keras_mixers.data.sources import listing_of
from keras_mixers.preprocessing.pillow import kind_of_image


def check(name: str | os.PathLike[str]) -> FolderReport:
    """Decode each image of a folder or a CSV file, and report what `load` would read.

    Training ends at the first file that is not a readable image, or `load(on_error="skip")` leaves
    them out. Call this function before training to find all of them. It also finds pictures that
    are there several times: in several splits, which makes the validation too good, or with
    different labels. A progress bar appears if it takes more than 2 seconds.

    Args:
        name: the path of a folder of images or of a CSV file, as for `load`.

    Raises:
        ValueError, TypeError: if `name` is not a folder of images by class or such a CSV file.

    Example:
        >>> import pathlib, tempfile
        >>> import keras
        >>> photos = tempfile.mkdtemp()
        >>> for path in ("cat/1.png", "dog/1.png", "dog/2.png"):
        ...     file = pathlib.Path(photos, path)
        ...     file.parent.mkdir(exist_ok=True)
        ...     keras.utils.save_img(file, keras.ops.zeros((8, 9, 3)))
        >>> _ = file.write_bytes(file.read_bytes()[:40])
        >>> report = check(photos)
        >>> report.num_images, report.smallest, list(report.bad.values())
        ({'train': 3}, (8, 9), ['it is damaged or incomplete'])
        >>> [len(paths) for paths in report.conflicting]
        [2]
    """
    listing = listing_of(arguments.path("name", name, "the path of a folder or of a CSV file"))
    splits = [split for split in dict.fromkeys(SPLITS.values()) if split in listing.images]
    labels = {path: label for pairs in listing.images.values() for path, label in pairs}
    found = readable(list(labels))
    skipped, bad = dict(listing.skipped), dict(found.problems)
    if listing.lines:  # the user names each file of a CSV file, so it must be an image
        bad |= dict.fromkeys(found.no_images, NOT_AN_IMAGE)
    elif found.no_images:
        skipped["not an image"] = found.no_images
    left_out = {*found.no_images, *bad}
    not_counted = set(skipped.get("not an image", ()))
    images, damaged = decoded([path for path in labels if path not in left_out], found.converted)
    rotated, changed = kinds(list(images))
    duplicates = groups_of_equals(images)
    in_train = {path for path, _ in listing.images["train"]}
    by_area = sorted((image.size for image in images.values()), key=lambda size: size[0] * size[1])
    medians = [statistics.median_low(sides) for sides in zip(*by_area, strict=True)]
    return FolderReport(
        name=os.fspath(name),
        class_names=listing.class_names,
        num_images={
            split: sum(path not in not_counted for path, _ in listing.images[split])
            for split in splits
        },
        bad=bad | damaged,
        skipped=skipped,
        smallest=by_area[0] if by_area else None,
        largest=by_area[-1] if by_area else None,
        median=(medians[0], medians[1]) if medians else None,
        **counts(listing, splits, images),
        rotated=rotated,
        changed=changed,
        duplicates=duplicates,
        in_several_splits=[g for g in duplicates if 0 < len(in_train.intersection(g)) < len(g)],
        conflicting=[g for g in duplicates if len({labels[path] for path in g}) > 1],
    )


def groups_of_equals(images):
    """The groups of paths whose images have the same pixels, as sorted tuples."""
    groups = collections.defaultdict(list)
    for path, image in images.items():
        groups[image.fingerprint].append(path)
    return sorted(tuple(sorted(paths)) for paths in groups.values() if len(paths) > 1)


def kinds(paths):
    """The rotated images, and `{kind: paths}` of the images whose values change."""
    rotated, changed = [], collections.defaultdict(list)
    found = in_threads(kind_of_image, paths, "Reading the kinds of the images")
    for path, (orientation, kinds_of_path) in zip(paths, found, strict=True):
        if orientation != 1:
            rotated.append(path)
        for kind in kinds_of_path:
            changed[kind].append(path)
    return rotated, dict(changed)


def counts(listing, splits, images):
    """The numbers of readable images of each split with each label, and without a label."""
    per_class, without_labels = {}, {}
    for split in splits:
        labels = [label for path, label in listing.images[split] if path in images]
        if listing.multi_label:
            without_labels[split] = labels.count(())
            labels = [index for indices in labels for index in indices]
        count = collections.Counter(labels)
        per_class[split] = {name: count[i] for i, name in enumerate(listing.class_names)}
    return {"num_per_class": per_class, "num_without_labels": without_labels}

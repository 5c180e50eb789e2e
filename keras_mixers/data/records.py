"""Random access to the images of a TFDS dataset in TFRecord files.

A TFRecord file is a sequence of records, each with its length before it. So an index of the
records needs only these lengths, and not the images.
"""

import concurrent.futures
import pathlib
import struct

import numpy as np

from keras_mixers.data.random_access import THREADS, Images, plain, without_autotune
from keras_mixers.preprocessing.decode import traced_decoder

LENGTH = struct.Struct("<Q")
FRAME = 16  # bytes around a record: its length, and the checksums of its length and its content
OPENED_AT_ONCE = 16  # files that are indexed at the same time, because a disk may be slow to answer
BUFFER = 2**17  # bytes that are read at once; most photographs have fewer


def from_records(builder, split):
    """`Images` of a split of a prepared TFDS dataset.

    Raises:
        ValueError: if the dataset is not in TFRecord files, or if the files are incomplete.
    """
    import tensorflow as tf
    import tensorflow_datasets as tfds

    info = builder.info
    if info.file_format.value != "tfrecord":
        raise ValueError(
            "`name` must be a dataset that TFDS has prepared in TFRecord files, if its images do"
            f" not fit into memory. Received: name={builder.name!r} in"
            f" {info.file_format.value} files"
        )
    paths = [str(path) for path in info.splits[split].filepaths]
    file_of, offsets = index_of_records(paths)
    if len(offsets) != info.splits[split].num_examples:
        raise ValueError(
            f"`name` must be a complete dataset. Received: name={builder.name!r} with"
            f" {len(offsets)} images in the files of {split!r}, instead of"
            f" {info.splits[split].num_examples}"
        )
    paths, file_of, offsets = map(tf.constant, (paths, file_of, offsets))
    shape = tuple(info.features["image"].shape)

    def example_of(record):
        skip = {"image": tfds.decode.SkipDecoding()}
        return info.features.deserialize_example(record, decoders=skip)

    def label_of(record):
        return tf.cast(example_of(record)["label"], tf.int64)

    def read(index):
        example = example_of(record_at(paths[tf.gather(file_of, index)], tf.gather(offsets, index)))
        image, problem = traced_decoder(shape[-1] or 3)(example["image"])
        return image, tf.cast(example["label"], tf.int64), problem

    def name_of(index):
        place = tf.strings.format(" at byte {}", tf.gather(offsets, index))
        return tf.strings.join([paths[tf.gather(file_of, index)], place])

    def labels():
        records = tf.data.TFRecordDataset(paths).map(plain(label_of), THREADS)
        return np.fromiter(without_autotune(records).as_numpy_iterator(), "int64")

    return Images(offsets.shape[0], (*shape[:-1], shape[-1] or 3), read, name_of, labels)


def record_at(path, offset):
    """The record that begins at a byte of a file, inside a TensorFlow graph."""
    import tensorflow as tf

    one = tf.constant(1, tf.int64)
    kind = {"output_types": [tf.string], "output_shapes": [[]]}
    records = tf.raw_ops.TFRecordDatasetV2(
        filenames=[path],
        compression_type="",
        buffer_size=tf.constant(BUFFER, tf.int64),
        byte_offsets=[offset],
    )
    first = tf.raw_ops.TakeDataset(input_dataset=records, count=one, **kind)
    return tf.raw_ops.DatasetToSingleElement(dataset=first, **kind)[0]


def index_of_records(paths):
    """The number of the file and the first byte of each record, int32 and int64."""
    with concurrent.futures.ThreadPoolExecutor(OPENED_AT_ONCE) as pool:
        offsets = list(pool.map(offsets_in, paths))
    counts = [len(found) for found in offsets]
    return np.repeat(np.arange(len(paths), dtype="int32"), counts), np.concatenate(offsets)


def offsets_in(path):
    """The first byte of each record of a file."""
    found, offset = [], 0
    with pathlib.Path(path).open("rb", buffering=0) as file:
        while len(length := file.read(LENGTH.size)) == LENGTH.size:
            found.append(offset)
            offset += LENGTH.unpack(length)[0] + FRAME
            file.seek(offset)
    return np.array(found, "int64")

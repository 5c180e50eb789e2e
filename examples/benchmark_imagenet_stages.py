"""The process that benchmark_imagenet.py starts to measure one pipeline: JSON in, JSON out.

A process measures one pipeline only, so that its memory is that of this pipeline. Its cores are
those that the parent has chosen. keras_mixers starts as many threads as there are cores.
"""

import json
import os
import pathlib
import resource
import sys
import time

PAGE, TICKS = resource.getpagesize(), os.sysconf("SC_CLK_TCK")


def augmentations():
    """`{name: Augmentation}`; each contains the changes of the one before it."""
    import keras_mixers as km

    return {
        "central crop": km.data.Augmentation(),
        "random crop": km.data.Augmentation(crop_scale=(0.08, 1.0)),
        "crop, flip": km.recipes()["augreg none"].augmentation,
        "DeiT's": km.recipes()["DeiT"].augmentation,
    }


def records(spec):
    """The records of the training images in batches and in random order, without decoding."""
    import tensorflow as tf
    import tensorflow_datasets as tfds

    from keras_mixers.data.order import Order
    from keras_mixers.data.records import index_of_records, record_at

    builder = tfds.builder(spec["dataset"], data_dir=spec["data_dir"])
    paths = [str(path) for path in builder.info.splits["train"].filepaths]
    file_of, offsets = index_of_records(paths)
    order = Order(len(offsets), spec["batch"], seed=0).indices(0)
    places = tf.gather(paths, tf.gather(file_of, order)), tf.gather(offsets, order)
    files = tf.data.Dataset.from_tensor_slices(places)
    threads = len(os.sched_getaffinity(0))
    return files.map(lambda path, offset: (record_at(path, offset), 0), threads).batch(
        spec["batch"]
    )


def decoded(spec):
    """Decoded images, of which only the first pixel is kept, so that they fit into batches."""
    images = km_images(spec)
    return images.map(lambda image, label: (image[0, 0], label)).batch(spec["batch"])


def resized(spec):
    """Decoded images in the size of the model, as bytes, of which only the first pixel is kept."""
    import keras_mixers as km

    resize = km.Preprocessing(spec["image_size"], 1.0, "bilinear", 0.5, 0.5).resize
    images = km_images(spec).map(lambda image, label: (resize(image)[0, 0], label))
    return images.batch(spec["batch"])


def km_images(spec):
    import keras_mixers as km

    return km.data.images(spec["dataset"], "train", data_dir=spec["data_dir"])


def whole(spec):
    """The batches on which a model trains."""
    import keras_mixers as km

    train, _, _ = km.data.load(
        spec["dataset"],
        spec["image_size"],
        spec["batch"],
        augmentation=augmentations()[spec["pipeline"]],
        data_dir=spec["data_dir"],
    )
    return train


# Each yields batches (something, labels) of one epoch.
PIPELINES = {
    "read": records,
    "read, decode": decoded,
    "read, decode, resize": resized,
    "central crop": whole,
    "random crop": whole,
    "crop, flip": whole,
    "DeiT's": whole,
}


def measure(spec):
    """One row of the table: the medians over all epochs after the first one."""
    import numpy as np

    dataset = PIPELINES[spec["pipeline"]](spec)
    idle_bytes = resident()
    rounds, memory, images = [], [], 0
    for number in range(spec["rounds"] + 1):
        before, first = used(), images
        for _, labels in dataset:
            images += len(labels)
            if number:
                memory.append((images, resident()))
        if number:
            rounds.append(difference(before, used(), images - first))
    cores = len(os.sched_getaffinity(0))
    row = {key: float(np.median([r[key] for r in rounds])) for key in rounds[0]}
    if cores > 1:  # then the second busiest thread is of the pool too
        del row["serial_ms"]
    counts, resident_bytes = np.transpose(memory)
    slope = np.polyfit(counts / 1000, resident_bytes / 1e6, 1)[0]
    return {
        "pipeline": spec["pipeline"],
        "cores": cores,
        **row,
        "idle_MB": idle_bytes / 1e6,
        "peak_MB": resident_bytes.max() / 1e6,
        "MB_per_1000": float(slope),
    }


def used():
    """What has been used until now: (time, CPU time, CPU time by thread, CPU time of all)."""
    threads = {}
    for folder in pathlib.Path("/proc/self/task").iterdir():
        threads[folder.name] = int((folder / "schedstat").read_text().split()[0]) / 1e9
    ticks = pathlib.Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]
    idle = int(ticks[3]) + int(ticks[4])
    everyone = (sum(map(int, ticks)) - idle) / TICKS
    return time.perf_counter(), time.process_time(), threads, everyone


def difference(before, after, images):
    """Figures of one epoch.

    `serial_ms` is the time of the second busiest thread. On one core, TensorFlow's pool has one
    thread, which is the busiest one. The others are threads that a pipeline has only once on any
    number of cores.
    """
    wall, cpu, everyone = (after[i] - before[i] for i in (0, 1, 3))
    threads = sorted(seconds - before[2].get(name, 0) for name, seconds in after[2].items())
    return {
        "images_s": images / wall,
        "cpu_ms": 1000 * cpu / images,
        "serial_ms": 1000 * threads[-2] / images,
        "busy_cores": cpu / wall,
        "others_cores": max(0, everyone - cpu) / wall,
    }


def resident():
    return int(pathlib.Path("/proc/self/statm").read_text().split()[1]) * PAGE


if __name__ == "__main__":
    print(json.dumps(measure(json.loads(sys.argv[1]))))

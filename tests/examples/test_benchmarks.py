"""The benchmarks of examples/, on small models."""

import argparse
import csv
import io
import json
import os
import re
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image
from run_example import load_example, run_example

import keras_mixers as km


@pytest.mark.slow
def test_benchmark_export_measures_a_file(tmp_path):
    few = ["--models", "Hybrid-CM", "--forms", "onnxruntime", "--batches", "2", "--rounds", "1"]
    output, message = run_example("benchmark_export.py", *few, "--csv", "table.csv", cwd=tmp_path)
    assert not message
    (row,) = csv.DictReader((tmp_path / "table.csv").read_text().splitlines())
    assert output.split()[: len(row)] == list(row)
    assert (row["model"], row["file"]) == ("Hybrid-CM", "onnxruntime")
    assert float(row["difference"]) < 1e-4
    assert float(row["ms_at_2"]) > 0
    assert float(row["memory_over_weights"]) > 0


@pytest.mark.slow
def test_benchmark_measures_a_model(tmp_path):
    few = ["--models", "small", "--batch", "2", "--contestants", "keras_mixers"]
    few += ["--rounds", "1", "--steps", "1", "--tasks", "predict", "--csv", "table.csv"]
    small = {"input_shape": (8, 8, 3), "num_classes": 1000, "hidden_dim": 256, "depth": 1}
    models = {"small": ("ConvMixer", "256/8-k5-p2", small)}
    output, _ = run_example("benchmark.py", *few, cwd=tmp_path, MODELS=models, MATMUL_SIDE=512)
    (row,) = csv.DictReader((tmp_path / "table.csv").read_text().splitlines())
    assert output.split()[: len(row)] == list(row)
    assert float(row["predict_img_s"]) > 0
    assert 0 < float(row["predict_of_peak"]) < 1
    assert float(row["first_step_s"]) > 0
    assert float(row["GMACs"]) == round((16 * 256 * (12 + 25 + 256) + 256_000) / 1e9, 3)


def test_benchmark_probe_measures_each_layer(tmp_path, monkeypatch):
    small = {"input_shape": (32, 32, 3), "depth": 2}
    vit = km.ViT
    monkeypatch.setattr(km, "ViT", lambda variant, **more: vit(variant, **small, **more))
    few = ["--batch", "1", "--rounds", "1", "--csv", "table.csv"]
    output, _ = run_example("benchmark_probe.py", *few, cwd=tmp_path)
    rows = list(csv.DictReader((tmp_path / "table.csv").read_text().splitlines()))
    assert [row["layer"] for row in rows] == ["block_0_attention", "block_1_attention"]
    assert all(float(row["ratio"]) > 0 for row in rows)
    assert re.search(r"after: \d", output)


@pytest.mark.parametrize("name", ["ViT-192/6", "MLPMixer-192/6", "ConvMixer-128/8"])
def test_benchmark_contestants_are_the_same_model(name):
    builders = load_example("benchmark_models").BUILDERS
    args = argparse.Namespace(image_size=32)
    spec = load_example("benchmark").specification(name, args)
    ours = builders["keras_mixers"](spec)
    assert builders["plain Keras"](spec).count_params() == ours.count_params()


def test_benchmark_compares_dtypes_and_libraries():
    pairs = [(name, dtype) for dtype in ("float32", "mixed_bfloat16") for name in ("ours", "timm")]
    rows = [{"contestant": name, "dtype": dtype} for name, dtype in pairs]
    seconds = [[2.0, 4.0, 3.0], [1.0, 4.0, 6.0], [1.0, 1.0, 3.0], [4.0, 4.0, 9.0]]
    load_example("benchmark").add_speeds(rows, seconds, "train", batch=6)
    assert [row["train_img_s"] for row in rows] == [2.0, 1.5, 6.0, 1.5]
    assert [row["train_of_timm"] for row in rows] == [1.0, 1.0, 4.0, 1.0]
    assert [row["train_of_float32"] for row in rows] == [1.0, 1.0, 2.0, 0.67]
    best = {row["contestant"]: row["train_best_dtype"] for row in rows}
    assert best == {"ours": "mixed_bfloat16", "timm": "float32"}


def test_benchmark_contestant_makes_images_and_labels():
    spec = {"input_shape": (8, 12, 3), "num_classes": 10}
    images, labels = load_example("benchmark_contestant").batch_of(5, spec)
    assert images.shape == (5, 8, 12, 3)
    assert images.dtype == "float32"
    assert labels.shape == (5,)
    assert set(labels) <= set(range(10))


def test_benchmark_prints_why_a_contestant_ended(monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", "numpy")  # it is imported in a second
    with pytest.raises(SystemExit, match="plain Keras ended at") as ended:
        load_example("benchmark").Contestant("plain Keras", {"dtype": "float32"}, sys.executable)
    assert "benchmark_contestant.py" in str(ended.value)
    assert "KeyError: 'input_shape'" in str(ended.value)


def test_benchmark_data_measures_a_pipeline(tmp_path, digits_folder, monkeypatch):
    module = load_example("benchmark_data")
    args = argparse.Namespace(dataset="digits", image_size=8, batch=256, epochs=1)
    train, _, info = module.load(args, module.PIPELINES["none"])
    assert info.input_shape == (8, 8, 3)
    assert module.images_per_second(train, epochs=1) > 0
    layers = [keras.Input((8, 8, 3)), keras.layers.Flatten(), keras.layers.Dense(10)]
    waiting, between = module.training(args, keras.Sequential(layers), train)
    assert 0 < waiting < 1
    assert between < 60


def write_synthetic_imagenet(folder, seed=0):
    """13 training images and 1 validation image of up to 64 pixels."""
    few = ["--fraction", "1e-5", "--pool", "6", "--largest-side", "64", "--seed", str(seed)]
    return run_example("synthetic_imagenet.py", "data", *few, cwd=folder)


@pytest.fixture(scope="module")
def synthetic_imagenet(tmp_path_factory):
    """The folder that holds a small synthetic ImageNet, prepared for TFDS."""
    folder = tmp_path_factory.mktemp("imagenet")
    output, message = write_synthetic_imagenet(folder)
    assert not message
    assert "train: 13 images in 1 shards" in output
    return folder / "data"


def records_of(data_dir):
    return {file.name: file.read_bytes() for file in data_dir.rglob("*.tfrecord-*")}


def test_synthetic_imagenet_depends_only_on_the_seed(synthetic_imagenet, tmp_path):
    expected = records_of(synthetic_imagenet)
    assert len(expected) == 2
    for seed, equal in ((0, True), (1, False)):
        folder = tmp_path / str(seed)
        folder.mkdir()
        write_synthetic_imagenet(folder, seed)
        assert (records_of(folder / "data") == expected) is equal
    _, message = write_synthetic_imagenet(folder)
    assert "exists; remove it first" in message


def test_synthetic_imagenet_is_a_tfds_dataset(synthetic_imagenet):
    name, options = "synthetic_imagenet", {"data_dir": synthetic_imagenet}
    train, _, info = km.data.load(name, 16, 4, **options)
    assert (info.num_train, info.num_validation, info.num_classes) == (13, 1, 1000)
    assert sum(len(labels) for _, labels in train) == 13
    images = [image.numpy() for image, _ in km.data.images(name, "train", **options)]
    assert all(8 <= max(image.shape[:2]) <= 64 and image.std() > 10 for image in images)

    undecoded = {"image": tfds.decode.SkipDecoding()}
    examples = tfds.builder(name, **options).as_dataset("train", decoders=undecoded)
    files = {str(e["file_name"].numpy(), "utf-8"): e["image"].numpy() for e in examples}
    assert sorted(files) == [f"train_{i:08}.JPEG" for i in range(13)]
    kinds = [Image.open(io.BytesIO(files[f"train_{i:08}.JPEG"])) for i in range(2)]
    assert [(kind.format, kind.mode) for kind in kinds] == [("PNG", "RGB"), ("JPEG", "CMYK")]


def test_synthetic_imagenet_has_the_sizes_of_imagenet():
    module = load_example("synthetic_imagenet")
    sizes = [module.size_of(i, np.random.default_rng(i)) for i in range(2000)]
    height, width = np.mean([size for size, _ in sizes], axis=0)
    assert 380 < height < 410
    assert 450 < width < 480
    assert 0.79 < np.mean([is_common for _, is_common in sizes]) < 0.81
    files = module.encoded_images(0, 4, largest_side=500)
    kinds = {b"\x89PNG": [module.PNG], b"\xff\xd8\xff": [module.CMYK, 2, 3]}
    for magic, indices in kinds.items():
        assert all(files[i].startswith(magic) for i in indices)
    assert 20_000 < np.mean([len(file) for file in files[2:]]) < 300_000


needs_linux = pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")


@needs_linux
def test_benchmark_imagenet_measures_pipelines(synthetic_imagenet):
    measure = load_example("benchmark_imagenet_stages").measure
    spec = {"dataset": "synthetic_imagenet", "data_dir": str(synthetic_imagenet)}
    spec |= {"image_size": 16, "batch": 4, "rounds": 1}
    for pipeline in ("read", "read, decode, resize", "crop, flip"):
        row = measure({**spec, "pipeline": pipeline})
        assert row["pipeline"] == pipeline
        assert row["cores"] == len(os.sched_getaffinity(0))
        assert row["images_s"] > 0
        # All CPU time of this process, on the cores that it may use.
        assert 0 < row["busy_cores"] < row["cores"] + 0.5
        assert 50 < row["idle_MB"] <= row["peak_MB"]


@needs_linux
def test_benchmark_imagenet_predicts_and_checks(tmp_path, monkeypatch):
    pipelines = load_example("benchmark_imagenet_stages").PIPELINES
    milliseconds = dict(zip(pipelines, range(1, 8), strict=True))
    before = os.sched_getaffinity(0)
    monkeypatch.setattr(os, "cpu_count", lambda: 8)

    def measured(command, **_):
        spec, cores = json.loads(command[-1]), len(os.sched_getaffinity(0))
        row = {"pipeline": spec["pipeline"], "cores": cores, "others_cores": 7.5}
        cpu = milliseconds[spec["pipeline"]]
        row |= {"images_s": 400 / cpu, "cpu_ms": float(cpu), "serial_ms": 0.2}
        return subprocess.CompletedProcess(command, 0, json.dumps(row))

    monkeypatch.setattr(subprocess, "run", measured)
    output, message = run_example(
        "benchmark_imagenet.py",
        "data",
        "--cores",
        "1",
        "--csv",
        "tables",
        cwd=tmp_path,
        VARIANTS=("S/16",),
    )
    assert not message
    assert os.sched_getaffinity(0) == before
    tables = {
        file.stem: list(csv.DictReader(file.read_text().splitlines()))
        for file in (tmp_path / "tables").iterdir()
    }
    assert all(title in output for title in tables)
    assert [row["pipeline"] for row in tables["measured"]] == list(milliseconds)
    # From 1 ms for reading to 7 ms for DeiT's pipeline.
    expected = [1, 1, 1, 1, 5 - 2, 1, 1]
    assert [float(row["cpu_ms_on_1"]) for row in tables["stages"]] == expected
    row = tables["scaling"][0]
    assert (row["pipeline"], row["free_cores"]) == ("central crop", "0.5")
    assert (row["predicted"], row["measured_on_1"], row["error"]) == ("125", "100", "+25%")
    assert (row["on_16"], row["on_32"]) == ("4000", "5000")  # the serial part limits 32 cores
    row = tables["gpu"][0]
    assert row["train_GFLOP"] == "27.6"
    assert row["images_s"] == str(round(0.3 * 989e12 / (6 * 4_598_882_304)))
    assert row["cores, DeiT's"] == "serial"


def test_benchmark_rotary_measures_each_task(tmp_path):
    few = ["--hidden-dim", "16", "--heads", "2", "--depth", "1", "--batch", "1", "--rounds", "1"]
    run_example("benchmark_rotary.py", *few, "--csv", "table.csv", cwd=tmp_path)
    rows = list(csv.DictReader((tmp_path / "table.csv").read_text().splitlines()))
    assert [row["task"] for row in rows][:3] == ["training", "inference", "onnx"]
    assert all(float(row["halves"]) > 0 and float(row["neighbours"]) > 0 for row in rows)

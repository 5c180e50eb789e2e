"""The benchmarks of examples/, on small models."""

import argparse
import csv
import re
import sys

import keras
import pytest
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
    args = argparse.Namespace(dtype="float32", image_size=32)
    spec = load_example("benchmark").specification(name, args)
    ours = builders["keras_mixers"](spec)
    assert builders["plain Keras"](spec).count_params() == ours.count_params()


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
        load_example("benchmark").Contestant("plain Keras", {}, sys.executable)
    assert "benchmark_contestant.py" in str(ended.value)
    assert "KeyError: 'dtype'" in str(ended.value)


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

"""The examples and the README, run as a user would, at toy size."""

import argparse
import contextlib
import csv
import importlib.util
import io
import os
import pathlib
import re
import socket
import subprocess
import sys
import time

import keras
import numpy as np
import pytest

import keras_mixers as km

ROOT = pathlib.Path(__file__).parents[1]
TOY = ["--epochs", "1", "--hidden-dim", "32", "--depth", "1", "--patch-size", "4"]


def main(example, *arguments, cwd):
    """The example in this process, which has TensorFlow already: (output, why it ended or "")."""
    output, errors = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(cwd)
        patch.setattr(sys, "argv", [example, *arguments])
        with contextlib.redirect_stdout(output), contextlib.redirect_stderr(errors):
            try:
                load_example(example.removesuffix(".py")).main()
                why = ""
            except SystemExit as end:
                why = errors.getvalue() if end.code == 2 else str(end)
    return output.getvalue(), why


@pytest.fixture
def without_rand_augment(monkeypatch):
    """Its graph takes seconds to make."""
    recipe = km.Recipe(epochs=80, augmentation=km.data.Augmentation(translation=0.1))
    monkeypatch.setattr(km, "recipes", lambda: {"small": recipe})


def test_train(tmp_path, digits_folder):
    """Killed within an epoch in a process of its own, gone on with here, to an untouched end."""
    # without RandAugment, whose graph takes seconds to make
    recipe = km.Recipe(epochs=6, augmentation=km.data.Augmentation(translation=0.1))
    recipe.save(tmp_path / "recipe.json")
    arguments = ["--model", "C", *TOY[2:], "--recipe", "recipe.json", "--save-every", "5"]
    backup = tmp_path / "cut" / "backup.weights.h5"
    program = [sys.executable, ROOT / "examples" / "train.py", *arguments, "--output", "cut"]
    with (tmp_path / "errors").open("w") as errors:
        process = subprocess.Popen(program, cwd=tmp_path, stdout=errors, stderr=errors)
        while not backup.exists() and process.poll() is None:
            time.sleep(0.01)
        process.kill()
        process.wait()
    assert backup.exists(), (tmp_path / "errors").read_text()

    _, why = main("train.py", *arguments, "--output", "cut", cwd=tmp_path)
    assert "holds an unfinished training run" in why
    _, why = main(
        "train.py", *arguments, "--seed", "3", "--resume", "--output", "cut", cwd=tmp_path
    )
    assert "--resume needs the flags of the unfinished run: --seed 0" in why

    output, why = main("train.py", *arguments, "--resume", "--output", "cut", cwd=tmp_path)
    assert not why
    accuracy = float(re.search(r"Test accuracy: ([\d.]+)%", output)[1])
    assert 0 < accuracy <= 100
    differences = re.findall(r"Largest difference in (\w+), .*: (\S+)\n", output)
    assert [name for name, _ in differences] == ["onnxruntime", "SavedModel"]
    assert all(float(difference) < 1e-4 for _, difference in differences)

    files = {path.name for path in (tmp_path / "cut").iterdir()}
    written = {"model.keras", "history.png", "model.onnx", "saved_model", "recipe.json"}
    assert files == {*written, "flags.json"}, "the backup has done its work"
    assert (tmp_path / "cut" / "history.png").read_bytes().startswith(b"\x89PNG")
    cut = keras.models.load_model(tmp_path / "cut" / "model.keras")
    batches, _, info = km.data.load("digits", 16, augmentation=recipe.augmentation)
    keras.utils.set_random_seed(0)
    whole = load_example("train").build(flags("C"), recipe, info)
    recipe.compile(whole, len(batches))
    whole.fit(batches, epochs=recipe.epochs, shuffle=False, verbose=0)
    assert cut(np.zeros((1, 16, 16, 1), "float32")).shape == (1, 10)
    for one, other in zip(cut.weights, whole.weights, strict=True):
        np.testing.assert_allclose(one.numpy(), other.numpy(), atol=1e-4, err_msg=one.path)


def flags(model):
    size = {"patch_size": 4, "hidden_dim": 32, "depth": 3}
    return argparse.Namespace(model=model, gradient_checkpointing=False, **size)


@pytest.mark.parametrize("model", ["vit", "mlp_mixer", "conv_mixer", "MMA", "CM"])
def test_train_builds_what_the_flag_says(model):
    info = argparse.Namespace(input_shape=(16, 16, 1), num_classes=10)
    built = load_example("train").build(flags(model), km.Recipe(epochs=1), info)
    assert built.input_shape == (None, 16, 16, 1)
    mixers = {"vit": "attention", "mlp_mixer": "token_mixing", "conv_mixer": "conv_mixer"}
    letters = {"A": "attention", "M": "token_mixing", "C": "conv_mixer"}
    wanted = [mixers[model]] * 3 if model in mixers else [letters[letter] for letter in model]
    found = [layer.name for layer in built.layers if re.match(r"block_\d_", layer.name)]
    found = [name.split("_", 2)[2] for name in found if not name.endswith(("grid", "tokens"))]
    assert [name for name in found if name != "channel_mixing"] == wanted


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model", "MXA"], "--model must be vit, mlp_mixer, conv_mixer, or a pattern.*'MXA'"),
        (["--epochs", "0"], "argument --epochs: must be 1 or more, not 0"),
        (["--output", "/dev/null/out"], "train.py: .*/dev/null/out"),
        (["--patch-size", "3"], r"`patch_size` must divide.*\(3, 3\).*\(16, 16\)"),
        (["--dataset", "digist"], "'digist'. Did you mean 'digits'"),
        (["--learning-rate", "nan"], "--learning-rate: must be a finite number above 0, not nan"),
        (["--seed", "-1"], "--seed: must be 0 or more, not -1"),
        (["--epochs", "two"], "--epochs: invalid int value: 'two'"),
        (["--recipe", "smal"], "--recipe must be a JSON file or one of 'DeiT'.*'smal'"),
    ],
)
def test_train_with_a_wrong_flag(arguments, message, tmp_path, digits_folder):
    _, why = main("train.py", *arguments, cwd=tmp_path)
    assert re.search(message, why, re.DOTALL), why
    assert not list(tmp_path.iterdir())


def test_train_says_at_once_that_another_backend_will_not_do(tmp_path, monkeypatch):
    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    output, why = main("train.py", cwd=tmp_path)
    assert why == "train.py: the export needs TensorFlow: set KERAS_BACKEND=tensorflow"
    assert not output


TIMM_VIT = pathlib.Path(__file__).parent / "weights" / "golden" / "timm_vit.safetensors"
ITS_ARCHITECTURE = [
    *("--family", "ViT", "--variant", "Ti/16", "--set", "patch_size=8", "hidden_dim=64"),
    *("depth=2", "num_heads=4", "mlp_dim=256", "--image-size", "24"),
]


def test_finetune(tmp_path, digits_folder):
    few = ["--head-epochs", "1", "--epochs", "1", "--output", "here"]
    output, why = main("finetune.py", str(TIMM_VIT), *ITS_ARCHITECTURE, *few, cwd=tmp_path)
    assert not why
    assert "positions: resized from 4 x 4 to 3 x 3 (bicubic_antialias)" in output
    assert "patch_embed.kernel: from 3 channels to 1" in output
    alone, accuracy = re.findall(r"Test accuracy.*: ([\d.]+)%", output)
    assert 0 < float(alone) <= 100
    assert float(alone) != float(accuracy), "the second stage trains too"
    saved = keras.models.load_model(tmp_path / "here" / "model.keras")
    assert saved(np.zeros((1, 24, 24, 1), "float32")).shape == (1, 10)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["none"], "finetune.py: CHECKPOINT must be a name.*'none'"),
        (["none.npz", *ITS_ARCHITECTURE], "finetune.py: `source` must be a file.*'none.npz'"),
        ([str(TIMM_VIT), *ITS_ARCHITECTURE, "--set", "depth=3"], "the file has 2 blocks"),
        (["none", "--layer-decay", "0"], "--layer-decay: must be above 0 and at most 1, not 0"),
    ],
)
def test_finetune_with_a_wrong_argument(arguments, message, tmp_path, digits_folder):
    _, why = main("finetune.py", *arguments, cwd=tmp_path)
    assert re.search(message, why, re.DOTALL), why
    assert not list(tmp_path.iterdir())


def test_finetune_from_the_catalog(tmp_path, digits_folder, monkeypatch):
    import keras_mixers as km
    from keras_mixers.models import published
    from keras_mixers.weights import catalog, locate

    architecture = {"hidden_dim": 64, "depth": 2, "num_heads": 4, "mlp_dim": 256, "patch_size": 8}
    row = catalog.timm_vit("Ti/16", "a_vit.here", size=32, **architecture)
    monkeypatch.setattr(locate, "CHECKPOINTS", (row,))
    monkeypatch.setattr(published, "check_arguments", lambda *_: None)  # it is no published one
    monkeypatch.setattr(locate, "download", lambda row: TIMM_VIT)
    assert km.pretrained("ViT") == {"a_vit.here": row}
    few = ["--head-epochs", "0", "--epochs", "1"]
    output, why = main("finetune.py", "a_vit.here", *few, cwd=tmp_path)
    assert not why
    assert "Test accuracy:" in output
    saved = keras.models.load_model(tmp_path / "out" / "model.keras")
    assert saved.input_shape == (None, 32, 32, 3), "grey pictures came as three colours"
    _, why = main("finetune.py", "a_vit.here", "--set", "depth=3", cwd=tmp_path)
    assert "must be left out for a name in km.pretrained()" in why


WITHOUT = """
import runpy, sys
for module in {modules!r}:
    sys.modules[module] = None  # importing it fails
sys.argv[1:] = {arguments!r}
runpy.run_path({example!r}, run_name="__main__")
"""


def test_deploy(tmp_path, digits_folder):
    """Exported here; classified in processes that cannot import what made the files."""
    model = km.MLPMixer(
        "S/16", input_shape=(16, 16, 1), patch_size=4, hidden_dim=32, depth=1, num_classes=10
    )
    model.save(tmp_path / "model.keras")
    output, why = main("deploy.py", "export", "model.keras", "--output", "here", cwd=tmp_path)
    assert not why
    assert [line.split(":")[0] for line in output.splitlines()] == [
        *("here/model.onnx", "here/int8.onnx", "here/saved_model")
    ]
    images = sorted(str(p.relative_to(tmp_path)) for p in (tmp_path / "here/images").iterdir())
    assert len(images) == 8

    ours = ("keras", "keras_mixers", "jax")
    said = {}
    for command, file, modules in (
        ("onnx", "here/model.onnx", (*ours, "tensorflow", "onnx", "tf2onnx")),
        ("onnx", "here/int8.onnx", (*ours, "tensorflow", "onnx", "tf2onnx")),
        ("saved_model", "here/saved_model", (*ours, "onnxruntime")),
    ):
        program = WITHOUT.format(
            modules=modules,
            arguments=[command, file, *images],
            example=str(ROOT / "examples" / "deploy.py"),
        )
        ended = subprocess.run(
            [sys.executable, "-c", program],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        assert ended.returncode == 0, ended.stderr[-2000:]
        said[file] = ended.stdout.splitlines()
    assert said["here/model.onnx"] == said["here/saved_model"]
    assert len(said["here/int8.onnx"]) == 8
    for line, image in zip(said["here/model.onnx"], images, strict=True):
        assert re.fullmatch(rf"{image}: \d [\d.]+%, \d [\d.]+%, \d [\d.]+%", line), line


def test_deploy_with_a_wrong_argument(tmp_path):
    _, why = main("deploy.py", "export", "none.keras", cwd=tmp_path)
    assert "deploy.py: File not found: filepath=none.keras" in why
    _, why = main("deploy.py", "onnx", "none.onnx", "none.png", cwd=tmp_path)
    assert "deploy.py: there is no none.onnx" in why


def test_benchmark_export(tmp_path):
    few = ["--models", "Hybrid-CM", "--forms", "onnxruntime", "--batches", "2", "--rounds", "1"]
    output, why = main("benchmark_export.py", *few, "--csv", "table.csv", cwd=tmp_path)
    assert not why
    (row,) = csv.DictReader((tmp_path / "table.csv").read_text().splitlines())
    assert output.split()[: len(row)] == list(row)
    assert (row["model"], row["file"]) == ("Hybrid-CM", "onnxruntime")
    assert float(row["difference"]) < 1e-4
    assert float(row["ms_at_2"]) > 0
    assert float(row["memory_over_weights"]) > 0


def test_benchmark(tmp_path):
    few = ["--models", "ConvMixer-256/8-k5-p2", "--image-size", "8", "--batch", "2"]
    few += ["--contestants", "keras_mixers", "--rounds", "1", "--steps", "1", "--tasks", "predict"]
    output, _ = main("benchmark.py", *few, "--csv", "table.csv", cwd=tmp_path)
    (row,) = csv.DictReader((tmp_path / "table.csv").read_text().splitlines())
    assert output.split()[: len(row)] == list(row)
    assert float(row["predict_img_s"]) > 0
    assert 0 < float(row["predict_of_peak"]) < 1
    assert float(row["first_step_s"]) > 0
    assert float(row["GMACs"]) == round((16 * 256 * (12 + 8 * (25 + 256)) + 256_000) / 1e9, 3)


def test_benchmark_probe(tmp_path, monkeypatch):
    small = {"input_shape": (32, 32, 3), "depth": 2}
    vit = km.ViT
    monkeypatch.setattr(km, "ViT", lambda variant, **more: vit(variant, **small, **more))
    few = ["--batch", "1", "--rounds", "1", "--csv", "table.csv"]
    output, _ = main("benchmark_probe.py", *few, cwd=tmp_path)
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


def test_a_benchmark_contestant_that_ends_says_why():
    with pytest.raises(SystemExit, match="plain Keras ended at") as ended:
        load_example("benchmark").Contestant("plain Keras", {}, sys.executable)
    assert "benchmark_contestant.py" in str(ended.value)
    assert "KeyError: 'dtype'" in str(ended.value)


def test_compare_mixers(tmp_path, digits_folder, without_rand_augment):
    few = ["--models", "CM", "--epochs", "1", "--without-augmentation"]
    few += ["--dataset", "digits", "--logs", "csv", "--output", "here"]
    output, why = main("compare_mixers.py", *few, cwd=tmp_path)
    assert not why
    rows = list(csv.DictReader((tmp_path / "here" / "table.csv").read_text().splitlines()))
    assert [(row["model"], row["augmentation"]) for row in rows] == [
        *(("CM", "with"), ("CM", "without"))
    ]
    assert all(0 < float(row["accuracy"]) <= 100 for row in rows)
    assert output.splitlines()[-3].split() == list(rows[0])
    assert (tmp_path / "here" / "picture.png").read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "here" / "CM-without-0.csv").read_text().startswith("epoch,accuracy,loss")


def test_benchmark_data(tmp_path, digits_folder, monkeypatch):
    module = load_example("benchmark_data")
    args = argparse.Namespace(dataset="digits", image_size=8, batch=256, epochs=1)
    train, _, info = module.load(args, module.PIPELINES["none"])
    assert info.input_shape == (8, 8, 3)
    assert module.images_per_second(train, epochs=1) > 0
    layers = [keras.Input((8, 8, 3)), keras.layers.Flatten(), keras.layers.Dense(10)]
    waiting, between = module.training(args, keras.Sequential(layers), train)
    assert 0 < waiting < 1
    assert between < 60


def test_compare_mixers_builds_the_whole_study():
    module = load_example("compare_mixers")
    for name, contender in module.MODELS.items():
        side = contender.image_size
        info = argparse.Namespace(input_shape=(side, side, 3), num_classes=10)
        assert contender.build(info).output_shape == (None, 10), name
    assert len(module.STUDY) == 8


def test_tune(tmp_path, digits_folder):
    """Interrupted in its second trial, and gone on with by the same command."""
    few = ["--trials", "2", "--epochs", "1", "--final-epochs", "1", "--depth", "1"]
    few += ["--letters", "C", "M", "--output", "here"]
    fit, runs = km.tuning.HyperHybrid.fit, []

    def interrupted(self, hp, *arguments, **options):
        runs.append(hp.values)
        if len(runs) == 2:
            raise KeyboardInterrupt
        return fit(self, hp, *arguments, **options)

    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(km.tuning.HyperHybrid, "fit", interrupted)
        main("tune.py", *few, cwd=tmp_path)
    output, why = main("tune.py", *few, cwd=tmp_path)
    assert not why
    found = [line.split()[1] for line in output.splitlines() if line.startswith("Trial ")]
    assert found == ["1:"], "the first is not run again"
    rows = list(csv.DictReader((tmp_path / "here" / "table.csv").read_text().splitlines()))
    assert len(rows) == 2
    assert {row["pattern"] for row in rows} <= {"C", "M"}
    assert rows[0]["front"] == "*", "nothing is cheaper"
    assert "0 configurations were over budget" in output
    assert re.search(r"Best configuration \([CM], [\d,]+ parameters\): [\d.]+% of 360 test", output)
    assert re.search(r"Default configuration \(C, [\d,]+ parameters\): [\d.]+% of 360 test", output)
    assert (tmp_path / "here" / "picture.png").read_bytes().startswith(b"\x89PNG")
    assert keras.models.load_model(tmp_path / "here" / "model.keras").output_shape == (None, 10)
    assert km.Recipe.load(tmp_path / "here" / "recipe.json").epochs == 1
    assert "here/model.onnx: onnx in float32" in output

    _, why = main("tune.py", "--letters", "X", cwd=tmp_path)
    assert "tune.py: `letters` must be one of" in why


def test_the_front_is_what_nothing_cheaper_beats():
    trials, costs = {}, {}
    for i, (score, cost) in enumerate([(0.9, 30), (0.8, 10), (0.7, 20), (0.95, 40)]):
        trials[str(i)] = argparse.Namespace(
            trial_id=str(i), status="COMPLETED", score=score, hyperparameters=i
        )
        costs[i] = {"params": cost, "flops": 1000 * cost}
    space = argparse.Namespace(
        arguments_of=lambda i: {"pattern": "CA", "patch_size": 4, "hidden_dim": i},
        recipe_of=lambda i, epochs: km.Recipe(epochs=epochs),
        cost_of=lambda i: costs[i],
    )
    tuner = argparse.Namespace(oracle=argparse.Namespace(trials=trials))
    rows = load_example("tune").front(tuner, space)
    assert [row["trial"] for row in rows] == ["1", "2", "0", "3"]
    assert [row["front"] for row in rows] == ["*", "", "*", "*"]


def test_train_distributed(tmp_path, digits_folder):
    """Two processes on loopback, and one, with the same batches: the same losses."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        coordinator = f"127.0.0.1:{free.getsockname()[1]}"
    small = ["--epochs", "2", "--pattern", "M", "--hidden-dim", "16", "--image-size", "8"]
    program = [sys.executable, ROOT / "examples" / "train_distributed.py", *small]
    two = ["--processes", "2", "--coordinator", coordinator, "--process-id"]
    # What runs a few times is compiled fast, and what one process compiled serves the next.
    quick = {
        "XLA_FLAGS": "--xla_backend_optimization_level=0",
        "JAX_COMPILATION_CACHE_DIR": str(tmp_path / "compiled"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }
    started = [
        subprocess.Popen(
            [*program, *flags],
            cwd=tmp_path,
            env={**os.environ, **quick},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for flags in ([*two, "0", "--output", "two"], [*two, "1"], ["--output", "one"])
    ]
    losses = []
    for process in started:
        output, errors = process.communicate(timeout=300)
        assert process.returncode == 0, errors[-3000:]
        losses.append([float(loss) for loss in output.split("losses: ")[1].split("\n")[0].split()])
    assert losses[0] == losses[1]
    np.testing.assert_allclose(losses[0], losses[2], rtol=1e-4)
    assert losses[0][1] < losses[0][0]

    # what JAX trained, TensorFlow exports
    two, one = (
        keras.models.load_model(tmp_path / folder / "model.keras") for folder in ("two", "one")
    )
    for weight, other in zip(two.weights, one.weights, strict=True):
        np.testing.assert_allclose(weight.numpy(), other.numpy(), atol=1e-4, err_msg=weight.path)
    assert km.export(two, tmp_path / "two.onnx").largest_difference < 1e-4


def test_visualize_attention(tmp_path, digits_folder, without_rand_augment):
    size = ["--image-size", "16", "--patch-size", "4", "--heads", "2", "--epochs", "1"]
    output, why = main("visualize_attention.py", *size, "--image", "3", cwd=tmp_path)
    assert not why
    pictures = ("matrix", "object", "background")
    pictures = [f"attention_{name}.png" for name in pictures]
    pictures += ["rollout.png", "relevance.png", "distance.png", "positions.png", "filters.png"]
    written = {*pictures, "history.png", "attention.gif", "explorer.html", "model.keras"}
    assert {path.name for path in (tmp_path / "looked").iterdir()} == written
    for name in written - {"model.keras"}:
        assert f"wrote looked/{name}" in output
    model = keras.models.load_model(tmp_path / "looked" / "model.keras")
    (weights,) = km.attention_maps(model, np.zeros((1, 16, 16, 1))).values()
    assert weights.shape == (1, 2, 16, 16)
    _, why = main("visualize_attention.py", *size, "--image", "64", cwd=tmp_path)
    assert why == "visualize_attention.py: --image must be from 0 to 63. Received: --image 64"


def test_visualize_token_mixing(tmp_path, digits_folder):
    example = load_example("visualize_token_mixing")
    args = argparse.Namespace(patch_size=4, depth=2)
    info = argparse.Namespace(input_shape=(16, 16, 1), num_classes=10)
    example.build(args, info).save(tmp_path / "mixer.keras")
    _, why = main("visualize_token_mixing.py", "--model", "mixer.keras", cwd=tmp_path)
    assert not why
    pictures = {f"{kind}_{i}.png" for kind in ("units", "activations", "channels") for i in (0, 1)}
    written = {*pictures, "features.png", "explorer.html"}
    assert {path.name for path in (tmp_path / "looked").iterdir()} == written
    _, why = main("visualize_attention.py", "--model", "mixer.keras", cwd=tmp_path)
    assert "`model` must have a MultiHeadSelfAttention layer" in why


def test_every_example_has_a_test():
    tested = pathlib.Path(__file__).read_text()
    for example in (ROOT / "examples").glob("*.py"):
        named = f'"{example.name}"' in tested or f'load_example("{example.stem}")' in tested
        assert named, example.name


def test_readme_code_runs(tmp_path, monkeypatch, digits_folder):
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert len(blocks) >= 4
    scope = {}
    for block in blocks:
        exec(compile(block, "README.md", "exec"), scope)


def test_readme_table_of_variants_is_the_packages():
    readme = (ROOT / "README.md").read_text()
    rows = re.findall(r"^\| `([A-Z]\w+)` \| (.+?) \|", readme, re.MULTILINE)
    listed = {(family, name) for family, names in rows for name in re.findall(r"`(.+?)`", names)}
    families = ("ViT", "MLPMixer", "ConvMixer")
    assert listed == {(family, name) for family in families for name in km.variants(family)}


def load_example(name):
    spec = importlib.util.spec_from_file_location(name, ROOT / "examples" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module

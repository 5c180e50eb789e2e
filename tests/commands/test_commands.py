"""Each command on a tiny model."""

import csv
import io
import json
import re
import sys
import zipfile

import keras
import numpy as np
import pytest
import tensorflow as tf
from run_command import run_command

import keras_mixers as km
from keras_mixers.commands import evaluate, exits, export, flags, main, models, predict
from keras_mixers.models.outputs import is_sigmoid


@pytest.fixture(scope="module")
def folder(tmp_path_factory, digits_folder):
    """A folder with model.keras, whose random weights do not matter, and three pictures.

    empty.keras and damaged.keras are zip files that Keras cannot read.
    """
    folder = tmp_path_factory.mktemp("commands")
    info = km.data.load("digits", 8)[2]
    size = {"patch_size": 4, "hidden_dim": 8, "depth": 1, "num_heads": 2, "mlp_dim": 8}
    model = km.ViT("Ti/16", input_shape=(8, 8, 1), num_classes=10, **size)
    model.set_info(info)
    model.save(folder / "model.keras")
    data = (folder / "model.keras").read_bytes()
    (folder / "damaged.keras").write_bytes(data.replace(b"ImageModel", b"ImageMadel"))
    zipfile.ZipFile(folder / "empty.keras", "w").close()
    for i, (image, _) in enumerate(km.data.images("digits").take(3).as_numpy_iterator()):
        keras.utils.save_img(folder / f"{i}.png", image, scale=False)
    return folder


@pytest.fixture(scope="module")
def model(folder):
    return keras.models.load_model(folder / "model.keras")


def test_predict_prints_every_form(folder, model, monkeypatch):
    files = ["0.png", "1.png", "2.png"]
    paths = [str(folder / file) for file in files]
    expected = km.predict(model, paths, top=2)
    code, output, _ = run_command("predict", "model.keras", *paths, "--top", 2, cwd=folder)
    assert code == 0
    assert output.splitlines() == list(map(str, expected))

    monkeypatch.setattr(predict, "load_model", lambda _: model)  # because it is compiled already
    options = ["--top", 2, "--batch-size", 1]
    code, output, errors = run_command(
        "predict", "model.keras", *files, *options, "--json", cwd=folder
    )
    assert code == 0
    assert "batch" in errors, "the progress does not disturb the output"
    found = json.loads(output)
    assert [each["file"] for each in found] == files
    for each, prediction in zip(found, expected, strict=True):
        assert [row["class"] for row in each["classes"]] == list(prediction.class_names)
        values = [row["probability"] for row in each["classes"]]
        np.testing.assert_allclose(values, prediction.probabilities, rtol=1e-4)

    _, output, _ = run_command("predict", "model.keras", *files, *options, "--csv", cwd=folder)
    head, *rows = csv.reader(io.StringIO(output))
    assert head == ["file", "class", "probability"]
    assert [row[0] for row in rows] == [file for file in files for _ in range(2)]
    assert [row[1] for row in rows] == [name for each in expected for name in each.class_names]


def test_evaluate_prints_the_table_and_writes_a_page(folder, model):
    _, validation, info = km.data.load("digits", 8)
    code, output, _ = run_command(
        "evaluate", "model.keras", "digits", "--report", "page.html", cwd=folder
    )
    assert code == 0
    assert str(km.evaluate(model, validation, info)) in output
    assert "Evaluation of" in (folder / "page.html").read_text()


def test_explore_writes_a_page_of_files_or_a_dataset(folder):
    code, output, errors = run_command(
        "explore", "model.keras", "digits", "page.html", "--count", 2, "--layers", -1, cwd=folder
    )
    assert (code, output) == (0, "page.html: open it in a browser\n"), errors
    files = ["0.png", "1.png", "2.png", "new.html", "--count", 1]
    code, _, errors = run_command("explore", "model.keras", *files, cwd=folder)
    assert code == 0, errors
    two, one = ((folder / name).read_text() for name in ("page.html", "new.html"))
    assert two.count("data:image/png") == 2 * one.count("data:image/png") > 0
    assert "block_0_attention" in one


def test_models_lists_names_variants_and_parameters(tmp_path):
    code, output, _ = run_command("models", "vit_tiny*_in1k", cwd=tmp_path)
    assert code == 0
    head, *rows = output.splitlines()
    assert head.split() == ["name", "variant", "pixels", "classes", "file", "licence"]
    assert [row.split()[0] for row in rows] == km.list_models("vit_tiny*_in1k")
    _, output, _ = run_command("models", "Mixer s/32", "--variants", cwd=tmp_path)
    assert output.splitlines()[0].split() == ["builder", "variant", "arguments"]
    _, output, _ = run_command("models", "Mixer s/32", "--variants", "--parameters", cwd=tmp_path)
    assert "MLPMixer  S/32     19,104,624  " in output.splitlines()[1]
    code, output, errors = run_command("models", "no such", cwd=tmp_path)
    assert (code, output) == (1, "")
    assert errors == (
        "keras-mixers models: PATTERN must match a name; without it, all are listed. Received:"
        " 'no such'\n"
    )


def test_export_passes_its_flags(folder, model, monkeypatch):
    """tests/exporting shows what `km.export` makes of its arguments."""
    passed = {}
    monkeypatch.setattr(export, "load_model", lambda _: model)
    monkeypatch.setattr(km, "export", lambda model, path, **options: passed.update(options))
    given = ["--quantize", "int8", "--calibration", "digits", "--batch", 2, "--top", 3]
    code, _, errors = run_command("export", "model.keras", "a.onnx", *given, cwd=folder)
    assert code == 0, errors
    assert passed.pop("calibration_data").element_spec[0].dtype.name == "uint8"
    assert passed == {
        **dict.fromkeys(("format", "runtime", "version")),
        "preprocessing": "model",
        "target": "onnx",
        "dtype": "float32",
        "quantize": "int8",
        "attention_maps": False,
        "batch": 2,
        "top": 3,
    }
    given = ["--calibration", "digits", "--preprocessing", "none", "--serving-version", 3]
    run_command("export", "model.keras", "a.onnx", *given, cwd=folder)
    assert (passed["preprocessing"], passed["version"]) == (None, 3)
    assert passed["calibration_data"].element_spec[0].dtype.name == "float32"
    assert set(export.SAME) <= set(passed)
    run_command("export", "model.keras", "a.tflite", "--calibration", "digits", cwd=folder)
    assert passed["preprocessing"] == "model"
    assert passed["calibration_data"].element_spec[0].dtype.name == "float32"


@pytest.mark.parametrize(("given", "on_error"), [([], "raise"), (["--skip-unreadable"], "skip")])
def test_evaluate_passes_its_flags(given, on_error, folder, monkeypatch):
    def load(*arguments, **options):
        raise ValueError(options)

    monkeypatch.setattr(evaluate, "load_model", lambda _: None)
    monkeypatch.setattr(evaluate, "load_dataset", load)
    _, _, errors = run_command("evaluate", "model.keras", "digits", *given, cwd=folder)
    assert f"{{'batch_size': 64, 'on_error': '{on_error}'}}" in errors


def test_loaded_model_has_the_loss_of_a_training_with_lora(tmp_path):
    """Keras cannot load the state of its optimizer, because the file has no LoRA matrices."""
    size = {"patch_size": 4, "hidden_dim": 8, "depth": 1, "num_heads": 2, "mlp_dim": 8}
    model = km.ViT("Ti/16", input_shape=(8, 8, 1), num_classes=3, **size)
    km.Recipe(epochs=1, loss="sigmoid", lora_rank=1).compile(model, steps_per_epoch=1)
    model.save(tmp_path / "model.keras")
    with pytest.raises(ValueError, match="could not be loaded"):
        keras.models.load_model(tmp_path / "model.keras")
    assert is_sigmoid(flags.load_model(str(tmp_path / "model.keras")))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["predict", "none.keras", "0.png"], "predict: File not found: filepath=none.keras"),
        (["predict", "model.keras", "none.png"], "predict: FILES must exist. Received: none.png"),
        (["predict", "vit_tiny_patch16_225", "0.png"], "predict: `name` must be .*Did you mean"),
        (["evaluate", "model.keras", "digist"], "evaluate: .*'digist'. Did you mean 'digits'"),
        (
            ["export", "model.keras", "no/a.onnx"],
            r"export: `path` must lie in a folder that exists.*no/a\.onnx"
            r".*the folder '.*no' does not exist",
        ),
        (["predict", "empty.keras", "0.png"], r"predict: MODEL must be .* not damaged.*empty\."),
        (["predict", "damaged.keras", "0.png"], "predict: MODEL must be .*: Bad CRC"),
        (["evaluate", "model.keras", "digits", "--report", "a.pdf"], "evaluate: `path` .*.html"),
        (["explore", "model.keras", "0.png", "page.pdf"], "explore: `path` must .*.html"),
    ],
)
def test_error_is_one_line_with_exit_code_1(arguments, message, folder):
    before = sorted(folder.iterdir())
    code, output, errors = run_command(*arguments, cwd=folder)
    assert (code, output) == (1, "")
    assert errors.count("\n") == 1, errors
    assert re.match(f"keras-mixers {message}", errors), errors
    assert sorted(folder.iterdir()) == before


def test_ctrl_c_has_its_exit_code(folder, monkeypatch):
    def interrupted(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(km, "predict", interrupted)
    code, output, errors = run_command("predict", "model.keras", "0.png", cwd=folder)
    assert (code, output, errors) == (130, "", "\nkeras-mixers: interrupted\n")


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (MemoryError(), 1, "keras-mixers predict: out of memory; lower --batch-size\n"),
        (
            tf.errors.ResourceExhaustedError(None, None, "OOM"),
            1,
            "keras-mixers predict: out of memory; lower --batch-size\n",
        ),
        (RuntimeError("two\n  lines"), 1, "keras-mixers predict: two lines\n"),
    ],
)
def test_error_without_an_argument_is_one_line(error, code, message, folder, monkeypatch):
    def failing(path):
        raise error

    monkeypatch.setattr(predict, "load_model", failing)
    assert run_command("predict", "model.keras", "0.png", cwd=folder) == (code, "", message)
    monkeypatch.setenv(exits.TRACEBACK, "1")
    with pytest.raises(type(error)):
        run_command("predict", "model.keras", "0.png", cwd=folder)


class Output(io.StringIO):
    """A stdout that raises an error when it is flushed."""

    def __init__(self, error):
        super().__init__()
        self.error = error

    def flush(self):
        raise self.error


@pytest.mark.parametrize("place", ["print_table", "flush"])
def test_closed_pipe_ends_without_a_message(place, monkeypatch):
    def closed(rows):
        raise BrokenPipeError

    errors = io.StringIO()
    if place == "flush":
        monkeypatch.setattr(sys, "stdout", Output(BrokenPipeError()))
    else:
        monkeypatch.setattr(models, "print_table", closed)
    monkeypatch.setattr(sys, "argv", ["keras-mixers", "models", "vit_tiny"])
    monkeypatch.setattr(sys, "stderr", errors)
    with pytest.raises(SystemExit) as end:
        main.main()
    assert end.value.code == 0
    assert errors.closed, "Python cannot report the output that it cannot flush"


def test_full_disk_is_one_line(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["keras-mixers", "models", "vit_tiny"])
    monkeypatch.setattr(sys, "stdout", Output(OSError(28, "No space left on device")))
    with pytest.raises(SystemExit) as end:
        main.main()
    assert end.value.code == "keras-mixers models: [Errno 28] No space left on device"


def test_mistake_of_the_package_has_a_traceback(folder, monkeypatch):
    monkeypatch.setattr(km, "predict", lambda *arguments, **options: {}["missing"])
    with pytest.raises(KeyError, match="missing"):
        run_command("predict", "model.keras", "0.png", cwd=folder)
    assert main.one_line(ValueError()) == "ValueError"

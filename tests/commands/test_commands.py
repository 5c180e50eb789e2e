"""Each command on a tiny model."""

import csv
import io
import json
import re

import keras
import numpy as np
import pytest
from run_command import run_command

import keras_mixers as km
from keras_mixers.commands import export, main, predict


@pytest.fixture(scope="module")
def folder(tmp_path_factory, digits_folder):
    """A folder with model.keras, whose random weights do not matter, and three pictures."""
    folder = tmp_path_factory.mktemp("commands")
    info = km.data.load("digits", 8)[2]
    size = {"patch_size": 4, "hidden_dim": 8, "depth": 1, "num_heads": 2, "mlp_dim": 8}
    model = km.ViT("Ti/16", input_shape=(8, 8, 1), num_classes=10, **size)
    model.set_info(info)
    model.save(folder / "model.keras")
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
    assert (folder / "page.html").read_text().count("data:image/png") >= 2
    code, _, errors = run_command("explore", "model.keras", "0.png", "new.html", cwd=folder)
    assert code == 0, errors
    assert "block_0_attention" in (folder / "new.html").read_text()


def test_models_lists_names_variants_and_parameters(tmp_path):
    code, output, _ = run_command("models", "vit_tiny*_in1k", cwd=tmp_path)
    assert code == 0
    head, *rows = output.splitlines()
    assert head.split() == ["name", "variant", "pixels", "classes", "file", "licence"]
    assert [row.split()[0] for row in rows] == km.list_models("vit_tiny*_in1k")
    _, output, _ = run_command("models", "Mixer s/32", "--variants", "--parameters", cwd=tmp_path)
    assert "MLPMixer  S/32     19,104,624  " in output.splitlines()[1]
    code, _, errors = run_command("models", "no such", cwd=tmp_path)
    assert code == 1
    assert errors == "keras-mixers models: PATTERN must match a name. Received: 'no such'\n"


def test_export_passes_its_flags(folder, monkeypatch):
    """tests/exporting shows what `km.export` makes of its arguments."""
    passed = {}
    monkeypatch.setattr(km, "export", lambda model, path, **options: passed.update(options))
    flags = ["--quantize", "int8", "--calibration", "digits", "--batch", 2, "--top", 3]
    code, _, errors = run_command("export", "model.keras", "a.onnx", *flags, cwd=folder)
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
    flags = ["--calibration", "digits", "--preprocessing", "none"]
    run_command("export", "model.keras", "a.onnx", *flags, cwd=folder)
    assert passed["preprocessing"] is None
    assert passed["calibration_data"].element_spec[0].dtype.name == "float32"
    assert set(export.SAME) <= set(passed)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["predict", "none.keras", "0.png"], "predict: File not found: filepath=none.keras"),
        (["predict", "model.keras", "none.png"], "predict: `files` must be .*none.png.*not exist"),
        (["predict", "vit_tiny_patch16_225", "0.png"], "predict: `name` must be .*Did you mean"),
        (["evaluate", "model.keras", "digist"], "evaluate: .*'digist'. Did you mean 'digits'"),
        (["export", "model.keras", "no/a.onnx"], "export: .*no"),
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


def test_mistake_of_the_package_has_a_traceback(folder, monkeypatch):
    monkeypatch.setattr(km, "predict", lambda *arguments, **options: {}["missing"])
    with pytest.raises(KeyError, match="missing"):
        run_command("predict", "model.keras", "0.png", cwd=folder)
    assert main.one_line(ValueError()) == "ValueError"
    assert main.one_line(ValueError("two\n  lines")) == "two lines"

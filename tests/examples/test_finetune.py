"""examples/finetune.py."""

import pathlib
import re
import shlex

import goldens
import keras
import numpy as np
import pytest
from PIL import Image
from run_example import load_example, run_example

import keras_mixers as km
from keras_mixers.models import published
from keras_mixers.weights import locate

README = (pathlib.Path(__file__).parents[2] / "README.md").read_text()
TIMM_VIT = goldens.FOLDER / "timm_vit.safetensors"
ITS_ARCHITECTURE = [
    *("--family", "ViT", "--variant", "Ti/16", "--set", "patch_size=8", "hidden_dim=64"),
    *("depth=2", "num_heads=4", "mlp_dim=256", "--image-size", "24"),
]
RESULTS = {
    "evaluation.html",
    "explorer.html",
    "flags.json",
    "history.png",
    "model.keras",
    "model.onnx",
    "recipe.json",
    "saved_model",
}


def contents(folder):
    return {path.name for path in folder.iterdir() if path.name[0] != "."}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:`load` skips files")  # the broken file, which is counted
def test_finetune_runs_on_a_folder_and_resumes(tmp_path, monkeypatch):
    """The README's command trains the file that the README's code writes, and goes on after a kill.

    The photos are a bright and a dark class, and a file that is not an image.
    """
    (command,) = re.findall(r"^python examples/(finetune\.py (?:.*\\\n)*.*)$", README, re.M)
    example, *arguments = shlex.split(command.replace("\\\n", " "))
    small = {"patch_size": 8, "hidden_dim": 64, "depth": 2, "num_heads": 4, "mlp_dim": 128}
    model = km.ViT("Ti/16", input_shape=(32, 32, 3), num_classes=10, **small)
    km.save_weights(model, tmp_path / "vit.safetensors", format="timm")
    generator = np.random.default_rng(0)
    for label, low in (("bright", 128), ("dark", 0)):
        (tmp_path / "photos" / label).mkdir(parents=True)
        for i in range(20):  # JPEG, because TensorFlow sets up its decoder in less time
            pixels = generator.integers(low, low + 128, (30, 40, 3), dtype="uint8")
            Image.fromarray(pixels).save(tmp_path / "photos" / label / f"{i}.jpg")
    (tmp_path / "photos" / "dark" / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0")
    km.Recipe(epochs=2, batch_size=32, lora_rank=4).save(tmp_path / "recipe.json")
    few = ["--recipe", "recipe.json", "--output", "here"]

    class Killed(BaseException):
        pass

    def killed(*args, **kwargs):
        raise Killed

    with pytest.raises(Killed):
        run_example(example, *arguments, *few, cwd=tmp_path, save_model=killed)
    assert contents(tmp_path / "here") >= {"stage_0.weights.h5", "flags.json"}
    _, message = run_example(example, *arguments, *few, cwd=tmp_path)
    assert "--resume or --overwrite must be given" in message
    _, message = run_example(example, *arguments, *few, "--epochs", "3", "--resume", cwd=tmp_path)
    assert message.endswith("needs the flags of the unfinished run: without --epochs")
    output, message = run_example(example, *arguments, *few, "--resume", cwd=tmp_path)
    assert not message
    assert "Epoch 1/2" not in output, "the training was finished already"
    assert "not readable: 1" in output
    assert "positions: resized from 4 x 4 to 3 x 3 (bicubic_antialias)" in output
    assert "4 images, 2 classes: accuracy" in output
    assert contents(tmp_path / "here") == RESULTS
    saved = keras.models.load_model(tmp_path / "here" / "model.keras", compile=False)
    assert saved.class_names == ("bright", "dark")
    assert saved.preprocessing.size == (24, 24)
    assert km.Recipe.load(tmp_path / "here" / "recipe.json").lora_rank == 4


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--checkpoint", str(TIMM_VIT)], "--family and --variant must name the builder"),
        (["--checkpoint", "none"], "finetune.py: `name` must be a name of km.list_models"),
        (["--checkpoint", "none.npz", *ITS_ARCHITECTURE], "`source` must be a file.*'none.npz'"),
        (["--checkpoint", str(TIMM_VIT), *ITS_ARCHITECTURE, "--set", "depth=3"], "has 2 blocks"),
        (["--learning-rate", "0"], "--learning-rate: must be a finite number above 0, not 0"),
        (["--recipe", "none"], "--recipe must be a JSON file or one of .*'none'"),
    ],
)
def test_finetune_names_a_wrong_argument(arguments, message, tmp_path, digits_folder):
    _, found = run_example("finetune.py", "digits", *arguments, cwd=tmp_path)
    assert re.search(message, found, re.DOTALL), found
    assert not list(tmp_path.iterdir())


def test_finetune_keeps_the_run_that_it_cannot_replace(tmp_path):
    def load(args, preprocessing):
        raise OSError("no network")

    earlier = [tmp_path / "finetuned" / name for name in ("model.keras", "stage_0.weights.h5")]
    earlier[0].parent.mkdir()
    for path in earlier:
        path.write_bytes(b"of an earlier run")
    _, message = run_example("finetune.py", "digits", "--overwrite", cwd=tmp_path, load=load)
    assert message == "finetune.py: no network"
    assert sorted(earlier[0].parent.iterdir()) == earlier


def test_finetune_builds_a_name_of_the_catalog(tmp_path, digits_folder, monkeypatch):
    """Grey images get three channels, and the checkpoint's preprocessing."""
    architecture = {"hidden_dim": 64, "depth": 2, "num_heads": 4, "mlp_dim": 256, "patch_size": 8}
    settings = {**architecture, "input_shape": (32, 32, 3)}
    preprocessing = km.Preprocessing(32, mean=(0.4, 0.5, 0.6), std=(0.2, 0.2, 0.2))
    row = km.Checkpoint("a_vit.here", "ViT", "Ti/16", settings, "", "timm", 10, preprocessing)
    for module in (locate, published, km.models.create):
        if hasattr(module, "checkpoints"):
            monkeypatch.setattr(module, "checkpoints", lambda: {row.name: row})
    # Because its sizes are not published.
    monkeypatch.setattr(published, "check_arguments", lambda *_: None)
    monkeypatch.setattr(locate, "download", lambda row: TIMM_VIT)
    example = load_example("finetune")
    monkeypatch.setattr("sys.argv", ["finetune.py", "digits", "--checkpoint", "a_vit.here"])
    args = example.parse_arguments()
    args.output = tmp_path
    model, recipe, num_images = example.prepare(args)
    assert num_images == 1437
    assert model.preprocessing == preprocessing
    assert recipe.source.startswith("this package, for 1,437 images, about 144 per class")
    train, _, info = example.load(args, model.preprocessing)
    assert info.input_shape == (32, 32, 3)
    assert next(iter(train))[0].shape[1:] == (32, 32, 3)

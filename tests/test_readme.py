"""The README: its code, its commands, its table of variants and its pictures."""

import itertools
import pathlib
import re
import shlex

import numpy as np
import pytest
from PIL import Image

import keras_mixers as km
from keras_mixers.models import mlp_mixer, vit
from keras_mixers.weights.catalog import imagenet_1k

ROOT = pathlib.Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


@pytest.fixture
def downloads(tmp_path, monkeypatch):
    """The README's downloads are in the caches, for models of 1 block instead of 12."""
    for row in (*vit.VARIANTS.values(), *mlp_mixer.VARIANTS.values()):
        monkeypatch.setitem(row, "depth", 1)
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "home"))
    (name,) = re.findall(r'^name = "(.+?)"$', README, re.MULTILINE)
    checkpoint = km.pretrained()[name]
    file = tmp_path / "home" / "keras_mixers" / f"{checkpoint.name}.safetensors"
    file.parent.mkdir(parents=True)
    km.save_weights(km.ViT(checkpoint.variant), file, format="timm")


@pytest.fixture
def photos(tmp_path):
    """The files that the README's reader has: cat.jpg, and a folder for each class."""
    generator = np.random.default_rng(0)
    files = [tmp_path / "photos" / label / f"{i}.jpg" for label in ("cat", "dog") for i in range(4)]
    for file in [tmp_path / "cat.jpg", *files]:
        file.parent.mkdir(parents=True, exist_ok=True)
        pixels = generator.integers(0, 256, (120, 100, 3), dtype="uint8")
        Image.fromarray(pixels).save(file)


@pytest.mark.slow
def test_readme_code_runs(tmp_path, monkeypatch, digits_folder, downloads, photos, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TFDS_DATA_DIR", digits_folder)
    assert len(blocks("python")) >= 10
    assert not blocks("py"), "every block of code is run"
    scope = {}
    for block in blocks("python"):
        # The recipe for so few photos has hundreds of epochs.
        block = block.replace("recipe.stages(", "recipe.for_epochs(1).stages(")
        block = block.replace("max_trials=2", "max_trials=1")
        exec(compile(block, "README.md", "exec"), scope)
    printed = capsys.readouterr().out
    top = re.search(r"^cat\.jpg: (.+?) 0\.\d%, ", printed, re.MULTILINE)
    assert top and top[1] in imagenet_1k(), "the photo has a top class"
    assert re.search(r"^(cat|dog)$", printed, re.MULTILINE), "the exported file names a class"
    for file in ("photos.keras", "photos.onnx", "model.onnx", "saved_model", "explorer.html"):
        assert pathlib.Path(file).exists(), file


def commands():
    """Each shell command, its parts between `&&` apart, with its continued lines joined."""
    lines = "\n".join(blocks("bash")).replace("\\\n", " ").splitlines()
    return [part.strip() for line in lines for part in line.split("&&") if part.strip()]


def test_readme_commands_name_what_exists():
    setup = (ROOT / "setup.cfg").read_text()
    assert len(commands()) >= 7
    for extra in re.findall(r"-e \"\.\[(\w+)\]\"", README):
        assert re.search(rf"^{extra} =", setup, re.MULTILINE), extra
    for command in commands():
        words = [word for word in shlex.split(command) if "=" not in word or "/" not in word]
        program, *arguments = words
        venv, cluster = {".venv/bin/pip", ".venv/bin/python"}, {"sbatch", "kubectl"}
        ours = {"keras-mixers", ".venv/bin/keras-mixers"}
        assert program in {"python", "python3", "bash", *ours, *venv, *cluster}
        for file in [word for word in arguments if word.endswith((".py", ".sh", ".yaml"))]:
            assert (ROOT / file).is_file(), command


def expanded(pattern):
    """The names that `{S,B}/14[-reg4]` stands for."""
    choices = re.split(r"(\{.+?\}|\[.+?\])", pattern)
    meanings = {"{": lambda part: part[1:-1].split(","), "[": lambda part: ["", part[1:-1]]}
    parts = [meanings.get(part[:1], lambda part: [part])(part) for part in choices]
    return ["".join(name) for name in itertools.product(*parts)]


def test_readme_table_of_variants_is_complete():
    rows = re.findall(r"^\| `([A-Z]\w+)` \| (`.+?) \|", README, re.MULTILINE)
    listed = {
        (family, name)
        for family, names in rows
        for pattern in re.findall(r"`(.+?)`", names)
        for name in expanded(pattern)
    }
    families = ("ViT", "MLPMixer", "ConvMixer")
    assert listed == {(family, name) for family in families for name in km.variants(family)}


def test_readme_pictures_exist_and_are_small():
    pictures = re.findall(r"!\[[^]]+\]\((.+?)\)", README)
    assert len(pictures) >= 3
    assert README.index(pictures[0]) < README.index("## Install"), "a picture on the first screen"
    for picture in pictures:
        file = ROOT / picture
        assert file.read_bytes().startswith(b"\x89PNG")
        assert file.stat().st_size < 200_000, picture


def test_readme_links_point_to_something():
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        assert (ROOT / target).exists(), target
    headings = re.findall(r"^## (.+)$", README, re.MULTILINE)
    anchors = {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings}
    assert set(re.findall(r"\]\(#(.+?)\)", README)) <= anchors


def test_readme_counts_the_catalog():
    (count,) = re.findall(r"\((\d+) checkpoints in all\)", README)
    assert int(count) == len(km.pretrained())
    assert f"| {count} checkpoints," in README

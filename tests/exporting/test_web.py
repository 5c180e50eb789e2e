"""The folder for a browser: its files, and what its page shows in Chromium."""

import functools
import http.server
import json
import os
import pathlib
import re
import threading

import keras
import numpy as np
import pytest
from PIL import Image

import keras_mixers as km
from keras_mixers.exporting import web
from keras_mixers.exporting.web.attention import attention_of

pytestmark = pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="exports need it")
RUNTIME = pathlib.Path(os.environ.get("ONNXRUNTIME_WEB", "node_modules/onnxruntime-web"))
NAMES = ["<b>bold</b>", "two", "three"]
BRIGHTNESS = """canvas => canvas.getContext("2d").getImageData(80, 40, 160, 80).data
    .reduce((sum, x) => sum + x / (4 * 160 * 80), 0)"""
PREPROCESSING = km.Preprocessing((8, 12), crop_fraction=0.9)


def vit(**options):
    arguments = {"patch_size": 4, "hidden_dim": 8, "num_heads": 2, "mlp_dim": 8, **options}
    return km.ViT("Ti/16", input_shape=(8, 12, 3), depth=2, num_classes=3, **arguments)


def page_of(model, folder, runtime, **options):
    return km.export(
        model,
        folder,
        format="web",
        preprocessing=PREPROCESSING,
        class_names=NAMES,
        runtime=runtime,
        **options,
    )


@pytest.fixture
def package(tmp_path):
    """A folder with the names of the runtime's files."""
    (tmp_path / "package" / "dist").mkdir(parents=True)
    for name in web.FILES:
        (tmp_path / "package" / "dist" / name).write_text(name)
    return tmp_path / "package"


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@pytest.fixture
def address(tmp_path):
    """The address of a server of `tmp_path / "demo"`."""
    handler = functools.partial(Quiet, directory=tmp_path / "demo")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


@pytest.mark.skipif(not RUNTIME.is_dir(), reason="needs npm install onnxruntime-web")
def test_page_shows_the_probabilities_of_the_model(tmp_path, address, browser):
    model = vit()
    assert page_of(model, tmp_path / "demo", RUNTIME).format == "web"
    pixels = np.random.RandomState(0).randint(0, 256, (40, 80, 3)).astype("uint8")
    Image.fromarray(pixels).save(tmp_path / "picture.png")
    (tmp_path / "broken.png").write_bytes(b"no picture")
    logits = model(PREPROCESSING(pixels)[None], training=False)
    expected = keras.ops.convert_to_numpy(keras.ops.softmax(logits))[0]

    page, errors, requests = browser.new_page(), [], []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("request", lambda request: requests.append(request.url))
    page.goto(address)
    page.get_by_text("Ready.").wait_for()
    page.set_input_files("#file", tmp_path / "picture.png")
    page.get_by_text("pixels.").wait_for()
    rows = page.query_selector_all("#classes li")
    order = np.argsort(-expected)
    assert [row.inner_text().split("\n")[0] for row in rows] == [NAMES[i] for i in order]
    shown = [float(row.get_attribute("data-value")) for row in rows]
    np.testing.assert_allclose(shown, expected[order], atol=1e-6)
    assert page.get_by_text("what the class token attends to").is_visible()
    assert page.locator("#picture").evaluate("c => [c.width, c.height]") == [320, 160]
    covered = page.locator("#picture").evaluate(BRIGHTNESS)
    page.locator("#opacity").fill("0")
    assert page.locator("#picture").evaluate(BRIGHTNESS) > covered + 10
    page.set_input_files("#file", tmp_path / "broken.png")
    page.get_by_text("broken.png cannot be shown").wait_for()
    assert not errors
    assert all(url.startswith(address) for url in requests)
    page.close()


def test_folder_holds_the_runtime_and_no_address(tmp_path, package):
    folder = tmp_path / "demo"
    page_of(vit(class_token=False, pool="gap"), folder, package)
    files = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert files == {"index.html", "model.onnx", "model.json", *(f"runtime/{n}" for n in web.FILES)}
    assert not re.findall("[a-z]+://", (folder / "index.html").read_text())
    description = json.loads((folder / "model.json").read_text())
    assert description["class_names"] == NAMES
    assert km.Preprocessing(**description["preprocessing"]) == PREPROCESSING
    assert description["attention"]["query"] == "patches"
    assert description["attention"]["output"] == "attention_1"

    address = "https://files.example/ort"
    page_of(km.ConvMixer("768/32", input_shape=(8, 12, 3), hidden_dim=4, depth=1, patch_size=4,
                         num_classes=3), folder, address)  # fmt: skip
    assert sorted(file.name for file in folder.iterdir()) == [
        "index.html",
        "model.json",
        "model.onnx",
    ]
    description = json.loads((folder / "model.json").read_text())
    assert (description["runtime"], description["attention"]) == (f"{address}/", None)
    assert set(re.findall('[a-z]+://[^ ;"]*', (folder / "index.html").read_text())) == {
        "https://files.example"
    }
    (folder / "mine.txt").touch()
    with pytest.raises(ValueError, match=r"`path` must .*for the format 'web'.*mine\.txt"):
        page_of(vit(), folder, package)


def test_arguments_are_checked(tmp_path, package):
    with pytest.raises(ValueError, match="`path` must name a folder for the format 'web'.*zip'"):
        page_of(vit(), tmp_path / "demo.zip", package)
    (package / "dist" / web.FILES[0]).unlink()
    with pytest.raises(ValueError, match=f"`runtime` must be.*{web.FILES[0]}.*npm install"):
        page_of(vit(), tmp_path / "demo", package)
    with pytest.raises(TypeError, match="`runtime` must be.*Received: runtime=3"):
        page_of(vit(), tmp_path / "demo", 3)
    with pytest.raises(ValueError, match="`runtime` must be None for the format 'onnx'"):
        km.export(vit(), tmp_path / "model.onnx", runtime=package)
    with pytest.raises(ValueError, match="'web' needs `preprocessing`.*preprocessing=None"):
        km.export(vit(), tmp_path / "demo", format="web", preprocessing=None)
    assert not (tmp_path / "demo").exists()


def test_attention_needs_one_token_for_each_patch():
    assert attention_of(vit(num_registers=2)) == {
        "output": "attention_1", "grid": [2, 3], "prefix": 3, "query": "class token"
    }  # fmt: skip
    images = keras.Input((8, 12, 3))
    tokens = km.layers.PatchEmbed(8, 4)(images)
    tokens = keras.layers.AveragePooling1D(2)(tokens)
    tokens = km.layers.MultiHeadSelfAttention(num_heads=2)(tokens)
    assert attention_of(keras.Model(images, tokens)) is None

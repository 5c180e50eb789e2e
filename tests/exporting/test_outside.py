"""`preprocessing="outside"`: the functions next to the file give the bits of `Preprocessing`."""

import json
import runpy
import shutil
import subprocess

import keras
import numpy as np
import onnx
import onnxruntime
import pytest
from cases import random_weights
from PIL import Image

import keras_mixers as km
from keras_mixers.exporting import outside, pipeline, tflite

pytestmark = pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="exports need it")

# Preprocessing, channels, and the height and width of a picture
PICTURES = {
    "odd crop": ({"size": (9, 9), "crop_fraction": 1.0, "std": (0.2, 0.3, 0.4)}, 3, (16, 29)),
    "upscaled": ({"size": (12, 20), "crop_fraction": 0.7}, 3, (11, 9)),
    "squashed": ({"size": (8, 11), "crop_mode": "squash", "interpolation": "bilinear"}, 3, (99, 7)),
    "very high": ({"size": (8, 6), "crop_fraction": 0.9}, 3, (600, 12)),
    "grey": ({"size": (8, 8), "mean": 0.3, "std": 0.2}, 1, (20, 31)),
    "alpha": ({"size": (8, 8), "mean": 0.3, "std": 0.2}, 4, (31, 20)),
}


def pixels_of(channels, size):
    pixels = np.random.default_rng(5).integers(0, 256, (*size, channels), "uint8")
    pixels[: size[0] // 2] //= 200  # because nearly black pixels test small sums
    return pixels


def picture_of(pixels):
    return Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)


def classifier(preprocessing=None, channels=3, size=(8, 12)):
    images = keras.Input((*size, channels))
    x = keras.layers.GlobalAveragePooling2D()(keras.layers.Conv2D(4, 4)(images))
    model = random_weights(km.ImageModel(images, keras.layers.Dense(2, name="head")(x)))
    model.preprocessing, model.class_names = preprocessing, ["cat", "dog"]
    return model


@pytest.mark.parametrize("name", ["model.onnx", "model.tflite"])
def test_file_takes_what_the_function_in_python_prepares(name, tmp_path, monkeypatch):
    preprocessing = km.Preprocessing((8, 12), crop_fraction=0.9)
    model, path = classifier(preprocessing), tmp_path / name
    km.export(model, path, preprocessing="outside")
    pixels = pixels_of(3, (30, 31))
    function, left = (tmp_path / f"model_{name[6:]}_preprocessing.{kind}" for kind in ("py", "js"))
    prepare = runpy.run_path(str(function))["prepare"]
    images = prepare(picture_of(pixels))
    np.testing.assert_array_equal(images, preprocessing(pixels)[None])
    if name == "model.onnx":
        session = onnxruntime.InferenceSession(path)
        (logits,) = session.run(["logits"], {"images": images})
        facts = {fact.key: fact.value for fact in onnx.load(path).metadata_props}
        assert json.loads(facts["preprocessing_outside"]) == preprocessing.get_config()
        assert json.loads(facts["class_names"]) == ["cat", "dog"]
        assert "preprocessing" not in facts
    else:
        logits = tflite.load(path)(images)["logits"]
    np.testing.assert_allclose(logits, model(images), atol=1e-5)

    changed = left.read_text() + "// changed by hand"
    with monkeypatch.context() as patched, pytest.raises(ValueError, match="that has changed"):
        # A user changes the function during the export.
        patched.setattr(pipeline, "measured", lambda *_: left.write_text(changed) and {})
        km.export(model, path, preprocessing="outside")
    assert left.read_text() == changed
    with pytest.warns(UserWarning, match=f"leaves '{left.name}' .* has changed"):
        km.export(model, path, preprocessing=None)
    assert {*tmp_path.iterdir()} == {path, left}


@pytest.mark.parametrize("case", PICTURES)
def test_function_in_python_gives_the_bits_of_preprocessing(case, tmp_path):
    options, channels, size = PICTURES[case]
    preprocessing, pixels = km.Preprocessing(**options), pixels_of(channels, size)
    outside.write(tmp_path / "vit.onnx", preprocessing, channels)
    prepare = runpy.run_path(str(tmp_path / "vit_onnx_preprocessing.py"))["prepare"]
    found = prepare(picture_of(pixels))
    assert (found.dtype, found.shape) == ("float32", (1, *preprocessing.size, channels))
    np.testing.assert_array_equal(found[0], preprocessing(pixels))


def test_function_in_python_turns_pictures_and_lays_them_over_white(tmp_path):
    preprocessing, pixels = km.Preprocessing((8, 8)), pixels_of(4, (20, 30))
    outside.write(tmp_path / "vit.onnx", preprocessing, 3)
    picture, file = picture_of(pixels), tmp_path / "picture.png"
    exif = picture.getexif()
    exif[0x0112] = 6  # the orientation
    picture.save(file, exif=exif)
    prepare = runpy.run_path(str(tmp_path / "vit_onnx_preprocessing.py"))["prepare"]
    with Image.open(file) as image:
        found = prepare(image)
    wide, alpha = pixels[..., :3].astype(int), pixels[..., 3:].astype(int)
    upright = np.rot90((wide * alpha + 255 * (255 - alpha) + 127) // 255, -1)
    np.testing.assert_array_equal(found[0], preprocessing(upright.astype("uint8")))

    deep = Image.fromarray(np.arange(0, 50_000, 500, "uint16").reshape(10, 10))
    for image in (deep, deep.convert("I"), deep.convert("F")):
        with pytest.raises(ValueError, match=rf"8 bits per value; .*mode {image.mode}$"):
            prepare(image)
    np.testing.assert_array_equal(
        prepare(Image.fromarray((np.asarray(deep) >> 8).astype("uint8")))[0],
        preprocessing(np.repeat(np.asarray(deep)[..., None] >> 8, 3, -1).astype("uint8")),
    )
    for wrong in ("cat.jpg", pixels):
        with pytest.raises(TypeError, match=f"must be a PIL image: .*{type(wrong).__name__}$"):
            prepare(wrong)


IN_NODE = """
import fs from "fs";
for (const { module, picture, width, height } of JSON.parse(process.argv[1])) {
  const { prepare, SHAPE } = await import(module);
  const result = prepare({ data: new Uint8ClampedArray(fs.readFileSync(picture)), width, height });
  fs.writeFileSync(picture, new Uint8Array(result.buffer));
  console.log(JSON.stringify(SHAPE));
}
"""


@pytest.mark.skipif(not shutil.which("node"), reason="needs node (https://nodejs.org)")
def test_function_in_javascript_gives_the_bits_of_preprocessing(tmp_path):
    work, expected = [], []
    for options, channels, size in PICTURES.values():
        preprocessing, pixels = km.Preprocessing(**options), pixels_of(channels, size)
        folder = tmp_path / str(len(work))
        folder.mkdir()
        outside.write(folder / "vit.onnx", preprocessing, channels)
        (folder / "package.json").write_text('{"type": "module"}')
        (folder / "picture").write_bytes(picture_of(pixels).convert("RGBA").tobytes())
        module, picture = folder / "vit_onnx_preprocessing.js", folder / "picture"
        work.append(
            {
                "module": module.as_uri(),
                "picture": str(picture),
                "width": size[1],
                "height": size[0],
            }
        )
        expected.append(preprocessing(pixels).numpy())
    command = ["node", "--input-type=module", "-e", IN_NODE, json.dumps(work)]
    shapes = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout
    for case, shape, item, images in zip(
        PICTURES, shapes.split("\n"), work, expected, strict=False
    ):
        assert json.loads(shape) == [1, *images.shape]
        found = np.fromfile(item["picture"], "float32").reshape(images.shape)
        np.testing.assert_array_equal(found, images, err_msg=case)


def test_outside_is_checked(tmp_path):
    def refused(message, path="model.onnx", model=None, **options):
        before = {file: file.read_bytes() for file in tmp_path.iterdir()}
        model = model or classifier(km.Preprocessing((8, 12)))
        with pytest.raises(ValueError, match=message):
            km.export(model, tmp_path / path, preprocessing="outside", **options)
        assert {file: file.read_bytes() for file in tmp_path.iterdir()} == before

    refused("without preprocessing.*set model.preprocessing", model=classifier())
    refused("unless `path` names an ONNX.*part of a SavedModel", "folder")
    refused("without `version`", "folder", format="onnx", version=1)
    two = classifier(km.Preprocessing((8, 12), mean=0.5, std=0.5), channels=2)
    refused(r"takes \(1, 3, 4\) channels.*takes 2", model=two)
    file = tmp_path / "model_onnx_preprocessing.py"
    outside.write(tmp_path / "model.onnx", km.Preprocessing((8, 12)), 3)
    written = file.read_text()
    for changed in (written + "mine = 1", "mine = 1", written.replace("model.onnx", "b.onnx")):
        file.write_text(changed)
        refused("did not write or that has changed.*'model_onnx_preprocessing.py'")

"""SavedModel and TensorFlow Lite files, and files with preprocessing."""

import collections
import io
import json

import numpy as np
import onnx
import onnxruntime
import pytest
import tensorflow as tf
from cases import case, random_weights
from PIL import Image

import keras_mixers as km
from keras_mixers.exporting import tflite, verify
from keras_mixers.exporting.serving import Serving
from keras_mixers.layers import kernels

PREPROCESSING = km.Preprocessing((8, 12), crop_fraction=0.9, mean=(0.4, 0.5, 0.6), std=0.25)
NAMES = ["ant", "bee", "cat", "dog", "eel"]


def rgb_model():
    return random_weights(case("vit").make(input_shape=(8, 12, 3)))


def photos(count=3, size=(37, 21)):
    return np.random.default_rng(2).integers(0, 256, (count, *size, 3), dtype="uint8")


def expected(model, images):
    logits = np.asarray(model(PREPROCESSING(images)))
    return logits, np.asarray(tf.nn.softmax(logits))


@pytest.mark.parametrize("name", ["vit", "mlp_mixer", "conv_mixer", "hybrid_CM"])
def test_saved_model_matches_model(name, tmp_path):
    model = random_weights(case(name).make())
    batch = 5 if name == "mlp_mixer" else None
    path = tmp_path / "saved_model"
    report = km.export(model, path, attention_maps=name == "vit", batch=batch)
    loaded = tf.saved_model.load(str(report.path))
    assert set(loaded.signatures) == {"serving_default"}
    _, taken = loaded.signatures["serving_default"].structured_input_signature
    assert tuple(taken["images"].shape) == (batch, 8, 12, 2)
    images = case(name).images(5)
    outputs = loaded.signatures["serving_default"](images=tf.constant(images))
    np.testing.assert_allclose(outputs["logits"], np.asarray(model(images)), rtol=1e-4, atol=1e-5)
    maps = {key: value for key, value in outputs.items() if key != "logits"}
    assert set(maps) == ({"attention_0", "attention_1"} if name == "vit" else set())
    for weights in maps.values():
        np.testing.assert_allclose(np.sum(weights, -1), 1, atol=1e-5)


def test_saved_model_stores_each_weight_once(tmp_path):
    model = km.ViT("Ti/16", input_shape=(32, 32, 3), depth=2)
    (tmp_path / "vit_v2_preprocessing.py").touch()  # of a user, so `export` must not warn of it
    report = km.export(model, tmp_path / "vit.v2")
    variables = sum(file.stat().st_size for file in (report.path / "variables").iterdir())
    assert 1 <= variables / (4 * model.count_params()) < 1.01


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """A model, the path of its SavedModel with preprocessing, and what TensorFlow loads from it."""
    model = rgb_model()
    path = tmp_path_factory.mktemp("prepared") / "saved_model"
    km.export(model, path, preprocessing=PREPROCESSING, class_names=NAMES)
    return model, path, tf.saved_model.load(str(path))


def test_saved_model_applies_preprocessing(prepared):
    model, path, loaded = prepared
    assert set(loaded.signatures) == {"serving_default", "serve_encoded"}
    images = photos()
    logits, probabilities = expected(model, images)
    outputs = loaded.signatures["serving_default"](images=tf.constant(images))
    np.testing.assert_allclose(outputs["logits"], logits, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(outputs["probabilities"], probabilities, atol=1e-5)
    metadata = json.loads((path / "assets.extra" / "keras_mixers.json").read_text())
    assert metadata["class_names"] == NAMES
    assert metadata["preprocessing"] == PREPROCESSING.get_config()


def test_serve_encoded_accepts_files_of_any_size(prepared):
    model, _, loaded = prepared
    serve = loaded.signatures["serve_encoded"]
    first, second = photos(1)[0], photos(1, (16, 50))[0]
    grey = photos(1, (20, 20))[0, :, :, :1]
    encoded = [tf.io.encode_png(image).numpy() for image in (first, second, grey)]
    encoded.append(tf.io.encode_jpeg(first, quality=95).numpy())
    outputs = serve(encoded=tf.constant(encoded))["logits"]
    jpeg = np.asarray(Image.open(io.BytesIO(encoded[3])))
    decoded = [first, second, np.repeat(grey, 3, -1), jpeg]
    for output, image in zip(outputs, decoded, strict=True):
        logits, _ = expected(model, image[None])
        np.testing.assert_allclose(output, logits[0], rtol=1e-4, atol=1e-5)


def assert_rejected(loaded, shapes, dtype):
    for shape in shapes:
        with pytest.raises(tf.errors.InvalidArgumentError, match=r"is not compatible.*3\]"):
            loaded.signatures["serving_default"](images=tf.zeros(shape, dtype))


def test_saved_model_rejects_images_of_another_shape(prepared, tmp_path):
    shapes = [(2, 8, 12, 1), (2, 8, 12, 4), (2, 8, 12, 6), (8, 12, 3)]
    _, _, loaded = prepared
    assert_rejected(loaded, shapes, "uint8")
    km.export(rgb_model(), tmp_path / "saved_model")
    loaded = tf.saved_model.load(str(tmp_path / "saved_model"))
    assert_rejected(loaded, [*shapes, (2, 16, 24, 3), (2, 12, 8, 3)], "float32")


def test_serve_encoded_rejects_large_or_unknown_files(prepared):
    """The first 33 bytes of a PNG file of 20,000 x 20,000 pixels are enough to refuse it."""
    _, _, loaded = prepared
    serve = loaded.signatures["serve_encoded"]
    good = tf.io.encode_png(photos(1)[0]).numpy()
    large = good[:16] + (20_000).to_bytes(4, "big") * 2 + good[24:]
    message = (
        r"encoded\[1\] is not a readable image: it has 20000 x 20000 pixels.* at most 67108864"
    )
    for bad, expected_message in [
        (large, message),
        (b"<svg/>", r"encoded\[1\] is not a readable image"),
    ]:
        with pytest.raises(tf.errors.InvalidArgumentError, match=expected_message):
            serve(encoded=tf.constant([good, bad]))


def test_serve_encoded_needs_channels_that_files_can_have(tmp_path):
    preprocessing = km.Preprocessing((8, 12), mean=0.5, std=0.5)
    km.export(case("vit").make(), tmp_path / "saved_model", preprocessing=preprocessing)
    signatures = tf.saved_model.load(str(tmp_path / "saved_model")).signatures
    assert set(signatures) == {"serving_default"}


@pytest.mark.parametrize("target", ["onnx", "onnxruntime"])
def test_onnx_applies_preprocessing(target, tmp_path):
    model = rgb_model()
    path = tmp_path / "model.onnx"
    model.preprocessing, model.class_names = PREPROCESSING, NAMES
    km.export(model, path, target=target)
    session = onnxruntime.InferenceSession(path)
    (image,) = session.get_inputs()
    assert (image.name, image.type) == ("images", "tensor(uint8)")
    assert image.shape == ["batch", "height", "width", 3]
    for images in (photos(), photos(2, (9, 80)), photos(1, (8, 12))):
        logits, probabilities = expected(model, images)
        outputs = session.run(["logits", "probabilities"], {"images": images})
        np.testing.assert_allclose(outputs[0], logits, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(outputs[1], probabilities, atol=1e-5)
    assert json.loads(session.get_modelmeta().custom_metadata_map["class_names"]) == NAMES


@pytest.mark.parametrize("name", ["vit", "hybrid_ACMPG"])
def test_onnx_int8_with_preprocessing_accepts_sizes_that_were_not_calibrated(name, tmp_path):
    model = random_weights(case(name).make(input_shape=(8, 12, 3)))
    data = [photos(16), *photos(2, (9, 80)), photos(2, (64, 50))]
    report = km.export(
        model,
        tmp_path / "model.onnx",
        preprocessing=PREPROCESSING,
        quantize="int8",
        calibration_data=data,
        batch=8 if name == "hybrid_ACMPG" else None,
    )
    assert report.agreement >= 0.8
    assert report.in_float["preprocessing"] == "its arithmetic is exact"
    sizes = [photos(16), photos(2, (9, 80)), photos(2, (64, 50))]
    prepared = np.concatenate([PREPROCESSING(images) for images in sizes])
    ranges = [
        onnx.numpy_helper.to_array(tensor)
        for tensor in onnx.load(report.path).graph.initializer
        if tensor.name.endswith("_scale") and not tensor.dims
    ]
    # The range of prepared images, unless the convolution that reads them stays in float.
    reads_floats = "convolution before prefix tokens" in report.in_float
    assert np.isclose(ranges, np.ptp(prepared) / 255, rtol=1e-4).any() != reads_floats
    session = onnxruntime.InferenceSession(report.path)
    for size in [(37, 21), (8, 12), (9, 80), (64, 50), (10, 13)]:
        logits, _ = expected(model, photos(8, size))
        found = session.run(["logits"], {"images": photos(8, size)})[0]
        assert np.linalg.norm(found - logits) < 0.15 * np.linalg.norm(logits), size


def test_onnx_int8_quantizes_only_products_with_weights(tmp_path):
    report = km.export(
        rgb_model(),
        tmp_path / "model.onnx",
        preprocessing=PREPROCESSING,
        quantize="int8",
        calibration_data=photos(8),
    )
    graph = onnx.load(report.path).graph
    producers = {name: node.op_type for node in graph.node for name in node.output}
    stored = {tensor.name for tensor in graph.initializer}
    dequantized = {n.output[0] for n in graph.node if n.input and n.input[0] in stored}
    found = {"weights": 0, "others": 0}
    for node in graph.node:
        quantized = [producers.get(name) == "DequantizeLinear" for name in node.input[:2]]
        if node.op_type == "MatMul" and node.input[1] in dequantized:
            found["weights"] += 1
            assert all(quantized), node.name
        elif node.op_type in ("MatMul", "Softmax", "Floor"):
            found["others"] += 1
            assert not any(quantized), node.name
    assert min(found.values()) > 8


@pytest.mark.parametrize("size", [(8, 12), (600, 500)])
def test_verify_compares_int8_at_two_sizes(size):
    serving = Serving(rgb_model(), PREPROCESSING, quantize="int8").calibrated(photos(2, size))
    reference, shapes = serving.compiled(), []

    def run(images):
        shapes.append(images.shape[:3])
        return verify.outputs_of(reference, images)

    verify.largest_difference(serving, reference, run)
    other = (16, 24) if size == (8, 12) else (300, 250)
    assert shapes == [(1, *size), (3, *other)]


@pytest.mark.parametrize("name", ["vit", "vit_map", "mlp_mixer", "conv_mixer", "hybrid_ACMPG"])
def test_tflite_matches_model(name, tmp_path):
    model = random_weights(case(name).make())
    batch = 5 if name == "mlp_mixer" else None
    report = km.export(model, tmp_path / "model.tflite", batch=batch)
    assert (report.format, report.nodes) == ("tflite", None)
    with pytest.warns(UserWarning, match="LiteRT"):
        interpreter = tf.lite.Interpreter(model_path=str(report.path))
    taken = interpreter.get_input_details()[0]["shape_signature"]
    assert taken.tolist() == [batch or -1, 8, 12, 2]
    images = case(name).images(5)
    logits = interpreter.get_signature_runner("serving_default")(images=images)["logits"]
    np.testing.assert_allclose(logits, np.asarray(model(images)), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("quantize", ["int8", "float16"])
def test_tflite_quantize_reduces_size(quantize, tmp_path):
    model = km.ViT("Ti/16", input_shape=(32, 32, 3), depth=1, num_classes=10)
    full = km.export(model, tmp_path / "full.tflite")
    small = km.export(model, tmp_path / "small.tflite", quantize=quantize)
    assert small.size < {"int8": 0.3, "float16": 0.52}[quantize] * full.size
    assert 0 < small.largest_difference < 0.05


@pytest.mark.parametrize(
    ("name", "options"), [("conv_mixer", {"activation": "gelu"}), ("vit_rotary", {})]
)
def test_saved_model_holds_no_function_for_xla(name, options, tmp_path):
    """TensorFlow Serving refuses such functions on CPUs by default."""
    km.export(random_weights(case(name).make(**options)), tmp_path / "saved_model")
    graph = (tmp_path / "saved_model" / "saved_model.pb").read_bytes()
    assert b"StatefulPartitionedCall" in graph
    assert b"_Xla" not in graph


def test_plain_kernels_are_the_patterns_that_onednn_computes_on_any_machine(monkeypatch):
    """The machine that loads the file decides whether oneDNN computes them."""
    monkeypatch.setattr(kernels, "on_tensorflow_cpu", lambda: False)
    monkeypatch.setenv("TF_ENABLE_ONEDNN_OPTS", "0")
    traced = Serving(case("vit").make()).compiled(kernels=kernels.plain_kernels)
    operators = collections.Counter(op.type for op in traced.graph.get_operations())
    assert operators["FusedBatchNormV3"] == 2 * 2 + 1  # each LayerNorm of two blocks and the last
    assert operators["Erf"] == 2
    assert operators["Einsum"] == operators["Erfc"] == 0


def test_tflite_int8_keeps_the_products_of_attention_in_float(tmp_path):
    """In int8 they make the outputs of attention pooling wrong by two thirds of their norm."""
    model, images = random_weights(case("vit_map").make(depth=1)), case("vit_map").images(2)
    options = {"quantize": "int8", "calibration_data": images}
    report = km.export(model, tmp_path / "model.tflite", **options)
    run = tflite.load(report.path)
    expected = np.asarray(model(images[:1]))
    found = run(images[:1])["logits"]
    assert 1e-4 < np.linalg.norm(found - expected) < 0.2 * np.linalg.norm(expected)
    assert report.quantized > 0.9

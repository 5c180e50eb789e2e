"""float16 and int8 files: the dtypes that they store, and the accuracy of their outputs."""

import pathlib

import keras
import numpy as np
import onnx
import onnxruntime
import pytest
from cases import case, random_weights

import keras_mixers as km
from keras_mixers.exporting import verify
from keras_mixers.exporting.report import ExportReport
from keras_mixers.exporting.serving import Serving

targets = pytest.mark.parametrize("target", ["onnx", "onnxruntime"])


def run(path, images):
    return onnxruntime.InferenceSession(path).run(["logits"], {"images": images})[0]


def stored_types(path):
    """`{dtype: number of elements}` of the file's initializers."""
    counts = {}
    for tensor in onnx.load(path).graph.initializer:
        name = onnx.TensorProto.DataType.Name(tensor.data_type)
        counts[name] = counts.get(name, 0) + int(np.prod(tensor.dims))
    return counts


def tflite_tensors(path):
    import tensorflow as tf

    return tf.lite.Interpreter(model_path=str(path)).get_tensor_details()


def saved_float_types(path):
    """The dtypes of floats in the functions of a SavedModel."""
    import tensorflow as tf

    serve = tf.saved_model.load(str(path)).signatures["serving_default"]
    functions = serve.graph.as_graph_def().library.function
    values = [value for f in functions for node in f.node_def for value in node.attr.values()]
    types = {tf.dtypes.as_dtype(v.type) for v in values if v.WhichOneof("value") == "type"}
    return {each.name for each in types if each.is_floating}


@pytest.mark.filterwarnings("ignore:.*tf.lite.Interpreter is deprecated:UserWarning")
@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
@pytest.mark.parametrize("name", ["model.onnx", "model.tflite", "saved_model"])
def test_mixed_precision_exports_in_float32(policy, name, tmp_path):
    plain = random_weights(case("vit").make())
    mixed = case("vit").make(dtype=policy)
    mixed.set_weights(plain.get_weights())
    report = km.export(mixed, tmp_path / name)
    assert report.precision == "float32"
    assert report.largest_difference < 1e-5
    if name == "model.tflite":
        assert {t["dtype"] for t in tflite_tensors(report.path)} == {np.float32, np.int32}
    if name == "saved_model":
        assert saved_float_types(report.path) == {"float32"}
    if name == "model.onnx":
        assert set(stored_types(report.path)) == {"FLOAT", "INT32", "INT64"}
        casts = [node for node in onnx.load(report.path).graph.node if node.op_type == "Cast"]
        integers = {onnx.TensorProto.INT32, onnx.TensorProto.INT64}
        assert {attribute.i for cast in casts for attribute in cast.attribute} <= integers
        images = case("vit").images(5)
        expected = np.asarray(plain(images))
        np.testing.assert_allclose(run(report.path, images), expected, rtol=1e-4, atol=1e-5)


@targets
@pytest.mark.parametrize("name", ["vit", "conv_mixer", "hybrid_MMA"])
def test_onnx_float16_computes_in_float16(name, target, tmp_path):
    model = random_weights(case(name).make())
    report = km.export(model, tmp_path / "model.onnx", dtype="float16", target=target)
    assert "FLOAT" not in stored_types(report.path)
    session = onnxruntime.InferenceSession(report.path)
    types = [value.type for value in (*session.get_inputs(), *session.get_outputs())]
    assert types == ["tensor(float)"] * 2
    images = case(name).images(5)
    expected = np.asarray(model(images))
    difference = np.abs(run(report.path, images) - expected).max()
    assert 1e-6 < difference < 2e-2 * max(1, np.abs(expected).max())


def test_saved_model_float16_computes_in_float16(tmp_path):
    import tensorflow as tf

    model = random_weights(case("vit").make())
    report = km.export(model, tmp_path / "saved_model", dtype="float16")
    assert report.precision == "float16"
    assert 0 < report.largest_difference
    serve = tf.saved_model.load(str(report.path)).signatures["serving_default"]
    functions = serve.graph.as_graph_def().library.function
    products = [node for f in functions for node in f.node_def if "MatMul" in node.op]
    assert {tf.dtypes.as_dtype(node.attr["T"].type).name for node in products} == {"float16"}
    assert serve(images=tf.constant(case("vit").images()))["logits"].dtype.name == "float32"


def test_quantize_float16_halves_the_file(tmp_path):
    model = random_weights(km.ViT("Ti/16", input_shape=(32, 32, 3), depth=1, num_classes=10))
    plain = km.export(model, tmp_path / "plain.onnx")
    half = km.export(model, tmp_path / "half.onnx", quantize="float16")
    assert half.size < 0.52 * plain.size
    assert half.agreement == 1.0
    assert half.precision == "float16"
    types = stored_types(half.path)
    assert types["FLOAT16"] > 50 * types["FLOAT"], "only vectors stay in float32"


def test_quantize_float16_names_overflowing_weight(tmp_path):
    model = case("vit").make()
    model.get_layer("head").kernel.assign(np.full((16, 5), 1e5))
    with pytest.raises(ValueError, match="`quantize`='float16' cannot store.*'head/kernel'.*1e.05"):
        km.export(model, tmp_path / "model.onnx", quantize="float16")
    assert not list(tmp_path.iterdir())


@targets
@pytest.mark.parametrize("calibrated", [False, True])
@pytest.mark.parametrize("name", ["vit", "mlp_mixer", "hybrid_CM"])
def test_quantize_int8_matches_model(name, calibrated, target, tmp_path):
    model = case(name).make()
    images = case(name).images(20)
    data = images if calibrated else None
    report = km.export(
        model, tmp_path / "model.onnx", quantize="int8", calibration_data=data, target=target
    )
    types = stored_types(report.path)
    matrices = sum(weight.numpy().size for weight in model.weights if len(weight.shape) == 2)
    assert types["INT8"] >= matrices > 0
    found = {node.op_type for node in onnx.load(report.path).graph.node}
    assert ("QuantizeLinear" if calibrated else "MatMulInteger") in found
    fused = target == "onnxruntime" and not calibrated
    assert ("QAttention" in found) == (fused and name == "vit")
    assert ("Conv" not in found) == (fused and name != "hybrid_CM"), (
        "patches are embedded by a product"
    )
    expected = np.asarray(model(images))
    relative = np.linalg.norm(run(report.path, images) - expected) / np.linalg.norm(expected)
    assert relative < 0.1
    same = np.mean(run(report.path, images).argmax(-1) == expected.argmax(-1))
    assert report.agreement == pytest.approx(same) if calibrated else 0 <= report.agreement <= 1
    in_float = {"convolutions", "products in attention"}
    in_float -= set() if name == "vit" else {"products in attention"}
    in_float -= {"convolutions"} if calibrated or (fused and name != "hybrid_CM") else set()
    in_float |= {"depthwise convolutions"} if calibrated and name == "hybrid_CM" else set()
    in_float |= {"convolution before prefix tokens"} if calibrated and name == "vit" else set()
    assert set(report.in_float) == in_float
    mixers = [n for n in onnx.load(report.path).graph.node if "/token_mixing/" in n.name]
    assert bool(mixers) == (name != "vit")
    assert "Reshape" not in {node.op_type for node in mixers}, "OpenVINO was off by 0.1 with them"
    assert types.get("UINT8", 0) > 0 or not calibrated, "signed activations are slow on x86"


@pytest.mark.parametrize(
    ("name", "suffix", "options", "few"),
    [
        ("conv_mixer", ".onnx", {}, True),
        ("conv_mixer", ".onnx", {"calibrated": True}, False),
        ("conv_mixer", ".tflite", {"hidden_dim": 64}, False),
        ("conv_mixer", ".onnx", {"num_classes": 0}, True),
        ("vit", ".onnx", {}, False),
    ],
)
def test_report_compares_int8_with_float32(name, suffix, options, few, tmp_path):
    options = dict(options)
    data = case(name).images(4) if options.pop("calibrated", False) else None
    model = case(name).make(**options)
    path = tmp_path / f"model{suffix}"
    report = km.export(model, path, quantize="int8", calibration_data=data)
    assert (report.quantized < 0.5) == few
    assert ("of the weights are in int8" in str(report)) == few
    assert report.size == path.stat().st_size
    assert report.float32_size > 3.9 * model.count_params()
    assert report.float32_latency > 0
    if few:
        assert report.size > 0.9 * report.float32_size
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def report_of(**measured):
    facts = {"size": 9, "float32_size": 10, "latency": 5.0, "float32_latency": 5.0, **measured}
    return ExportReport(
        pathlib.Path("m.onnx"), "onnx", largest_difference=0.1, precision="int8", **facts
    )


def test_report_names_disadvantages_of_int8():
    assert report_of().disadvantages == []
    assert report_of(latency=5.4).disadvantages == [], "equal files differ as much"
    assert report_of(latency=6.0).disadvantages == ["slower than in float32"]
    assert report_of(size=11).disadvantages == ["larger than in float32"]
    text = str(report_of(size=11_000_000, in_float={"convolutions": "too slow"}))
    assert text.endswith(
        "11.0 MB (float32: 0.0), within 1.0e-01 of the model, 5 ms an image (float32: 5);"
        " in float: convolutions (too slow); larger than in float32"
    )
    lines = str(report_of(sensitivity={f"layer_{i}": (0.1, 1.0) for i in range(12)})).split("\n")
    assert len(lines) == 12
    assert lines[-2:] == [
        "  int8 only in layer_9: error 0.1, the same class for 100.0%",
        "  and 2 layers with smaller errors",
    ]


def test_agreement_is_fraction_of_equal_classes():
    model = case("vit").make()
    images = case("vit").images(8)
    logits = np.array(model(images))
    logits[:3] = -logits[:3]  # changes the class of three of the eight images
    serving = Serving(model).calibrated(images)
    run = lambda _: {"logits": logits}  # noqa: E731
    assert verify.agreement(serving, serving.compiled(), run) == 5 / 8


@pytest.mark.parametrize("sizes", [[8], [1] * 8, [0, 2, 6]])
def test_verify_compares_both_batch_sizes(sizes):
    model, images = case("vit").make(), case("vit").images(8)
    batches = np.split(images, np.cumsum(sizes)[:-1])
    serving = Serving(model, quantize="int8").calibrated(batches)
    reference, sizes_seen = serving.compiled(), []

    def run(images):
        sizes_seen.append(len(images))
        return verify.outputs_of(reference, images)

    verify.largest_difference(serving, reference, run)
    assert sizes_seen == [1, 3]


def test_verify_rejects_constant_int8_outputs():
    inputs = keras.Input((8, 12, 2))
    features = case("vit").make(num_classes=0)(inputs)
    model = random_weights(keras.Model(inputs, keras.layers.Dense(3, "softmax")(features)))
    serving = Serving(model, quantize="int8")
    with pytest.raises(RuntimeError, match="more than the tolerance"):
        verify.largest_difference(
            serving, serving.compiled(), lambda x: {"logits": np.full((len(x), 3), 1 / 3)}
        )


def test_calibrated_accepts_arrays_batches_and_datasets():
    import tensorflow as tf

    images = case("vit").images(300)
    serving = Serving(case("vit").make())
    accepted = {
        "array": images,
        "batches": [images[:100], images[100:]],
        "with labels": [(images[:150], np.zeros(150)), (images[150:], np.zeros(150))],
        "images": list(images[:99]) + [images[99:]],
        "images with labels": [(image, 0) for image in images],
        "dataset": tf.data.Dataset.from_tensor_slices(images).batch(64),
    }
    for label, data in accepted.items():
        batches = serving.calibrated(data).calibration
        np.testing.assert_array_equal(np.concatenate(batches), images[:256], err_msg=label)


def test_keep_float_cures_the_most_sensitive_layer(tmp_path):
    """One channel is a million times the other: 8 bits cannot represent both."""
    inputs = keras.Input((8, 12, 2))
    x = keras.layers.GlobalAveragePooling2D()(inputs)
    x = keras.layers.Dense(2, use_bias=False, name="unequal")(x)
    model = keras.Model(inputs, keras.layers.Dense(1, use_bias=False, name="even")(x))
    model.get_layer("unequal").kernel.assign([[1e6, 1.0], [1e6, -3.0]])
    model.get_layer("even").kernel.assign([[1e-6], [50.0]])
    with pytest.raises(RuntimeError, match="more than the tolerance.*`keep_float` leaves layers"):
        km.export(model, tmp_path / "model.onnx", quantize="int8")
    assert not list(tmp_path.iterdir())
    with pytest.warns(UserWarning, match="`quantize`='int8' makes 'model.onnx' larger than in flo"):
        report = km.export(
            model, tmp_path / "model.onnx", quantize="int8", keep_float=["even"], sensitivity=True
        )
    assert list(report.sensitivity) == ["even", "unequal"]
    _, first, second = str(report).split("\n")
    most = report.sensitivity["even"]
    assert first == f"  int8 only in even: error {most.error:.2g}, the same class for 100.0%"
    assert second.startswith("  int8 only in unequal: error 0.0")
    (error, same), (small, _) = report.sensitivity.values()
    assert error > 0.3 > 0.02 > small > 0
    assert same == 1.0, "of one class"
    assert report.in_float == {"even": "`keep_float` names it"}

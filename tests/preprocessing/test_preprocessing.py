"""Preprocessing equals Pillow on real photos, as a function and as a layer; errors; configs."""

import functools
import json
import math

import keras
import numpy as np
import pytest
from keras import ops
from PIL import Image
from sklearn.datasets import load_sample_images

from keras_mixers.preprocessing import PreprocessImages, Preprocessing, resample

only_tensorflow = pytest.mark.one_backend("the function for tf.data always uses TensorFlow")
only_numpy = pytest.mark.one_backend("no operation of the backend runs")
ON_TENSORFLOW = keras.backend.backend() == "tensorflow"
IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
AS_BYTES = {"mean": 0, "std": 1 / 255}


@functools.cache
def photos():
    china, flower = load_sample_images().images
    return {
        "landscape": china,
        "portrait": np.ascontiguousarray(flower.transpose(1, 0, 2)),
        "tiny": china[200:217, 300:320],
        "strip": flower[100:140],
        "line": flower[100:101, :90],
        "square": flower[50:250, 200:400],
        "grey": flower[..., 1:2],
    }


def pillow(image, size, crop_fraction, interpolation, crop_mode="center"):
    """The bytes that timm's evaluation transform gives before `ToTensor`, computed by Pillow."""
    picture = Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image)
    width, height = picture.size
    rows, columns = (math.floor(side / crop_fraction) for side in size)
    if crop_mode == "squash":
        resized = (columns, rows)
    elif rows == columns:
        short, long = sorted((width, height))
        longer = int(rows * long / short)
        resized = (rows, longer) if width <= height else (longer, rows)
    else:
        ratio = min(height / rows, width / columns)
        resized = (round(width / ratio), round(height / ratio))
    picture = picture.resize(resized, getattr(Image.Resampling, interpolation.upper()))
    top = round((resized[1] - size[0]) / 2.0)
    left = round((resized[0] - size[1]) / 2.0)
    cropped = ops.convert_to_numpy(picture.crop((left, top, left + size[1], top + size[0])))
    return cropped.reshape(*size, -1)


def by_layer(preprocessing, images):
    return keras.ops.convert_to_numpy(preprocessing.layer()(images))


CASES = [
    ("landscape", (224, 224), 0.9),
    ("landscape", (384, 384), 1.0),
    ("landscape", (96, 160), 0.875),
    ("landscape", (35, 35), 1.0),  # a margin of 17 columns, half of which is rounded down
    ("portrait", (224, 224), 0.875),
    ("portrait", (96, 160), 0.875),
    ("portrait", (160, 96), 0.9),
    ("tiny", (224, 224), 0.875),
    ("tiny", (34, 34), 1.0),  # twice as large, so that sums end in a half
    ("strip", (48, 48), 0.95),
    ("square", (200, 200), 1.0),  # the same size
    ("square", (32, 32), 1.0),
    ("grey", (224, 224), 0.9),
    ("line", (9, 20), 0.7),
]


BOTH = [(*case, "bicubic") for case in CASES] + [(*case, "bilinear") for case in CASES[::2]]
SQUASHED = CASES[:12:3]
SIZES = [
    (signature, size)
    for signature in ((None, None, 3), (427, None, 3), (None, 640, 3))
    for size in (48, (48, 80))
]
if not ON_TENSORFLOW:  # because JAX compiles each size again, and tf.data uses TensorFlow anyway
    BOTH, SQUASHED, SIZES = BOTH[::4], SQUASHED[:1], SIZES[:1]


@pytest.mark.parametrize(("photo", "size", "crop_fraction", "interpolation"), BOTH)
def test_function_and_layer_give_pillows_bytes(photo, size, crop_fraction, interpolation):
    image = photos()[photo]
    expected = pillow(image, size, crop_fraction, interpolation)
    preprocessing = Preprocessing(size, crop_fraction, interpolation, **AS_BYTES)
    mapped = preprocessing(image).numpy()
    layered = by_layer(preprocessing, image[None])[0]
    # All bytes are equal; the tolerance is for the scaling to 0..1 and back.
    np.testing.assert_allclose(mapped, expected, rtol=0, atol=1e-4)
    np.testing.assert_allclose(layered, expected, rtol=0, atol=1e-4)
    np.testing.assert_allclose(layered, mapped, rtol=0, atol=1e-4)


@pytest.mark.parametrize(("photo", "size", "crop_fraction"), SQUASHED)
def test_squashed_image_has_pillows_bytes(photo, size, crop_fraction):
    image = photos()[photo]
    expected = pillow(image, size, crop_fraction, "bicubic", "squash")
    preprocessing = Preprocessing(size, crop_fraction, **AS_BYTES, crop_mode="squash")
    np.testing.assert_allclose(preprocessing(image).numpy(), expected, rtol=0, atol=1e-4)
    layered = by_layer(preprocessing, image[None])[0]
    np.testing.assert_allclose(layered, expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("size", [(16, 16), (7, 5)])
@only_tensorflow
def test_wide_kernel_gives_pillows_bytes(size):
    """A strong reduction, whose kernel spans hundreds of pixels."""
    image = np.random.default_rng(0).integers(0, 256, (600, 1100, 3), "uint8")
    image[:300] //= 255  # because nearly black pixels test small sums
    preprocessing = Preprocessing(size, 1.0, **AS_BYTES)
    expected = pillow(image, size, 1.0, "bicubic")
    np.testing.assert_allclose(preprocessing(image).numpy(), expected, rtol=0, atol=1e-4)


@only_tensorflow
def test_small_sizes_give_pillows_bytes():
    image = photos()["landscape"]
    for height in range(2, 12):
        for width in (3, 8, 11, 30):
            small = image[100 : 100 + height, 200 : 200 + width]
            for size in ((5, 5), (6, 9)):
                found = Preprocessing(size, 0.8, **AS_BYTES)(small).numpy()
                expected = pillow(small, size, 0.8, "bicubic")
                np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("interpolation", resample.KERNELS)
@pytest.mark.parametrize(("length", "resized"), [(20, 34), (640, 371), (4000, 50), (9, 900)])
@only_numpy
def test_weights_fit_into_11_bits(interpolation, length, resized):
    """A GPU may multiply float32 as TF32, with 11 bits. Bytes and both parts of a weight fit."""
    preprocessing = Preprocessing(interpolation=interpolation)
    resampler = resample.Resampler(preprocessing, length, length, 3, keras.ops)
    *_, weights = resampler.band(length, resized, 30)
    coarse, fine = resampler.parts(weights)
    for part in (coarse, fine):
        mantissa = np.frexp(part)[0] * 2**11
        np.testing.assert_array_equal(mantissa, np.round(mantissa))
    np.testing.assert_array_equal(coarse + fine.astype("float64") / 2**10, weights / 2**22)
    np.testing.assert_allclose(weights.sum(1) / 2**22, 1, atol=1e-4)


def test_mean_and_std_apply_to_each_channel():
    image = photos()["landscape"]
    preprocessing = Preprocessing(64, **IMAGENET)
    expected = pillow(image, (64, 64), 0.875, "bicubic") / 255
    expected = (expected - IMAGENET["mean"]) / IMAGENET["std"]
    np.testing.assert_allclose(by_layer(preprocessing, image[None])[0], expected, atol=1e-6)
    np.testing.assert_allclose(preprocessing(image).numpy(), expected, atol=1e-6)


@pytest.mark.parametrize("dtype", ["uint8", "int32", "float16", "float32", "float64"])
def test_all_image_dtypes_give_the_same(dtype):
    images = np.stack([photos()["square"], photos()["square"][::-1]])
    preprocessing = Preprocessing(40)
    expected = by_layer(preprocessing, images)
    assert expected.dtype == "float32"
    np.testing.assert_array_equal(by_layer(preprocessing, images.astype(dtype)), expected)
    found = preprocessing(images.astype(dtype))
    assert found.dtype == "float32"
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-6)


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16", "float64"])
def test_layer_computes_in_float32_under_any_policy(policy):
    images = photos()["landscape"][None].astype("float32")
    expected = by_layer(Preprocessing(64), images)
    keras.config.set_dtype_policy(policy)
    for layer in (Preprocessing(64).layer(), PreprocessImages(64, dtype="float16")):
        outputs = layer(images)
        assert keras.backend.standardize_dtype(outputs.dtype) == "float32"
        assert layer(keras.Input((None, None, 3))).dtype == "float32"
        np.testing.assert_array_equal(keras.ops.convert_to_numpy(outputs), expected)


@pytest.mark.parametrize(("signature", "size"), SIZES)
def test_dataset_map_takes_images_of_unknown_size(signature, size):
    import tensorflow as tf

    preprocessing = Preprocessing(size)
    image = photos()["landscape"]
    signature = (tf.TensorSpec(signature, "uint8"), tf.TensorSpec((), "int32"))
    dataset = tf.data.Dataset.from_generator(lambda: [(image, 7)], output_signature=signature)
    mapped = dataset.map(preprocessing)
    assert mapped.element_spec[0].shape == (*preprocessing.size, 3)
    ((found, label),) = mapped
    assert int(label) == 7
    expected = by_layer(preprocessing, image[None])[0]
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-6)


def test_dataset_map_takes_single_images_and_batches():
    import tensorflow as tf

    preprocessing = Preprocessing(32)
    images = np.stack([photos()["square"], photos()["square"][::-1]])
    expected = by_layer(preprocessing, images)
    single = tf.data.Dataset.from_tensor_slices(images).map(preprocessing)
    np.testing.assert_allclose(np.stack([x.numpy() for x in single]), expected, atol=1e-6)
    (batch,) = tf.data.Dataset.from_tensors((images, [0, 1], [1.0, 2.0])).map(preprocessing)
    assert len(batch) == 3
    np.testing.assert_allclose(batch[0].numpy(), expected, atol=1e-6)


@pytest.mark.skipif(not ON_TENSORFLOW, reason="only TensorFlow traces unknown sizes")
@pytest.mark.parametrize("shape", [(None, None, None, 3), (2, 427, None, 3), (None, None, 640, 3)])
@pytest.mark.parametrize(
    ("size", "crop_mode"), [(48, "center"), ((48, 80), "center"), (48, "squash")]
)
def test_layer_takes_unknown_sizes_in_graph(shape, size, crop_mode):
    import tensorflow as tf

    layer = Preprocessing(size, crop_mode=crop_mode).layer()
    traced = tf.function(lambda x: layer(x), input_signature=[tf.TensorSpec(shape, "uint8")])
    assert traced.get_concrete_function().output_shapes == (shape[0], *layer.size, 3)
    names = ["landscape"] if 427 in shape or 640 in shape else ["landscape", "portrait", "tiny"]
    for name in names:
        images = np.stack([photos()[name]] * 2)
        np.testing.assert_allclose(traced(images).numpy(), layer(images).numpy(), atol=1e-6)


@pytest.mark.parametrize("jit", [False, True])
def test_model_takes_photos_of_several_sizes(jit):
    if jit and keras.backend.backend() == "torch":
        pytest.skip(reason="torch.compile needs a C++ compiler and much time")
    image = keras.Input((None, None, 3), dtype="uint8")
    model = keras.Model(image, Preprocessing(48).layer()(image))
    model.compile(jit_compile=jit)
    assert model.output_shape == (None, 48, 48, 3)
    for name in ("landscape", "tiny"):
        images = photos()[name][None]
        expected = by_layer(Preprocessing(48), images)
        np.testing.assert_allclose(model.predict(images, verbose=0), expected, atol=1e-6)


@pytest.mark.skipif(not ON_TENSORFLOW, reason="TensorFlow is the backend that exports")
@pytest.mark.parametrize("crop_mode", resample.CROP_MODES)
def test_onnx_gives_pillows_bytes(crop_mode):
    import onnx
    import onnxruntime
    import tensorflow as tf

    from keras_mixers.exporting.onnx.conversion import to_onnx
    from keras_mixers.exporting.onnx.resize import prepared

    preprocessing = Preprocessing((21, 40), 0.9, **AS_BYTES, crop_mode=crop_mode)
    signature = [tf.TensorSpec((None, None, None, 3), "uint8", name="images")]
    function = tf.function(lambda images: {"out": prepared(preprocessing, images)}, signature)
    converted = to_onnx(function.get_concrete_function(), "onnx")
    onnx.checker.check_model(converted, full_check=True)
    assert {node.domain for node in converted.graph.node} == {""}
    assert len(converted.graph.node) <= 300
    session = onnxruntime.InferenceSession(
        converted.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    for name in ("landscape", "portrait", "tiny", "line"):
        image = photos()[name]
        (found,) = session.run(["out"], {"images": np.stack([image, image[::-1]])})
        for each, flipped in zip(found, (image, image[::-1]), strict=True):
            expected = pillow(flipped, (21, 40), 0.9, "bicubic", crop_mode)
            np.testing.assert_allclose(each, expected, rtol=0, atol=1e-4)


EVERY_ARGUMENT = {
    "size": (20, 30),
    "crop_fraction": 0.7,
    "interpolation": "bilinear",
    **IMAGENET,
    "crop_mode": "squash",
}


@pytest.mark.parametrize("given", [{}, EVERY_ARGUMENT, {"size": 8, "mean": 0.5, "std": [0.1, 1]}])
def test_config_round_trip_through_json(given):
    preprocessing = Preprocessing(**given)
    config = preprocessing.get_config()
    assert json.loads(json.dumps(config)) == config
    loaded = Preprocessing.from_config(json.loads(json.dumps(config)))
    assert loaded == preprocessing
    assert hash(loaded) == hash(preprocessing)
    assert eval(repr(preprocessing)) == preprocessing
    layer = preprocessing.layer(name="mine")
    loaded = PreprocessImages.from_config(layer.get_config())
    assert loaded.specification.get_config() == config
    assert layer.name == "mine"


def test_preprocessing_is_immutable():
    with pytest.raises(AttributeError):
        Preprocessing().size = 3


def test_loaded_model_preprocesses_as_before(tmp_path):
    image = keras.Input((None, None, 3), dtype="uint8")
    model = keras.Model(image, Preprocessing(**EVERY_ARGUMENT).layer()(image))
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert loaded.layers[1].get_config() == model.layers[1].get_config()
    images = photos()["landscape"][None]
    np.testing.assert_array_equal(
        keras.ops.convert_to_numpy(loaded(images)), keras.ops.convert_to_numpy(model(images))
    )


NAN, INF = float("nan"), float("inf")
BAD = {
    "size": [0, -1, 1.5, "3", True, None, NAN, 2**40, (2,), (2, 3, 4), (2, 0), (2, 1.5)],
    "crop_fraction": [0, 0.0, -0.1, 1.1, 2, 1e-9, "0.9", True, None, NAN, INF, (0.9, 0.9)],
    "interpolation": ["", "nonsense", "bicubics", "nearest", 3, True, None],
    "crop_mode": ["", "border", "squish", 3, True, None],
    "mean": ["0.5", 1e60, True, None, NAN, INF, -INF, (), (0.5, NAN), (0.5, "0.5"), (0.5, None)],
    "std": [
        "0.5",
        1e-60,
        True,
        None,
        NAN,
        INF,
        0,
        0.0,
        -0.5,
        (),
        (0.5, 0.0),
        (0.5, NAN),
        (1, True),
    ],
}


@pytest.mark.parametrize("make", [Preprocessing, PreprocessImages])
@pytest.mark.parametrize(("name", "bad"), [(name, bad) for name in BAD for bad in BAD[name]])
@only_numpy
def test_error_names_invalid_argument(make, name, bad):
    with pytest.raises((ValueError, TypeError)) as error:
        make(**{name: bad})
    message = str(error.value)
    assert f"`{name}` must be" in message
    assert "Received" in message
    assert repr(bad) in message


def test_mean_and_std_of_different_lengths_raise():
    with pytest.raises(ValueError, match=r"`std` must have as many .*\(0.0, 1.0\).*\(0.5, 0.5"):
        Preprocessing(mean=(0, 1))


@pytest.mark.parametrize(
    ("name", "given"), [("mean", {"std": 1}), ("std", {"mean": 0}), ("mean", {})]
)
@pytest.mark.parametrize("channels", [1, 4])
def test_wrong_number_of_channels_raises(name, given, channels):
    preprocessing = Preprocessing(8, **given)
    message = rf"`{name}` must have one number for each channel.*{name}=\(0.5.*{channels} channels"
    with pytest.raises(ValueError, match=message):
        preprocessing(np.zeros((9, 9, channels), "uint8"))
    with pytest.raises(ValueError, match=message):
        preprocessing.layer()(keras.Input((None, None, channels)))


def test_unknown_number_of_channels_raises():
    """It is valid only if one number is the mean, and one the std, of all channels."""
    with pytest.raises(ValueError, match="`mean` must have.*unknown channels"):
        Preprocessing(8).layer()(keras.Input((None, None, None)))
    layer = Preprocessing(8, mean=0.5, std=0.5).layer()
    assert layer(keras.Input((None, None, None))).shape == (None, 8, 8, None)


def test_built_layer_rejects_other_channel_counts():
    layer = Preprocessing(8, mean=0.5, std=0.5).layer()
    layer(np.zeros((1, 9, 9, 3), "uint8"))
    with pytest.raises(ValueError, match="preprocessing.*expected axis -1 .* value 3"):
        layer(np.zeros((1, 9, 9, 1), "uint8"))


def test_image_of_wrong_rank_raises():
    with pytest.raises(ValueError, match=r"`image` must have shape \(H, W, C\).*\(9, 9\)"):
        Preprocessing(8)(np.zeros((9, 9), "uint8"))
    with pytest.raises(ValueError, match="preprocessing.*expected ndim=4"):
        Preprocessing(8).layer()(np.zeros((9, 9, 3), "uint8"))

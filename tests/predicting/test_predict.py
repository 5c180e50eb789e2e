"""Classify files and other images: models whose outputs are the pixels, and broken input."""

import keras
import numpy as np
import pytest
from PIL import Image, ImageOps

import keras_mixers as km
from keras_mixers.predicting.read import read
from keras_mixers.preprocessing.decode import MAX_SIDE

RED, GREEN, BLUE = (255, 0, 0), (0, 255, 0), (0, 0, 255)
PREPROCESSING = km.Preprocessing(2, crop_fraction=1.0, mean=0.5, std=0.5)


def mean_colour(channels=3, activation=None):
    """A model whose logits are the means of the channels."""
    dense = keras.layers.Dense(channels, kernel_initializer="identity", activation=activation)
    mean = keras.layers.GlobalAveragePooling2D()
    return keras.Sequential([keras.Input((2, 2, channels)), mean, dense])


def pixel_values(images, channels=3):
    """The pixels `(2, 2, channels)` of each image, minus its largest, as a model receives them."""
    dense = keras.layers.Dense(4 * channels, kernel_initializer="identity")
    layers = [keras.Input((2, 2, channels)), keras.layers.Flatten(), dense]
    preprocessing = km.Preprocessing(2, crop_fraction=1.0, mean=0, std=1)
    for found in km.predict(keras.Sequential(layers), images, preprocessing, top=12):
        values = np.zeros(4 * channels)
        values[[int(name) for name in found.class_names]] = 255 * np.log(found.probabilities)
        yield np.rint(values - values.max()).reshape(2, 2, channels)


@pytest.fixture(autouse=True)
def default_seed_and_dtype_policy():
    """No new seed for each test, because TensorFlow then optimizes the decoder's graph again."""


def plain(colour, size=(6, 5)):
    return Image.new("RGB", size[::-1], colour)


@pytest.mark.backends
def test_probabilities_are_the_softmax_of_known_logits(tmp_path):
    for name, colour in {"green": GREEN, "blue": BLUE}.items():
        plain(colour).save(tmp_path / f"{name}.png")
    array = np.zeros((3, 4, 3))
    array[..., 0] = 255
    names = ["red", "green", "blue"]
    items = [plain(RED), tmp_path, array, str(tmp_path / "blue.png")]
    found = km.predict(mean_colour(), items, PREPROCESSING, names, top=2, batch_size=2)
    green, blue = str(tmp_path / "green.png"), str(tmp_path / "blue.png")
    assert [each.source for each in found] == [0, blue, green, 3, blue]
    expected = [("red", "green"), ("blue", "red"), ("green", "red"), ("red", "green")]
    assert [each.class_names for each in found] == [*expected, ("blue", "red")]
    softmax = np.exp([1, -1]) / (np.exp(1) + 2 * np.exp(-1))
    for each in found:
        np.testing.assert_allclose(each.probabilities, softmax, rtol=1e-5)


def test_progress_is_shown_for_several_batches(capsys):
    images = np.zeros((5, 4, 4, 3), "uint8")
    one = km.predict(mean_colour(), images, PREPROCESSING)
    assert not capsys.readouterr().out
    several = km.predict(mean_colour(), images, PREPROCESSING, batch_size=2)
    assert "3/3" in capsys.readouterr().out
    assert one == several and len(one) == 5


def sigmoid(logit):
    return 1 / (1 + np.exp(-logit))


def test_sigmoid_model_gives_independent_probabilities():
    """All labels above 50% are named, also if they are more than `top`."""
    model = mean_colour()
    model.compile(loss=km.training.Crossentropy(kind="sigmoid"))
    names = ["red", "green", "blue"]
    yellow, black = km.predict(
        model, [plain((255, 255, 0)), plain((0, 0, 0))], PREPROCESSING, names, top=1
    )
    assert yellow.class_names == ("red", "green")
    np.testing.assert_allclose(yellow.probabilities, sigmoid(1), rtol=1e-5)
    assert black.class_names == ("red",)
    np.testing.assert_allclose(black.probabilities, sigmoid(-1), rtol=1e-5)
    assert str(black) == "image 1: no label; at most 50%: red 26.9%"
    (found,) = km.predict(model, plain((255, 255, 0)), PREPROCESSING, names)
    assert str(found) == "image 0: red 73.1%, green 73.1%; at most 50%: blue 26.9%"


def test_model_file_keeps_several_labels_without_the_loss(tmp_path):
    """The loss in the file says it, the fact does without the loss, and another loss wins."""
    images = keras.Input((2, 2, 3))
    mean = keras.layers.GlobalAveragePooling2D()(images)
    model = km.ImageModel(images, keras.layers.Dense(3, kernel_initializer="identity")(mean))
    km.Recipe(epochs=1, loss="sigmoid", multi_label=True).compile(model, 1)
    model.save(tmp_path / "model.keras")
    for compiled in (True, False):
        loaded = keras.models.load_model(tmp_path / "model.keras", compile=compiled)
        assert loaded.multi_label
        (found,) = km.predict(loaded, plain(RED), PREPROCESSING, ["red", "green", "blue"])
        assert str(found) == "image 0: red 73.1%; at most 50%: green 26.9%, blue 26.9%"
    data = [(np.ones((1, 2, 2, 3), "float32"), [[1, 0, 0]])]
    assert isinstance(km.evaluate(loaded, data, ["r", "g", "b"]), km.MultiLabelEvaluation)
    for loss in (
        km.training.Crossentropy(),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    ):
        loaded.compile(loss=loss)
        (found,) = km.predict(loaded, plain(RED), PREPROCESSING)
        assert not found.independent
        np.testing.assert_allclose(sum(found.probabilities), 1, rtol=1e-5)


def test_one_output_decides_between_two_classes_or_about_one():
    model = mean_colour(1)
    white = np.full((4, 4, 1), 255, "uint8")
    for loss in (None, keras.losses.BinaryCrossentropy(from_logits=True)):
        if loss:
            model.compile(loss=loss)
        (both,) = km.predict(model, white, PREPROCESSING, ["good", "defect"])
        assert both.class_names == ("defect", "good")
        np.testing.assert_allclose(both.probabilities, [sigmoid(1), sigmoid(-1)], rtol=1e-5)
        assert str(both) == "image 0: defect 73.1%, good 26.9%"
        (one,) = km.predict(model, white, PREPROCESSING, ["defect"])
        assert str(one) == "image 0: defect 73.1%"
        (unnamed,) = km.predict(model, white, PREPROCESSING)
        assert unnamed.class_names == ("1", "0")
        data = [(white[None, :2, :2] / 127.5 - 1, np.array([1]))]
        found = km.evaluate(model, data, ["good", "defect"])
        assert found.accuracy == 1
        np.testing.assert_allclose(found.bin_probabilities[10], both.probabilities[0], rtol=1e-5)
    with pytest.raises(ValueError, match="`class_names` must be 2 strings"):
        km.predict(model, white, PREPROCESSING, ["a", "b", "c"])


def test_softmax_of_the_model_is_not_applied_twice():
    (logits,) = km.predict(mean_colour(), plain(RED), PREPROCESSING)
    (softmax,) = km.predict(mean_colour(activation="softmax"), plain(RED), PREPROCESSING)
    np.testing.assert_allclose(softmax.probabilities, logits.probabilities, rtol=1e-5)
    assert softmax.class_names == ("0", "1", "2")


def shown(file):
    """What Pillow shows of a file, over white."""
    with Image.open(file) as image:
        image = ImageOps.exif_transpose(image)
        if "A" in image.mode:
            white = Image.new("RGBA", image.size, "white")
            image = Image.alpha_composite(white, image.convert("RGBA"))
        return np.asarray(image.convert("RGB"), "float64")


def test_pillow_images_are_read_as_files_are(tmp_path):
    """Each mode that Pillow writes, turned by an orientation."""
    pixels = Image.fromarray(np.random.default_rng(0).integers(0, 256, (2, 2, 4), "uint8"))
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by 90 degrees
    for mode in ("RGB", "RGBA", "L", "LA", "P", "1"):
        image = pixels if "A" in mode else pixels.convert("RGB")
        image.convert(mode).save(tmp_path / f"{mode}.png", exif=exif)
    for mode in ("RGB", "CMYK"):
        pixels.convert("RGB").convert(mode).save(tmp_path / f"{mode}.tif", exif=exif)
    files = sorted(tmp_path.iterdir(), key=lambda file: file.suffix)
    expected = [shown(file) - shown(file).max() for file in files]
    found = list(pixel_values([*map(Image.open, files), *files]))
    for file, values, pillow in zip(files, found, expected, strict=False):
        np.testing.assert_allclose(values, pillow, atol=1, err_msg=str(file))
    np.testing.assert_array_equal(found[8:], found[:8])


def test_grey_model_reads_colour_files_as_grey(tmp_path):
    pixels = np.random.default_rng(1).integers(0, 256, (2, 2, 3), "uint8")
    Image.fromarray(pixels).save(tmp_path / "image.png")
    grey = pixels @ [0.299, 0.587, 0.114]
    (found,) = pixel_values(tmp_path / "image.png", channels=1)
    np.testing.assert_allclose(found[..., 0], grey - grey.max(), atol=1.5)


def test_broken_file_is_named(tmp_path):
    for name in ("1.png", "3.png"):
        plain(RED).save(tmp_path / name)
    (tmp_path / "2.jpg").write_bytes(b"\xff\xd8\xff\xe0")
    with pytest.raises(ValueError, match=r"`files` must be readable.*/2\.jpg': it is damaged"):
        km.predict(mean_colour(), tmp_path, PREPROCESSING, batch_size=1)


def test_file_that_is_no_image_is_named_before_others_are_classified(tmp_path):
    plain(RED).save(tmp_path / "1.png")
    (tmp_path / "2.jpg").write_bytes(b"<html></html>")
    paths = [str(tmp_path / name) for name in ("1.png", "2.jpg")]
    with pytest.raises(ValueError, match=r"`files` must be.*/2\.jpg': its format is not JPEG"):
        next(read(paths, PREPROCESSING, 3))


def test_broken_pillow_image_is_named(tmp_path):
    plain(RED, (80, 80)).save(tmp_path / "1.png")
    content = (tmp_path / "1.png").read_bytes()
    (tmp_path / "1.png").write_bytes(content[:-40])
    with (
        Image.open(tmp_path / "1.png") as image,
        pytest.raises(ValueError, match="`files` must be readable images. Received: image 1, <PIL"),
    ):
        km.predict(mean_colour(), [plain(RED), image], PREPROCESSING)


def test_folder_is_read_without_its_other_files(tmp_path):
    for name in ("b.png", "a.PNG", "more/c.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        plain(RED).save(tmp_path / name)
    (tmp_path / "scan.heic").write_bytes(b"II")
    with pytest.warns(UserWarning, match=r"`predict` skips files in .*: 1 \.heic, 1 folder$"):
        found = km.predict(mean_colour(), tmp_path, PREPROCESSING)
    assert [each.source for each in found] == [str(tmp_path / "a.PNG"), str(tmp_path / "b.png")]
    (tmp_path / "a.PNG").unlink()
    (tmp_path / "b.png").unlink()
    with pytest.raises(ValueError, match="`files` must name folders.*no such image.*1 folder"):
        km.predict(mean_colour(), tmp_path, PREPROCESSING)
    assert km.predict(mean_colour(), [], PREPROCESSING) == []


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ("/nowhere/cat.jpg", "'/nowhere/cat.jpg', which does not exist"),
        ("/dev/null", "'/dev/null', which is not a regular file"),
        (np.zeros((2, 4, 4, 1)), r"shape \(H, W, 3\).*image 0 of shape \(4, 4, 1\)"),
        (np.zeros((4, 4)), r"shape \(H, W, 3\)"),
        ([plain(RED), 5], "Received: item=5"),
        (np.full((4, 4, 3), np.nan), "must be finite"),
        (np.zeros((1, MAX_SIDE + 1, 3), "uint8"), "262144 pixels on one side.*262145, 3"),
        (Image.new("L", (1, MAX_SIDE + 1)), "262145 x 1 pixels.*262144 on one side; make it small"),
    ],
)
def test_wrong_files_are_refused(files, message):
    with pytest.raises((TypeError, ValueError), match=f"`files`.*{message}"):
        km.predict(mean_colour(), files, PREPROCESSING)


def test_files_need_1_3_or_4_channels():
    model = mean_colour(2)
    with pytest.raises(ValueError, match=r"`files` must be arrays of shape \(H, W, 2\)"):
        km.predict(model, plain(RED), PREPROCESSING)
    (found,) = km.predict(model, np.zeros((4, 4, 2)), PREPROCESSING)
    np.testing.assert_allclose(found.probabilities, 0.5)


def with_facts(channels, names):
    model = mean_colour(channels)
    model = km.ImageModel(model.inputs[0], model.outputs[0])
    model.preprocessing, model.class_names = PREPROCESSING, names
    return model


def test_facts_of_the_model_are_used_unless_others_are_given():
    model = with_facts(3, ["red", "green", "blue"])
    expected = km.predict(mean_colour(), plain(BLUE), PREPROCESSING, ["red", "green", "blue"])
    assert km.predict(model, plain(BLUE)) == expected
    assert expected[0].class_names[0] == "blue"
    black = km.Preprocessing(2, mean=2.0, std=1.0)  # logits -2 and -1 instead of -1 and 1
    (found,) = km.predict(model, plain(BLUE), black, ["rot", "grün", "blau"], top=1)
    assert found.class_names == ("blau",)
    np.testing.assert_allclose(found.probabilities, np.e / (2 + np.e), rtol=1e-5)


def test_one_output_with_two_names_gives_both_probabilities():
    model = with_facts(1, ["good", "bad"])
    model.compile(loss=keras.losses.BinaryCrossentropy(from_logits=True))
    (found,) = km.predict(model, np.full((4, 4, 1), 255, "uint8"))
    assert found.class_names == ("bad", "good")
    bad = 1 / (1 + np.exp(-1))
    np.testing.assert_allclose(found.probabilities, [bad, 1 - bad], rtol=1e-5)


@pytest.mark.parametrize(
    ("argument", "value", "message"),
    [
        ("model", keras.Sequential([keras.Input((2, 2, 3)), keras.layers.Flatten()]), "logits"),
        ("model", keras.Sequential([keras.Input((None, 2, 3)), keras.layers.Dense(1)]), "size"),
        ("preprocessing", km.Preprocessing(4), "must make images of the model's size"),
        ("preprocessing", None, "must be a keras_mixers.Preprocessing for a model without"),
        ("class_names", ["a", "b"], "must be 3 strings"),
        ("top", 0, "an integer from 1"),
        ("batch_size", 0, "an integer from 1"),
    ],
)
def test_wrong_arguments_are_refused(argument, value, message):
    arguments = {"model": mean_colour(), "preprocessing": PREPROCESSING, argument: value}
    with pytest.raises((TypeError, ValueError), match=f"`{argument}` .*{message}"):
        km.predict(files=plain(RED), **arguments)


def test_one_logit_with_another_loss_is_refused():
    """A regression has no probabilities. `km.export` refuses it too."""
    model = mean_colour(1)
    model.compile(loss="mse")
    image = np.zeros((1, 2, 2, 1))
    for call in (
        lambda: km.predict(model, image, PREPROCESSING),
        lambda: km.evaluate(model, [(image, [0])], ["good", "defect"]),
    ):
        with pytest.raises(ValueError, match="`model` must have two or more outputs, .*'mse'"):
            call()


def test_prediction_prints_one_readable_line():
    found = km.Prediction("a\n\udcff.jpg", ("cat", "d\tog"), (0.98765, 0.01235))
    assert str(found) == r"a\n\udcff.jpg: cat 98.8%, d\tog 1.2%"
    assert str(km.Prediction(3, ("cat",), (1.0,))) == "image 3: cat 100.0%"
    none = km.Prediction(3, ("cat",), (0.5,), independent=True)
    assert str(none) == "image 3: no label; at most 50%: cat 50.0%"

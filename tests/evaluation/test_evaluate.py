"""Evaluations of models that return chosen logits, against values computed by hand."""

import keras
import numpy as np
import pytest
from identity import batches, identity

import keras_mixers as km

# One row an image: five of class 0, 1, 1, 2, 2.
LOGITS = np.array([[4, 0, 0], [0, 1, 0], [3, 0, 0], [0, 0, 2], [0, 2, 0]], "float32")
TRUE = np.array([0, 1, 1, 2, 2])
NAMES = ["ant", "bee", "cow"]


def softmax_of_one(logit, classes):
    """The probability of a logit if all others are 0."""
    return np.exp(logit) / (np.exp(logit) + classes - 1)


@pytest.fixture(scope="module")
def evaluation():
    return km.evaluate(identity(3), batches(LOGITS, TRUE), NAMES)


@pytest.mark.backends
def test_evaluation_counts_images_and_classes(evaluation):
    assert evaluation.num_images == 5
    assert evaluation.class_names == ("ant", "bee", "cow")
    np.testing.assert_array_equal(evaluation.confusion, [[1, 0, 0], [1, 1, 0], [0, 1, 1]])
    np.testing.assert_array_equal(evaluation.counts, [1, 2, 2])
    assert evaluation.accuracy == 3 / 5
    np.testing.assert_allclose(evaluation.recall, [1, 1 / 2, 1 / 2])
    np.testing.assert_allclose(evaluation.precision, [1 / 2, 1 / 2, 1])
    assert evaluation.top5_accuracy is None


@pytest.mark.backends
def test_calibration_error_is_that_of_hand_computed_bins(evaluation):
    """Logits 1, 2, 2, 3, 4 give 0.576, 0.787 twice, 0.909, 0.965: bins 8, 11, 13 and 14."""
    p = {logit: softmax_of_one(logit, 3) for logit in (1, 2, 3, 4)}
    np.testing.assert_array_equal(np.flatnonzero(evaluation.bin_counts), [8, 11, 13, 14])
    np.testing.assert_array_equal(evaluation.bin_counts[[8, 11, 13, 14]], [1, 2, 1, 1])
    np.testing.assert_allclose(evaluation.bin_accuracies[[8, 11, 13, 14]], [1, 1 / 2, 0, 1])
    assert np.isnan(evaluation.bin_accuracies[0])
    np.testing.assert_allclose(
        evaluation.bin_probabilities[[8, 11, 13, 14]], [p[1], p[2], p[3], p[4]], rtol=1e-6
    )
    expected = ((1 - p[1]) + 2 * (p[2] - 1 / 2) + (p[3] - 0) + (1 - p[4])) / 5
    assert evaluation.calibration_error == pytest.approx(expected, rel=1e-6)


@pytest.mark.backends
def test_mistakes_are_worst_first_with_their_images(evaluation):
    found = [(m.index, m.true_class, m.predicted_class) for m in evaluation.mistakes]
    assert found == [(2, 1, 0), (4, 2, 1)]
    probabilities = [m.probability for m in evaluation.mistakes]
    np.testing.assert_allclose(probabilities, [softmax_of_one(3, 3), softmax_of_one(2, 3)], 1e-6)
    np.testing.assert_array_equal(evaluation.mistakes[1].image, LOGITS[4].reshape(1, 1, 3))


def test_evaluate_keeps_the_worst_of_all_batches():
    logits = [[0, z] for z in (1, 5, 2, 4, 3, 5)]
    data = batches(logits, np.zeros(6, int))
    found = km.evaluate(identity(2), data, NAMES[:2], num_mistakes=3)
    assert [mistake.index for mistake in found.mistakes] == [1, 5, 3]
    assert km.evaluate(identity(2), data, NAMES[:2], num_mistakes=0).mistakes == ()
    assert np.isnan(found.precision[0]), "0 / 0: no class was predicted"
    assert found.recall[0] == 0
    assert np.isnan(found.recall[1]), "0 / 0: the class has no images"


def test_top5_accuracy_counts_ranks_of_the_true_class():
    logits = np.array([[9, 8, 7, 6, 5, 4]] * 2 + [[1, 1, 1, 1, 1, 1]] * 3)
    found = km.evaluate(identity(6), batches(logits, np.array([4, 5, 4, 5, 5])), list("abcdef"))
    assert found.top5_accuracy == 2 / 5, "equal logits rank in their order"
    assert found.accuracy == 0


@pytest.mark.parametrize(
    "labels", [np.eye(3)[TRUE], TRUE[:, None], TRUE.astype("float32")], ids=["one-hot", "N1", "f32"]
)
def test_evaluate_reads_each_form_of_labels(labels, evaluation):
    found = km.evaluate(identity(3), batches(LOGITS, labels), NAMES)
    np.testing.assert_array_equal(found.confusion, evaluation.confusion)


def test_evaluate_ignores_weights(evaluation):
    weighted = [(*batch, np.zeros(len(batch[1]))) for batch in batches(LOGITS, TRUE)]
    found = km.evaluate(identity(3), weighted, NAMES)
    np.testing.assert_array_equal(found.confusion, evaluation.confusion)


def test_evaluate_takes_probabilities_of_a_softmax_as_they_are(evaluation):
    found = km.evaluate(identity(3, "softmax"), batches(LOGITS, TRUE), NAMES)
    assert found.calibration_error == pytest.approx(evaluation.calibration_error, rel=1e-5)


@pytest.mark.backends
def test_evaluate_uses_the_sigmoid_of_a_sigmoid_loss():
    model = identity(3, loss=km.training.Crossentropy(kind="sigmoid"))
    found = km.evaluate(model, batches(LOGITS, TRUE), NAMES)
    assert found.mistakes[0].probability == pytest.approx(1 / (1 + np.exp(-3)), rel=1e-6)


def test_one_output_chooses_between_two_classes():
    logits, labels = [[2.0], [-1.0], [0.0]], np.array([1, 1, 0])
    found = km.evaluate(identity(1), batches(logits, labels), ["no", "yes"])
    np.testing.assert_array_equal(found.confusion, [[1, 0], [1, 1]])
    assert found.mistakes[0].probability == pytest.approx(1 / (1 + np.exp(-1)), rel=1e-6)


def test_evaluate_reads_loaded_data_as_keras_evaluates_it():
    _, validation, info = km.data.load("digits", batch_size=100)
    model = km.ViT(
        "Ti/16", input_shape=info.input_shape, patch_size=4, depth=1, hidden_dim=12, num_classes=10
    )
    km.Recipe(epochs=1).compile(model, steps_per_epoch=1)
    found = km.evaluate(model, validation, info)
    assert found.num_images == info.num_validation
    assert found.accuracy == pytest.approx(model.evaluate(validation, verbose=0)[1], abs=1e-6)


def test_mistakes_name_their_files(tmp_path):
    """The classes are 10 shades each, and the model swaps them."""
    for label, shades in (("bright", range(105, 205, 10)), ("dark", range(5, 105, 10))):
        (tmp_path / label).mkdir()
        for shade in shades:
            pixels = np.full((2, 2, 1), shade, "uint8")
            keras.utils.save_img(tmp_path / label / f"{shade}.png", pixels, scale=False)
    data = {"image_size": 2, "batch_size": 3, "validation_fraction": 0.4}
    _, validation, info = km.data.load(tmp_path, **data)
    dense = keras.layers.Dense(2)
    model = keras.Sequential([keras.Input((2, 2, 3)), keras.layers.Flatten(), dense])
    dense.set_weights([np.array([[-1, 0]] * 12), np.array([-2.4, 0])])
    found = km.evaluate(model, validation, info)
    assert len(found.mistakes) == 8
    for mistake in found.mistakes:
        shade = round(float((mistake.image[0, 0, 0] + 1) * 127.5))
        folder = ("bright", "dark")[mistake.true_class]
        assert mistake.file == str(tmp_path / folder / f"{shade}.png")
    assert f"  {found.mistakes[0].file}: " in str(found)
    assert km.evaluate(model, validation.take(1), info).mistakes[0].file is None


def test_table_shows_classes_and_mistakes(evaluation):
    assert str(evaluation).splitlines() == [
        "5 images, 3 classes: accuracy 60.0%, calibration error 38.9%",
        "",
        "class  images  precision  recall",
        "ant         1      50.0%  100.0%",
        "bee         2      50.0%   50.0%",
        "cow         2     100.0%   50.0%",
        "",
        "most frequent mistakes",
        "  bee as ant: 1 image",
        "  cow as bee: 1 image",
        "",
        "worst mistakes, by the probability of the predicted class",
        "  image 2: bee as ant (90.9%)",
        "  image 4: cow as bee (78.7%)",
    ]


def test_table_of_many_classes_shows_those_with_the_lowest_recall():
    logits, labels = np.eye(30), np.arange(30)
    labels[7] = 8
    names = [f"a \udcff\nname of class {i} and more words" for i in range(30)]
    lines = str(km.evaluate(identity(30), batches(logits, labels, 30), names)).splitlines()
    assert "top-5 accuracy 96.7%" in lines[0]
    assert lines[2] == "the 20 classes with the lowest recall"
    rows = lines[4:24]
    assert rows[0] == "a ? name of class 8 and mor...       2     100.0%   50.0%"
    assert not lines[24]


@pytest.mark.parametrize(
    ("dataset", "expected"),
    [
        (3, "must yield batches"),
        ((LOGITS, TRUE), "must yield batches"),
        ([], "at least one image"),
        (batches(LOGITS, TRUE + 1), "integer from 0 to 2.* Received: 3"),
        (batches(LOGITS, TRUE - 1), "Received: -1"),
        (batches(LOGITS, TRUE + 0.5), "Received: 0.5"),
        (batches(LOGITS, np.full((5, 3), 1 / 3)), "one-hot. Received: .0.33"),
        (batches(LOGITS, np.ones((5, 3))), "one-hot"),
        (batches(LOGITS, np.ones((5, 4))), r"\(2,\) or \(2, 3\)"),
        (batches(np.ones((2, 4)), TRUE), "`images` must be"),
    ],
    ids=["number", "arrays", "empty", "3", "-1", "0.5", "soft", "several", "shape", "images"],
)
def test_evaluate_refuses_other_data(dataset, expected):
    with pytest.raises((TypeError, ValueError), match=expected):
        km.evaluate(identity(3), dataset, NAMES)


def test_names_and_colours_of_the_model_are_compared_with_the_info():
    model, data = identity(3), batches(LOGITS, TRUE)
    model = km.ImageModel(model.inputs[0], model.outputs[0])
    model.class_names = NAMES
    assert km.evaluate(model, data).class_names == tuple(NAMES)
    assert km.evaluate(model, data, ["x", "y", "z"]).class_names == ("x", "y", "z")
    with pytest.raises(ValueError, match="`info` must.*order.*class 1 is 'cow', .* 'bee'"):
        km.evaluate(model, data, ["ant", "cow", "bee"])
    model.preprocessing = km.Preprocessing(1)
    info = km.data.Info("", (1, 1, 3), NAMES, 5, 5, "test", km.Preprocessing(1, std=0.2))
    with pytest.warns(UserWarning, match="`info` prepares images with another std"):
        km.evaluate(model, data, info)


@pytest.mark.parametrize("info", [None, NAMES[:2], 3])
def test_evaluate_refuses_names_of_other_classes(info):
    with pytest.raises((TypeError, ValueError), match="`info` must"):
        km.evaluate(identity(3), batches(LOGITS, TRUE), info)


@pytest.mark.parametrize(
    "make", [lambda: identity(3, "sigmoid"), lambda: identity(1, "softmax")], ids=["sigmoid", "one"]
)
@pytest.mark.filterwarnings("ignore:You are using a softmax over axis")
def test_evaluate_refuses_models_without_class_logits(make):
    with pytest.raises(ValueError, match="`model` must end in logits"):
        km.evaluate(make(), batches(LOGITS, TRUE), NAMES)


def test_evaluate_refuses_a_model_that_returns_nan():
    model = identity(3)
    model.layers[-1].kernel.assign(np.full((3, 3), np.nan))
    with pytest.raises(ValueError, match="finite numbers"):
        km.evaluate(model, batches(LOGITS, TRUE), NAMES)

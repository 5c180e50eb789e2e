"""Evaluations of images with several labels or none, against values computed by hand."""

import numpy as np
import pytest
from identity import batches, identity

import keras_mixers as km

NAMES = ["ant", "bee", "cow"]
# One row an image. The logits of the ants tie at 1, and no image has a cow.
LOGITS = np.array([[3, -2, -1], [1, 4, -1], [1, -1, -1], [-2, -3, 2], [-4, 2, -1]], "float32")
LABELS = np.array([[1, 0, 0], [1, 1, 0], [0, 1, 0], [0, 0, 0], [1, 0, 0]], "float32")


def sigmoid(logit):
    return 1 / (1 + np.exp(-logit))


def info(multi_label, names=NAMES):
    size, preprocessing = (1, 1, len(names)), km.Preprocessing(1)
    return km.data.Info(
        "toy", size, tuple(names), 5, 5, "test", preprocessing, multi_label=multi_label
    )


@pytest.fixture(scope="module")
def evaluation():
    return km.evaluate(identity(3), batches(LOGITS, LABELS), info(True))


@pytest.mark.backends
def test_evaluation_counts_each_label(evaluation):
    assert isinstance(evaluation, km.MultiLabelEvaluation)
    assert evaluation.num_images == 5
    np.testing.assert_array_equal(
        evaluation.confusion, [[[1, 1], [1, 2]], [[2, 1], [1, 1]], [[4, 1], [0, 0]]]
    )
    np.testing.assert_array_equal(evaluation.counts, [3, 2, 0])
    np.testing.assert_allclose(evaluation.precision, [2 / 3, 1 / 2, 0])
    np.testing.assert_allclose(evaluation.recall, [2 / 3, 1 / 2, np.nan])
    np.testing.assert_allclose(evaluation.label_accuracy, [3 / 5, 3 / 5, 4 / 5])
    assert evaluation.exact_match == 2 / 5


@pytest.mark.backends
def test_average_precision_takes_equal_logits_in_one_step(evaluation):
    """Ants: ranks 1, then 2 and 3 at once, then 5 of 5. Bees: ranks 1 and 3."""
    ants, bees = (1 + 2 / 3 + 3 / 5) / 3, (1 + 2 / 3) / 2
    np.testing.assert_allclose(evaluation.average_precision, [ants, bees, np.nan])
    assert evaluation.mean_average_precision == pytest.approx((ants + bees) / 2)


@pytest.mark.backends
def test_calibration_is_over_pairs_of_image_and_label(evaluation):
    assert evaluation.bin_counts.sum() == 15
    probability, true = sigmoid(LOGITS.ravel()), LABELS.ravel()
    gaps = []
    for m in range(15):
        inside = (probability > m / 15) & (probability <= (m + 1) / 15)
        assert evaluation.bin_counts[m] == inside.sum()
        if inside.any():
            gaps.append(abs(probability[inside].sum() - true[inside].sum()))
    assert evaluation.calibration_error == pytest.approx(sum(gaps) / 15, rel=1e-5)
    assert evaluation.bin_accuracies[10] == 1 / 2, "of the two logits 1, one image has the label"


def test_mistakes_are_worst_first_with_their_images(evaluation):
    found = [(m.index, m.label) for m in evaluation.false_positives]
    assert found == [(3, 2), (4, 1), (2, 0)]
    np.testing.assert_allclose(
        [m.probability for m in evaluation.false_positives], sigmoid(np.array([2, 2, 1])), 1e-6
    )
    np.testing.assert_array_equal(evaluation.false_positives[1].image, LOGITS[4].reshape(1, 1, 3))
    assert [(m.index, m.label) for m in evaluation.false_negatives] == [(4, 0), (2, 1)]
    np.testing.assert_allclose(
        [m.probability for m in evaluation.false_negatives], sigmoid(np.array([-4, -1])), 1e-6
    )
    few = km.evaluate(identity(3), batches(LOGITS, LABELS, 1), info(True), num_mistakes=1)
    assert [m.index for m in (*few.false_positives, *few.false_negatives)] == [3, 4]


def test_table_shows_labels_and_mistakes(evaluation):
    assert str(evaluation).splitlines() == [
        "5 images, 3 labels: mean average precision 79.4%, exact match 40.0%,"
        " label accuracy 66.7%, calibration error 25.4%",
        "",
        "label  images  average precision  precision  recall",
        "ant         3              75.6%      66.7%   66.7%",
        "bee         2              83.3%      50.0%   50.0%",
        "cow         0                  -       0.0%       -",
        "",
        "worst false positives, by the probability",
        "  image 3: cow (88.1%)",
        "  image 4: bee (88.1%)",
        "  image 2: ant (73.1%)",
        "",
        "worst false negatives, by the probability",
        "  image 4: ant (1.8%)",
        "  image 2: bee (26.9%)",
    ]


def test_table_of_many_labels_shows_those_with_the_lowest_average_precision():
    logits, labels = np.eye(30), np.eye(30)
    labels[7, 8] = 1
    names = [f"label {i}" for i in range(30)]
    lines = str(
        km.evaluate(identity(30), batches(logits, labels, 30), names, multi_label=True)
    ).splitlines()
    assert lines[2] == "the 20 labels with the lowest average precision"
    assert lines[4].split()[:4] == ["label", "8", "2", "53.3%"]  # the mean of 1 and 2 / 30
    assert not lines[24]


def test_argument_or_info_decides_whether_images_have_several_labels():
    """Labels that are one-hot by chance change nothing."""
    one_hot = np.eye(3, dtype="float32")[[0, 1, 1, 2, 2]]
    data = batches(LOGITS, one_hot)
    assert isinstance(km.evaluate(identity(3), data, NAMES), km.Evaluation)
    assert isinstance(km.evaluate(identity(3), data, info(False)), km.Evaluation)
    for given in ({"info": info(True)}, {"info": NAMES, "multi_label": True}):
        assert isinstance(km.evaluate(identity(3), data, **given), km.MultiLabelEvaluation)
    found = km.evaluate(identity(3), data, info(True), multi_label=False)
    assert isinstance(found, km.Evaluation)
    with pytest.raises(ValueError, match="must be one class.*pass multi_label=True"):
        km.evaluate(identity(3), batches(LOGITS, LABELS), NAMES)


def test_one_label_is_present_or_not():
    data = batches([[2.0], [-1.0], [0.0]], np.array([[1], [1], [0]]))
    found = km.evaluate(identity(1), data, ["defect"], multi_label=True)
    np.testing.assert_array_equal(found.confusion, [[[1, 0], [1, 1]]])
    assert found.mean_average_precision == pytest.approx((1 + 2 / 3) / 2)


@pytest.mark.parametrize("loss", ["sigmoid", None])
def test_exact_value_is_close_to_that_of_the_metric(loss):
    random = np.random.RandomState(0)
    labels = (random.rand(200, 3) < 0.2).astype("float32")
    logits = random.randn(200, 3) + labels
    model = identity(3)
    if loss:
        km.Recipe(epochs=1, loss=loss, multi_label=True).compile(model, 1)
    metric = km.training.AveragePrecision()
    metric.update_state(labels, logits)
    found = km.evaluate(model, batches(logits, labels, 64), info(True))
    assert found.mean_average_precision == pytest.approx(float(metric.result()), abs=2e-3)


def test_sample_weights_have_no_effect_as_in_keras(evaluation):
    weights = np.array([0.0, 1, 5, 1, 2])
    weighted = [
        (*batch, weights[i : i + 2])
        for i, batch in zip((0, 2, 4), batches(LOGITS, LABELS), strict=True)
    ]
    found = km.evaluate(identity(3), weighted, info(True))
    assert str(found) == str(evaluation)
    model = identity(3)
    km.Recipe(epochs=1, loss="sigmoid", multi_label=True).compile(model, 1)
    model.run_eagerly = True
    data = (LOGITS[:, None, None], LABELS)
    by_keras = [model.evaluate(*data, sample_weight=w, verbose=0)[1] for w in (weights, None)]
    assert by_keras[0] == by_keras[1]


def test_endless_dataset_is_refused():
    import tensorflow as tf

    one = tf.data.Dataset.from_tensors((LOGITS[:, None, None], LABELS))
    # It ends after all, so that the test does.
    endless = one.repeat(3).apply(tf.data.experimental.assert_cardinality(-1))
    with pytest.raises(ValueError, match="`dataset` must end.*endless"):
        km.evaluate(identity(3), endless, info(True))
    assert km.evaluate(identity(3), endless.take(2), info(True)).num_images == 10


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        (np.full((5, 3), 0.5), "must be 0 or 1 for each image and label. Received: 0.5"),
        (-LABELS, "Received: -1"),
        (np.array([0, 1, 1, 2, 2]), r"shape \(2, 3\) for 2 images .* Received: shape \(2,\)"),
        (np.ones((5, 4)), r"Received: shape \(2, 4\)"),
    ],
    ids=["soft", "negative", "numbers", "shape"],
)
def test_evaluate_refuses_other_labels(labels, expected):
    with pytest.raises(ValueError, match=expected):
        km.evaluate(identity(3), batches(LOGITS, labels), info(True))


@pytest.mark.parametrize(
    "make",
    [
        lambda: identity(3, "softmax"),
        lambda: identity(3, loss=km.training.Crossentropy()),
    ],
    ids=["softmax", "softmax loss"],
)
def test_evaluate_refuses_models_that_choose_one_class(make):
    with pytest.raises(ValueError, match="`model` must end in logits, and be trained with a loss"):
        km.evaluate(make(), batches(LOGITS, LABELS), info(True))

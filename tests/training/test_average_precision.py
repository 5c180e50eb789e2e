"""The metric of images with several labels, against the definition of average precision."""

import keras
import numpy as np
import pytest
from backends import WAYS
from keras import ops

import keras_mixers as km

COMPILED = [way for way in WAYS if "jit_compile" in way] or WAYS


def average_precision(labels, scores, weights=None):
    """Mean over the images with the label of the precision at each; equal scores are one step."""
    weights = np.ones(len(scores)) if weights is None else weights
    precisions = [
        (weights * labels)[scores >= score].sum() / weights[scores >= score].sum()
        for score in scores
    ]
    return np.average(precisions, weights=weights * labels)


def random_images(count=400, classes=3):
    random = np.random.RandomState(0)
    labels = (random.rand(count, classes) < 0.1).astype("float32")
    return labels, (2 * random.randn(count, classes) + 2 * labels - 4).astype("float32")


def test_average_precision_of_hand_computed_ranks():
    """Label 0 is at the ranks 1 and 3 of 4; label 1 at rank 2; label 2 has no image."""
    logits = np.array([[9, 1, 0], [2, 8, 0], [1, 4, 0], [-5, -1, 0]], "float32")
    labels = np.array([[1, 0, 0], [0, 0, 0], [1, 1, 0], [0, 0, 0]], "float32")
    metric = km.training.AveragePrecision()
    assert float(metric.result()) == 0
    metric.update_state(labels[:2], logits[:2])
    metric.update_state(labels[2:], logits[2:])
    assert float(metric.result()) == pytest.approx(((1 + 2 / 3) / 2 + 1 / 2) / 2, rel=1e-6)
    metric.reset_state()
    assert float(metric.result()) == 0
    metric.update_state(np.array([0, 2]), logits[:2])  # class numbers
    assert float(metric.result()) == pytest.approx((1 + 1 / 1.5) / 2, rel=1e-6), "a tie at 0"


def test_average_precision_is_close_to_the_exact_one():
    labels, logits = random_images()
    metric = km.training.AveragePrecision()
    for part in np.split(np.arange(len(labels)), 4):
        metric.update_state(labels[part], logits[part])
    exact = [average_precision(*columns) for columns in zip(labels.T, logits.T, strict=True)]
    assert float(metric.result()) == pytest.approx(np.mean(exact), abs=1e-3)


def test_average_precision_weighs_images_and_soft_labels():
    labels, logits = random_images()
    weights = np.random.RandomState(1).rand(len(labels)).astype("float32") + 1
    metric = km.training.AveragePrecision()
    metric.update_state(labels, logits, sample_weight=weights)
    exact = [
        average_precision(*columns, weights) for columns in zip(labels.T, logits.T, strict=True)
    ]
    assert float(metric.result()) == pytest.approx(np.mean(exact), abs=2e-3)
    metric.reset_state()
    metric.update_state(np.array([[1.0], [0.5]]), np.array([[2.0], [1.0]]))
    assert float(metric.result()) == pytest.approx((1 * 1 + 0.5 * 1.5 / 2) / 1.5, rel=1e-6)


def test_average_precision_of_extreme_logits_is_finite():
    metric = km.training.AveragePrecision()
    logits = np.array([[np.inf], [1e30], [9e3], [-1e30], [-np.inf]], "float32")
    labels = np.array([[1], [1], [0], [0], [0]])
    metric.update_state(labels, logits)
    assert float(metric.result()) == 1
    metric.update_state(labels, np.full_like(logits, np.nan))
    assert np.isfinite(float(metric.result()))


@pytest.mark.backends
@pytest.mark.parametrize("way", COMPILED, ids=str)
def test_recipe_for_several_labels_trains_and_reloads(way, tmp_path):
    labels, images = random_images(96)
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(3)])
    model.set_weights([np.eye(3), np.zeros(3)])
    km.Recipe(epochs=1, learning_rate=0, loss="sigmoid", multi_label=True).compile(model, 3)
    model.jit_compile, model.run_eagerly = way.get("jit_compile"), way.get("run_eagerly", False)
    best = keras.callbacks.EarlyStopping("average_precision")  # it needs the direction
    options = {"batch_size": 32, "callbacks": [best], "verbose": 0}
    found = model.fit(images, labels, **options).history["average_precision"][0]
    logits = ops.convert_to_numpy(model(images))
    exact = [average_precision(*columns) for columns in zip(labels.T, logits.T, strict=True)]
    assert found == pytest.approx(np.mean(exact), abs=1e-3)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    loaded.run_eagerly = True
    assert loaded.evaluate(images, labels, verbose=0)[1] == pytest.approx(found, abs=1e-6)


def test_softmax_is_refused_for_several_labels():
    with pytest.raises(ValueError, match="`loss` must be 'sigmoid' with `multi_label`.*'softmax'"):
        km.Recipe(epochs=1, multi_label=True)

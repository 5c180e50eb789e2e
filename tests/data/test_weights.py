"""The weights of images and classes, in batches, in mixed labels and in `fit`."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_mixers as km
from keras_mixers.data import sources
from keras_mixers.data.augmenter import Augmenter
from keras_mixers.data.class_weights import class_weights
from keras_mixers.data.random_access import from_arrays
from keras_mixers.data.randomness import RowRandom

IMAGES = np.random.RandomState(0).randint(0, 256, (9, 4, 4, 1)).astype("uint8")
NUMBERS = np.array([0, 1, 2, 0, 1, 2, 2, 2, 0])
MULTI_HOT = np.random.RandomState(1).randint(0, 2, (9, 3)).astype("float32")
BY_CLASS = {0: 2.0, 1: 0.5, 2: 1.0}
WEIGHTS = np.array([0.5, 2, 0, 3, 0, 0, 1, 1e-30, 4], "float32")


def losses_of(labels, logits, kind, smoothing):
    """The loss of each image, `(N,)`."""
    loss = km.training.Crossentropy(smoothing, kind, reduction=None)
    return keras.ops.convert_to_numpy(loss(labels.astype("float32"), logits))


@pytest.mark.parametrize("mixing", [{"mixup": 1.0}, {"cutmix": 1.0}])
@pytest.mark.parametrize("kind", ["softmax", "sigmoid"])
def test_weighted_loss_of_a_mixed_image_is_the_sum_of_both(mixing, kind):
    preprocessing = km.Preprocessing((4, 4), 1.0, "bilinear", 0.0, 1.0)
    augment = Augmenter(km.data.Augmentation(**mixing), preprocessing, 1, 3)
    labels = tf.constant(MULTI_HOT if kind == "sigmoid" else NUMBERS)
    # Labels of which each image has a place for itself show the part of each image in a mixture.
    own_place = Augmenter(km.data.Augmentation(**mixing), preprocessing, 1, 9)
    pixels, parts = own_place(IMAGES, tf.range(9), RowRandom(3, np.arange(9), 9))
    mixed, soft, weights = augment(IMAGES, labels, RowRandom(3, np.arange(9), 9), WEIGHTS)
    np.testing.assert_array_equal(mixed, pixels)
    assert ((parts.numpy() > 0.05) & (parts.numpy() < 0.95)).sum() >= 8
    np.testing.assert_allclose(weights, parts.numpy() @ WEIGHTS, rtol=1e-6)

    plain = MULTI_HOT if kind == "sigmoid" else np.eye(3)[NUMBERS]
    logits = np.random.RandomState(2).normal(size=(9, 3)).astype("float32")
    for smoothing in (0.0, 0.1):
        found = weights * losses_of(soft.numpy(), logits, kind, smoothing)
        each = [losses_of(np.tile(label, (9, 1)), logits, kind, smoothing) for label in plain]
        expected = np.einsum("nm,m,mn->n", parts, WEIGHTS, np.array(each))
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    both_are_zero = np.flatnonzero(weights.numpy() == 0)
    assert {4, 5} <= set(both_are_zero)
    unweighted = np.einsum("nm,mk->nk", parts, plain)
    np.testing.assert_allclose(soft.numpy()[both_are_zero], unweighted[both_are_zero], atol=1e-6)


def source_of(labels):
    images = from_arrays(np.zeros((len(labels), 1, 1, 1), "uint8"), labels)
    return sources.Source(images, images, "test", ("cat", "dog", "cow"))


def test_class_weights_by_name_number_and_frequency():
    source = source_of([0, 0, 0, 1, 1, 2])
    np.testing.assert_allclose(class_weights("balanced", source), [6 / 9, 1, 2], rtol=1e-6)
    np.testing.assert_allclose(class_weights({"dog": 3, 2: 0}, source), [1, 3, 0])
    assert class_weights(None, source) is None


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("balance", '`class_weight` must be None, "balanced", or a dict.*balance'),
        ([1, 2, 3], "`class_weight` must be None.*[1, 2, 3]"),
        ({"dgo": 1}, "`class_weight` must be one of 'cat'.*Did you mean 'dog'"),
        ({3: 1}, "`class_weight` must be an integer from 0 to 2.*3"),
        ({"cat": -1}, "`class_weight.*cat.*` must be a finite number.*-1"),
        ({"cat": 1, 0: 2}, "`class_weight` must have one weight for a class.*'cat'"),
    ],
)
def test_class_weight_raises_if_it_is_invalid(value, message):
    with pytest.raises((ValueError, TypeError), match=message):
        class_weights(value, source_of([0, 1, 2]))


def test_class_weight_raises_without_one_class_for_each_image():
    with pytest.raises(ValueError, match="'balanced' only if each class has.*none of 'cow'"):
        class_weights("balanced", source_of([0, 1, 1]))
    with pytest.raises(ValueError, match="`class_weight` must be None for images with several"):
        class_weights("balanced", source_of(np.eye(3)))


def test_only_the_training_has_class_weights(digits_folder, monkeypatch):
    train, validation, _ = km.data.load("digits", class_weight="balanced")
    found = list(train.as_numpy_iterator())
    labels, weights = (np.concatenate([batch[i] for batch in found]) for i in (1, 2))
    assert weights.mean() == pytest.approx(1, abs=1e-6)
    sums = np.bincount(labels, weights)
    np.testing.assert_allclose(sums, sums.mean(), rtol=1e-5)
    assert len(validation.element_spec) == 2
    # The labels of images that do not fit into memory are read from the records.
    monkeypatch.setattr(sources, "KEPT_BYTES", 0)
    in_records = sources.find("digits", 0.2, None).train
    monkeypatch.undo()
    np.testing.assert_array_equal(
        in_records.labels(), sources.find("digits", 0.2, None).train.labels()
    )


def step(data, class_weight=None, fit_arguments=None):
    """(metrics of a zero model, its biases after a step with learning rate 1)."""
    train, validation, info = km.data.prepare(data, validation=data, class_weight=class_weight)
    zeros = keras.layers.Dense(3, kernel_initializer="zeros")
    model = keras.Sequential([keras.Input(info.input_shape), keras.layers.Flatten(), zeros])
    accuracy = km.training.Accuracy()
    model.compile(
        keras.optimizers.SGD(1.0), km.training.Crossentropy(), weighted_metrics=[accuracy]
    )
    before = model.evaluate(validation, verbose=0, return_dict=True)
    model.fit(train, shuffle=False, verbose=0, **(fit_arguments or {}))
    return before, keras.ops.convert_to_numpy(zeros.bias)


@pytest.mark.backends
def test_fit_uses_the_weights_of_images_and_classes():
    """The step of a zero model is the weighted mean of `label - 1 / 3`."""
    images, numbers, weights = np.zeros((8, 2, 2, 1), "uint8"), np.arange(8) % 3, np.arange(8) / 4
    before, bias = step((images, numbers, weights), BY_CLASS)
    totals = weights * [BY_CLASS[number] for number in numbers]
    np.testing.assert_allclose(
        bias, (totals[:, None] * (np.eye(3)[numbers] - 1 / 3)).mean(0), atol=1e-6
    )
    # The validation has the weights of the images, and not those of the classes.
    assert before["loss"] == pytest.approx(weights.mean() * np.log(3), rel=1e-5)
    assert before["accuracy"] == pytest.approx(weights[numbers == 0].sum() / weights.sum())


def test_class_weight_of_fit_works_with_class_numbers():
    numbers = np.arange(8) % 3
    data = np.zeros((8, 2, 2, 1), "uint8"), numbers
    _, found = step(data, fit_arguments={"class_weight": BY_CLASS})
    totals = np.array([BY_CLASS[number] for number in numbers])
    expected = (totals[:, None] * (np.eye(3)[numbers] - 1 / 3)).mean(0)
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert abs(found).max() > 0.1

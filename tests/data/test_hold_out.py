"""Which images are held out for validation."""

import numpy as np
import pytest

import keras_mixers as km
from keras_mixers.data.hold_out import held_out


@pytest.mark.parametrize(
    ("sizes", "count", "expected"),
    [((21, 21, 21), 6, (2, 2, 2)), ((80, 30, 10), 12, (8, 3, 1)), ((6, 4, 90), 10, (1, 0, 9))],
)
def test_each_class_is_held_out_in_proportion(sizes, count, expected):
    labels = np.random.default_rng(0).permutation(np.repeat(range(len(sizes)), sizes))
    chosen = held_out(labels, count)
    assert chosen.sum() == count
    assert tuple(np.bincount(labels[chosen], minlength=len(sizes))) == expected
    for label, number in enumerate(expected):
        of_class = np.flatnonzero(labels == label)
        np.testing.assert_array_equal(np.flatnonzero(chosen[of_class]), range(number))


def test_first_images_with_several_labels_are_held_out():
    np.testing.assert_array_equal(held_out(np.eye(4), 2), [True, True, False, False])


def test_prepare_holds_out_images_of_each_class():
    labels = np.repeat([0, 1, 2], [80, 30, 10])
    images = np.zeros((120, 4, 4, 1), "uint8")
    _, validation, _ = km.data.prepare((images, labels), batch_size=12)
    ((_, found),) = validation
    assert tuple(np.bincount(found)) == (8, 3, 1)

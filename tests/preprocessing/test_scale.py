"""Warnings about images on a wrong scale."""

import re
import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf
from backends import ON_TORCH

import keras_mixers as km

IMAGE = np.random.default_rng(0).uniform(size=(9, 9, 3)).astype("float32")
PREPROCESSING = km.Preprocessing(4)


@pytest.mark.parametrize(
    ("image", "values"),
    [
        (IMAGE, "from 0.* to 0.9"),
        (2 * IMAGE.astype("float64") - 1, "from -0.9.* to 0.9"),
        ((IMAGE - 0.485) / 0.229, "from -2.* to 2"),
        (np.full((9, 9, 3), 1.0), "from 1 to 1"),
        (np.full((9, 9, 3), 60_000, "uint16"), r"int(16|32) values from 6e\+04"),
        (np.where(IMAGE > 0.5, np.nan, 9), "from nan to nan"),
    ],
)
def test_preprocessing_warns_of_images_on_a_wrong_scale(image, values):
    # On torch the layer does not look at the values.
    layers = [] if ON_TORCH else [PREPROCESSING.layer()]
    for function in (PREPROCESSING, PREPROCESSING.resize, *layers):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", UserWarning)
            function(image[None])
        (warning,) = (each for each in caught if each.category is UserWarning)
        assert re.search(f"in 0..255. Received: .*{values}", str(warning.message))
        assert warning.filename == __file__


@pytest.mark.parametrize(
    "image",
    [
        255 * IMAGE,
        (255 * IMAGE).astype("uint8"),
        0 * IMAGE,
        np.ones((9, 9, 3), "uint8"),
        300 * IMAGE - 20,
    ],
)
def test_preprocessing_accepts_bytes_and_floats_up_to_255(image):
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        PREPROCESSING(image)
        PREPROCESSING.layer()(image[None])


def test_traced_images_give_no_warning():
    model = keras.Sequential([keras.Input((9, 9, 3)), PREPROCESSING.layer()])
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        model.predict(IMAGE[None], verbose=0)
        list(tf.data.Dataset.from_tensors(IMAGE).map(PREPROCESSING))


def test_value_range_states_what_a_model_expects():
    assert PREPROCESSING.value_range == (-1, 1)
    assert km.Preprocessing(4, mean=0.0, std=1.0).value_range == (0, 1)
    lowest, highest = km.Preprocessing(4, mean=(0.4, 0.5), std=(0.2, 0.1)).value_range
    assert (lowest, highest) == (-5, 5)

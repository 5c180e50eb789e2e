"""`km.probe.feature_pca`: principal components as NumPy computes them, and their colours."""

import numpy as np
import pytest
from cases import case, random_weights

import keras_mixers as km
from keras_mixers import probe
from keras_mixers.probe.feature_pca import colours_of, foreground_of, principal_components


def test_feature_pca_is_that_of_all_patches_together():
    model, images = random_weights(case("vit").make()), case("vit").images(8)
    found = probe.feature_pca(model, images, 0, batch_size=3)
    assert (found.shape, found.dtype) == ((8, 2, 3, 3), np.float32)

    features = np.array(km.feature_maps(model, 0)(images)).reshape(-1, 16)
    values, vectors = np.linalg.eigh(np.cov(features.T))
    scores = (features - features.mean(axis=0)) @ vectors[:, :-4:-1]
    for component, expected in zip(found.reshape(-1, 3).T, scores.T, strict=True):
        low, high = np.percentile(expected, (1, 99))
        expected = (expected.clip(low, high) - low) / (high - low)
        difference = min(abs(component - expected).max(), abs(component - 1 + expected).max())
        assert difference < 1e-4, "equal except for the sign"
    assert principal_components(features)[1] == pytest.approx(values[-3:].sum() / values.sum())


def test_components_have_a_fixed_sign():
    vectors = np.random.default_rng(0).normal(size=(50, 6)) * [1, 9, 1, 5, 1, 1]
    scores, _ = principal_components(vectors)
    assert np.corrcoef(scores[:, 0], vectors[:, 1])[0, 1] > 0.9
    assert np.corrcoef(scores[:, 1], vectors[:, 3])[0, 1] > 0.9
    mirrored, _ = principal_components(-vectors)
    np.testing.assert_allclose(mirrored, -scores, atol=1e-9)


@pytest.mark.parametrize("count", [0, 1, 2, 5])
def test_components_that_explain_nothing_are_grey(count):
    vectors = np.full((count, 8), 3.0)
    vectors[:1, 2] = 4.0
    scores, explained = principal_components(vectors)
    colours = colours_of(scores)
    np.testing.assert_array_equal(colours[:, 1:], np.full((count, 2), 0.5))
    if count > 1:
        assert explained == pytest.approx(1)
        assert colours[:, 0].tolist() == [1, *[0] * (count - 1)]
    else:
        assert (explained, colours[:, 0].tolist()) == (0, [0.5] * count)


def test_outliers_do_not_fade_the_others():
    scores = np.random.default_rng(0).normal(size=(400, 3))
    expected = colours_of(scores)
    scores[7] = 1000
    np.testing.assert_allclose(
        np.delete(colours_of(scores), 7, 0), np.delete(expected, 7, 0), atol=0.1
    )


@pytest.mark.parametrize("sign", [1, -1])
def test_foreground_is_away_from_the_edges(sign):
    """Objects in the middle of two images, whose halves differ."""
    features = np.random.default_rng(0).normal(0, 0.01, (2, 6, 8, 5))
    is_object = np.zeros((2, 6, 8), bool)
    is_object[0, 1:4, 2:6] = is_object[1, 2:5, 1:5] = True
    features[is_object] += sign * np.array([3, 0, 2, 0, 0])
    np.testing.assert_array_equal(foreground_of(features), is_object)


def test_background_is_nan_and_has_no_effect():
    model, images = random_weights(case("vit_gap").make()), case("vit_gap").images(3)
    features = np.array(km.feature_maps(model)(images))
    is_object = foreground_of(features)
    found = probe.feature_pca(model, images, foreground=True)
    np.testing.assert_array_equal(np.isnan(found).all(axis=-1), ~is_object)
    expected = colours_of(principal_components(features[is_object])[0])
    np.testing.assert_allclose(found[is_object], expected, atol=1e-4)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"block": [0]}, r"`block` must be a number. Received: block=\[0\]"),
        ({"block": True}, "`block` must be a number. Received: block=True"),
        ({"block": 2}, "must be the number of a block, from 0 to 1"),
        ({"foreground": 1}, "`foreground` must be True or False"),
        ({"batch_size": 0}, "`batch_size` must be an integer"),
    ],
)
def test_feature_pca_refuses(options, message):
    with pytest.raises((ValueError, TypeError), match=message):
        probe.feature_pca(case("vit").make(), case("vit").images(1), **options)

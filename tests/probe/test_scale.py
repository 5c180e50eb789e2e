"""Warnings of the probes and figures about images in bytes."""

import warnings

import keras
import numpy as np
import pytest

import keras_mixers as km

BYTES = np.random.default_rng(0).integers(0, 256, (2, 16, 16, 3), "uint8")
MODEL = km.ViT(
    "Ti/16",
    input_shape=(16, 16, 3),
    patch_size=8,
    hidden_dim=12,
    depth=1,
    num_heads=3,
    num_classes=3,
)


@pytest.mark.parametrize("images", [BYTES, BYTES.astype("float32"), np.full_like(BYTES, 2)])
@pytest.mark.parametrize(
    "function",
    [
        km.attention_maps,
        km.attention_rollout,
        km.probe.attention_distance,
        km.probe.channel_mixing_activations,
        km.probe.feature_pca,
        km.probe.features,
        km.probe.relevance,
        lambda model, images: km.visualize.plot_attention(model, images[0]),
        lambda model, images: km.visualize.plot_relevance(model, images[0]),
        km.visualize.plot_feature_pca,
        lambda model, images: km.visualize.plot_features(model, images[0], layer="norm"),
    ],
)
def test_probe_warns_once_of_bytes(function, images):
    with pytest.warns(UserWarning, match="expects preprocessed images.*values up to") as caught:
        function(MODEL, images)
    assert len(caught) == 1


def test_explorer_warns_once_of_bytes(tmp_path):
    with pytest.warns(UserWarning, match="expects preprocessed images") as caught:
        km.visualize.attention_explorer(MODEL, BYTES, tmp_path / "page.html")
    assert len(caught) == 1


@pytest.mark.parametrize(
    "first",
    [
        keras.layers.Rescaling(1 / 127.5, offset=-1),
        keras.layers.Normalization(mean=127.0, variance=1.0),
        km.Preprocessing(16).layer(),
    ],
)
def test_probe_of_a_model_that_rescales_gives_no_warning(first):
    model = keras.Sequential([keras.Input((16, 16, 3)), first, MODEL])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        km.attention_maps(model, BYTES.astype("float32"))


def test_probe_of_preprocessed_images_gives_no_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        km.attention_maps(MODEL, km.Preprocessing(16)(BYTES).numpy())


def test_layers_that_keep_the_scale_do_not_hide_bytes():
    layers = [
        keras.layers.RandomFlip(),
        keras.layers.ZeroPadding2D(4),
        keras.layers.Resizing(16, 16),
    ]
    model = keras.Sequential([keras.Input((16, 16, 3)), *layers, MODEL])
    with pytest.warns(UserWarning, match="expects preprocessed images"):
        km.attention_maps(model, BYTES)

"""Weights of another size: each resize equals an independent implementation or keeps a value."""

import goldens
import numpy as np
import pytest
import scipy.ndimage

import keras_mixers as km
from keras_mixers.weights import resize

VIT = "timm_vit.safetensors"


def random(*shape):
    return np.random.default_rng(0).normal(size=shape).astype("float32")


def logits_of(model, images):
    return np.asarray(model(images, training=False))


@pytest.mark.parametrize("method", resize.POSITION_METHODS)
@pytest.mark.parametrize("grid", [(4, 4), (2, 5)])
def test_positions_are_unchanged_on_same_grid(method, grid):
    table = random(*grid, 3)
    np.testing.assert_allclose(resize.positions(table, grid, method), table, atol=1e-6)


@pytest.mark.parametrize("method", resize.POSITION_METHODS)
def test_positions_keep_constants_and_slopes(method):
    np.testing.assert_allclose(
        resize.positions(np.ones((4, 4, 2), "float32"), (7, 3), method), 1, atol=1e-6
    )
    slope = np.broadcast_to(np.arange(4.0)[:, None, None], (4, 4, 1))
    larger = resize.positions(slope, (9, 4), method)
    np.testing.assert_allclose(larger[4], 1.5, atol=1e-6)
    assert (np.diff(larger[:, 0, 0]) > -1e-6).all()


@pytest.mark.parametrize("grid", [(6, 6), (3, 3), (7, 5)])
def test_bilinear_corners_equals_scipy_zoom(grid):
    table = random(4, 4, 3)
    expected = scipy.ndimage.zoom(table, (grid[0] / 4, grid[1] / 4, 1), order=1)
    np.testing.assert_allclose(
        resize.positions(table, grid, "bilinear_corners"), expected, atol=1e-6
    )


@pytest.mark.parametrize("grid", [(6, 6), (3, 2), (7, 5)])
@pytest.mark.parametrize("method", ["bilinear", "bicubic_antialias"])
def test_other_methods_equal_tensorflow(method, grid):
    import tensorflow as tf

    table = random(4, 4, 3)
    how = {"method": method.split("_")[0], "antialias": "antialias" in method}
    expected = tf.image.resize(table, grid, **how).numpy()
    np.testing.assert_allclose(resize.positions(table, grid, method), expected, atol=1e-5)


# {size: result of torch 2.13's interpolate(x, size, mode="bicubic") for x = arange(5)**2}.
TORCH_BICUBIC = {
    8: [-0.0928345, 0.187561, 1.1765137, 2.6193848, 5.4416504, 8.4714355, 13.3950806, 16.6498413],
    3: [0.148149, 4.0, 14.0740709],
}


@pytest.mark.parametrize("size", TORCH_BICUBIC)
def test_bicubic_equals_torch(size):
    line = (np.arange(5.0) ** 2)[:, None, None]
    found = resize.positions(line, (size, 1), "bicubic")[:, 0, 0]
    np.testing.assert_allclose(found, TORCH_BICUBIC[size], atol=1e-4)


@pytest.mark.parametrize("name", [VIT, "timm_deit3.safetensors", "google_vit_token.npz"])
def test_positions_load_for_another_image_size(name):
    path = goldens.FOLDER / name
    model = goldens.make(name, input_shape=(48, 40, 3))
    with pytest.raises(ValueError, match="with adapt=True: resized from 4 x 4 to 6 x 5"):
        km.load_weights(model, path)
    method = "bilinear_corners" if name.startswith("google") else "bicubic_antialias"
    report = km.load_weights(model, path, adapt=True)
    assert report.adapted == {"positions": f"resized from 4 x 4 to 6 x 5 ({method})"}
    original = goldens.make(name)
    km.load_weights(original, path)
    old, new = (np.asarray(m.get_layer("position_embedding").table)[0] for m in (original, model))
    prefix = len(old) - 16
    np.testing.assert_array_equal(old[:prefix], new[:prefix], err_msg="the class token's position")
    np.testing.assert_allclose(
        new[prefix:].reshape(6, 5, -1),
        resize.positions(old[prefix:].reshape(4, 4, -1), (6, 5), method),
    )
    km.load_weights(model, path, adapt=True, position_method="bilinear")
    other = np.asarray(model.get_layer("position_embedding").table)[0]
    assert np.abs(other - new).max() > 1e-3


def test_load_weights_skips_missing_class_token():
    model = goldens.make(VIT, pool="gap")
    with pytest.raises(ValueError, match="cls_token"):
        km.load_weights(model, goldens.FOLDER / VIT)
    report = km.load_weights(model, goldens.FOLDER / VIT, adapt=True)
    assert report.adapted == {"positions": "positions of prefix tokens dropped"}
    assert report.skipped == {"cls_token": "the model has no class token"}
    np.testing.assert_array_equal(
        np.asarray(model.get_layer("position_embedding").table),
        goldens.arrays(VIT)["pos_embed"][:, 1:],
    )


@pytest.mark.parametrize("patch", [(8, 8), (6, 9), (5, 5)])
def test_larger_patch_kernel_gives_same_tokens(patch):
    import tensorflow as tf

    kernel, patches = random(4, 5, 3, 7), random(2, 4, 5, 3)
    resized = resize.patch_kernel(kernel, patch)
    enlarged = tf.image.resize(patches, patch, method="bilinear").numpy()
    tokens = np.einsum("npqc,pqcd->nd", patches, kernel)
    found = np.einsum("npqc,pqcd->nd", enlarged, resized)
    np.testing.assert_allclose(found, tokens, atol=1e-4)


def test_smaller_patch_kernel_is_least_squares():
    kernel = random(6, 6, 1, 2)
    small = resize.patch_kernel(kernel, (3, 3))
    shrink = np.kron(*[resize.resize_matrix(6, 3, "bilinear")] * 2)
    flat, wanted = small.reshape(9, 2), kernel.reshape(36, 2)
    residual = shrink.T @ flat - wanted
    # Least squares leave a residual that is orthogonal to the columns of `shrink.T`.
    np.testing.assert_allclose(shrink @ residual, 0, atol=1e-5)


def test_patch_kernel_loads_for_other_sizes():
    path = goldens.FOLDER / VIT
    for more, what in (
        ({"patch_size": 16, "input_shape": (64, 64, 3)}, "from 8 x 8 pixels to 16 x 16 by pseudo"),
        ({"input_shape": (32, 32, 1)}, "from 3 channels to 1"),
        ({"input_shape": (32, 32, 4)}, "from 3 channels to 4"),
    ):
        model = goldens.make(VIT, **more)
        with pytest.raises(ValueError, match=f"with adapt=True: {what}"):
            km.load_weights(model, path)
        report = km.load_weights(model, path, adapt=True)
        assert report.adapted["patch_embed.kernel"].startswith(what)
        assert np.isfinite(logits_of(model, random(1, *model.input_shape[1:]))).all()


def test_grey_images_equal_three_equal_channels():
    path = goldens.FOLDER / VIT
    original, grey = goldens.make(VIT), goldens.make(VIT, input_shape=(32, 32, 1))
    km.load_weights(original, path)
    km.load_weights(grey, path, adapt=True)
    images = random(2, 32, 32, 1)
    np.testing.assert_allclose(
        logits_of(grey, images), logits_of(original, np.repeat(images, 3, axis=3)), atol=1e-5
    )


def test_channels_repeat_and_keep_scale():
    kernel = random(2, 2, 3, 5)
    four = resize.channels(kernel, 4)
    np.testing.assert_allclose(four, kernel[:, :, [0, 1, 2, 0]] * 3 / 4, rtol=1e-6)


def test_token_mixing_loads_on_another_grid():
    name = "timm_mixer.safetensors"
    model = goldens.make(name, input_shape=(48, 64, 3))
    with pytest.raises(ValueError, match=r"from 4 x 4 tokens to 6 x 8 \(approximate\)"):
        km.load_weights(model, goldens.FOLDER / name)
    report = km.load_weights(model, goldens.FOLDER / name, adapt=True)
    assert set(report.adapted) == {
        f"blocks.{i}.token_mixing.{part}"
        for i in range(3)
        for part in ("fc1.kernel", "fc2.kernel", "fc2.bias")
    }
    original = goldens.make(name)
    km.load_weights(original, goldens.FOLDER / name)
    # If all tokens are equal, the result does not depend on their number.
    alike = random(1, 1, 64)
    mixers = [m.get_layer("block_0_token_mixing").mixer for m in (original, model)]
    hidden = [
        np.asarray(m.fc1(np.repeat(alike, tokens, 1).transpose(0, 2, 1)))
        for m, tokens in zip(mixers, (16, 48), strict=True)
    ]
    np.testing.assert_allclose(*hidden, atol=1e-4)


SAME_COUNT = {
    "positions": lambda **size: goldens.make(VIT, **size),
    "token mixing": lambda **size: goldens.make("timm_mixer.safetensors", **size),
    "spatial gating": lambda **size: km.Hybrid(
        "GG", patch_size=8, hidden_dim=16, mlp_dim=24, **size
    ),
}


@pytest.mark.parametrize(
    ("kind", "format"),
    [*((kind, "timm") for kind in SAME_COUNT), ("positions", "google"), ("token mixing", "google")],
)
def test_grids_of_equal_token_counts_are_compared(kind, format, tmp_path):
    """The file states 4 x 4 tokens, and the model has 2 x 8."""
    make = SAME_COUNT[kind]
    path = tmp_path / {"timm": "w.safetensors", "google": "w.npz"}[format]
    km.save_weights(make(input_shape=(32, 32, 3)), path, format=format)
    model = make(input_shape=(16, 64, 3))
    before = model.get_weights()
    with pytest.raises(ValueError, match="only with adapt=True: .*from 4 x 4 (tokens )?to 2 x 8"):
        km.load_weights(model, path)
    for one, other in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    report = km.load_weights(model, path, adapt=True)
    assert all("from 4 x 4" in change for change in report.adapted.values())
    km.save_weights(model, path, format=format)
    assert km.load_weights(model, path, adapt=True).adapted == {}
    km.save_weights(make(input_shape=(32, 32, 3)), path, format=format)
    assert km.load_weights(make(input_shape=(32, 32, 3)), path).adapted == {}


def test_spatial_gating_loads_on_another_grid(tmp_path):
    small, large = (
        km.Hybrid("G", input_shape=(side, side, 3), patch_size=8, hidden_dim=16, mlp_dim=24)
        for side in (32, 48)
    )
    spatial = small.get_layer("block_0_spatial_gating").mixer.spatial
    spatial.kernel.assign(random(16, 16))
    spatial.bias.assign(random(16))
    path = km.save_weights(small, tmp_path / "w.safetensors")
    report = km.load_weights(large, path, adapt=True)
    assert set(report.adapted) == {
        f"blocks.0.spatial_gating.spatial.{n}" for n in ("kernel", "bias")
    }
    resized = large.get_layer("block_0_spatial_gating").mixer.spatial
    # For tokens that are all equal, each output is the sum over the inputs.
    sums = [np.asarray(layer.kernel).sum(axis=0) for layer in (spatial, resized)]
    expected = resize.positions(sums[0].reshape(4, 4, 1), (6, 6), "bilinear").ravel()
    np.testing.assert_allclose(sums[1], expected, atol=1e-5)
    bias = resize.positions(np.asarray(spatial.bias).reshape(4, 4, 1), (6, 6), "bilinear")
    np.testing.assert_allclose(np.asarray(resized.bias), bias.ravel(), atol=1e-6)


def test_stated_grid_that_contradicts_the_tables_is_refused(tmp_path):
    from safetensors.numpy import save_file

    path = tmp_path / "w.safetensors"
    save_file(goldens.arrays(VIT), path, metadata={"keras_mixers.grid": "[5, 5]"})
    with pytest.raises(ValueError, match="a grid of 5 x 5 and weights for 16 tokens"):
        km.load_weights(goldens.make(VIT), path, adapt=True)

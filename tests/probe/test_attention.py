"""Attention maps equal the originals; rollout and distance equal a NumPy implementation."""

import goldens
import keras
import numpy as np
import pytest
from cases import case, random_weights

import keras_mixers as km
from keras_mixers import layers
from keras_mixers.graph import layer_calls

WITH_ATTENTION = [name for name in goldens.GOLDENS if "attention_0" in goldens.answers(name)]


@pytest.fixture(scope="module", params=WITH_ATTENTION)
def golden(request):
    model = goldens.make(request.param)
    km.load_weights(model, goldens.FOLDER / request.param)
    answers = goldens.answers(request.param)
    return model, answers, km.attention_maps(model, answers["image"])


def test_goldens_cover_all_prefixes_and_grids():
    assert len(WITH_ATTENTION) == 5


def test_attention_maps_equal_the_originals(golden):
    _, answers, maps = golden
    assert list(maps) == [f"block_{i}_attention" for i in range(len(maps))]
    np.testing.assert_allclose(maps["block_0_attention"], answers["attention_0"], rtol=0, atol=1e-6)
    for weights in maps.values():
        np.testing.assert_allclose(weights.sum(axis=-1), 1, rtol=0, atol=1e-6)


def rollout_oracle(maps, read, num_prefix, grid):
    """Equation 1 of the paper; `read` holds the tokens that the head reads."""
    rollout = []
    for image in zip(*maps.values(), strict=True):
        flow = np.eye(image[0].shape[-1])
        for weights in image:
            attention = 0.5 * weights.mean(axis=0) + 0.5 * np.eye(len(flow))
            attention /= attention.sum(axis=1, keepdims=True)
            flow = attention @ flow
        rollout.append(np.mean([flow[token, num_prefix:] for token in read], axis=0).reshape(grid))
    return np.array(rollout)


# {golden: (tokens that its head reads, number of prefix tokens, grid)}
READS = {
    "timm_vit.safetensors": ([0], 1, (4, 4)),
    "timm_vit_rectangular.safetensors": ([0], 1, (3, 6)),
    "timm_deit_distilled.safetensors": ([0, 1], 2, (4, 4)),
    "timm_deit3.safetensors": ([0], 1, (4, 4)),
    "timm_vit_registers_layerscale_gap.safetensors": (range(4, 20), 4, (4, 4)),
}


def test_rollout_equals_equation_1(golden, request):
    model, answers, maps = golden
    reads = READS[request.node.callspec.params["golden"]]
    found = km.attention_rollout(model, answers["image"])
    np.testing.assert_allclose(found, rollout_oracle(maps, *reads), rtol=0, atol=1e-6)


def test_rollout_sums_to_one_without_prefix_tokens():
    model, images = random_weights(case("vit_gap").make()), case("vit_gap").images(2)
    maps = km.attention_maps(model, images)
    found = km.attention_rollout(model, images)
    np.testing.assert_allclose(found, rollout_oracle(maps, range(6), 0, (2, 3)), atol=1e-6)
    np.testing.assert_allclose(found.sum(axis=(1, 2)), 1, atol=1e-6)


def test_rollout_reads_patches_if_only_registers_precede():
    model = random_weights(case("vit_sequence").make(class_token=False, num_registers=2))
    maps = km.attention_maps(model, case("vit").images(2))
    found = km.attention_rollout(model, case("vit").images(2))
    np.testing.assert_allclose(found, rollout_oracle(maps, range(2, 8), 2, (2, 3)), atol=1e-6)


def test_attention_distance_is_between_patch_centres(golden, request):
    model, answers, maps = golden
    _, num_prefix, (rows, columns) = READS[request.node.callspec.params["golden"]]
    found = km.probe.attention_distance(model, answers["image"])
    centres = [(8 * row, 8 * column) for row in range(rows) for column in range(columns)]
    distances = np.array([[np.hypot(a - c, b - d) for c, d in centres] for a, b in centres])
    for name, weights in maps.items():
        patches = weights[:, :, num_prefix:, num_prefix:]
        patches = patches / patches.sum(axis=-1, keepdims=True)
        expected = (patches * distances).sum(axis=-1).mean(axis=-1)
        np.testing.assert_allclose(found[name], expected, rtol=1e-5)


def test_attention_maps_select_layers_by_name_and_number():
    model, images = random_weights(case("vit").make()), case("vit").images(3)
    all_maps = km.attention_maps(model, images)
    first, last = all_maps
    assert all_maps[last].shape == (3, 2, 7, 7)
    for layers_, names in [
        (-1, [last]),
        (0, [first]),
        (np.int64(1), [last]),
        (last, [last]),
        ([last, 0], [first, last]),
    ]:
        found = km.attention_maps(model, images, layers_, batch_size=2)
        assert list(found) == names
        for name in names:
            np.testing.assert_allclose(found[name], all_maps[name], rtol=0, atol=1e-6)


def test_attention_maps_compute_nothing_beyond_the_layer(monkeypatch):
    model = case("vit").make(depth=4)
    called = []
    original = layers.Residual.call
    monkeypatch.setattr(
        layers.Residual,
        "call",
        lambda self, *args, **kwargs: called.append(self.name) or original(self, *args, **kwargs),
    )
    km.attention_maps(model, case("vit").images(), layers=1)
    assert called == ["block_0_attention", "block_0_channel_mixing"]


def test_probes_leave_the_model_unchanged():
    model, images = random_weights(case("hybrid_MMA").make()), case("hybrid_MMA").images()
    before = [np.array(weight) for weight in model.weights]
    logits, nodes = model.predict(images, verbose=0), node_counts(model)
    km.attention_maps(model, images)
    km.probe.features(model, images)
    km.probe.feature_pca(model, images)
    km.probe.token_mixing_activations(model, images)
    assert node_counts(model) == nodes
    np.testing.assert_array_equal(model.predict(images, verbose=0), logits)
    for weight, old in zip(model.weights, before, strict=True):
        np.testing.assert_array_equal(weight, old, err_msg=weight.path)


def node_counts(model):
    """The number of symbolic calls of each layer; another symbolic call would increase it."""
    return [len(layer._inbound_nodes) for layer in model._flatten_layers()]


def hand_assembled():
    """A functional model with attention outside a Residual, and with a layer called twice."""
    x = images = keras.Input((8, 12, 2))
    x = layers.PatchEmbed(16, 4)(x)
    x = layers.PrefixTokens(num_registers=1, name="prefix")(x)
    x = layers.MultiHeadSelfAttention(2, name="bare")(x)
    shared = layers.Residual(layers.MultiHeadSelfAttention(2), name="shared")
    x = shared(shared(x))
    return keras.Model(images, keras.layers.Dense(5)(x[:, 0]), name="by_hand")


def test_attention_maps_of_a_hand_assembled_model():
    model, images = hand_assembled(), case("vit").images(2)
    maps = km.attention_maps(model, images)
    assert list(maps) == ["bare", "shared", "shared:1"]
    assert all(weights.shape == (2, 2, 8, 8) for weights in maps.values())
    tokens = layer_output(model, "prefix", images)
    _, expected = model.get_layer("bare")(tokens, return_attention_scores=True)
    np.testing.assert_allclose(maps["bare"], expected, atol=1e-6)
    assert np.abs(maps["shared"] - maps["shared:1"]).max() > 1e-4
    reads = rollout_oracle(maps, [0], 2, (2, 3))
    np.testing.assert_allclose(km.attention_rollout(model, images), reads, atol=1e-6)


def layer_output(model, name, images):
    return keras.Model(model.input, model.get_layer(name).output)(images)


def test_attention_maps_of_nested_reloaded_mixed_precision_model(tmp_path):
    inner = random_weights(case("vit").make(dtype="mixed_bfloat16"))
    outer = keras.Sequential(
        [
            keras.Input((None, None, 2)),
            keras.layers.CenterCrop(8, 12),
            keras.Sequential([keras.Input((8, 12, 2)), inner], name="frozen"),
            keras.layers.Dense(3),
        ]
    )
    images = np.pad(case("vit").images(2), ((0, 0), (2, 2), (1, 1), (0, 0)))
    outer(images)
    outer.save(tmp_path / "outer.keras")
    reloaded = keras.models.load_model(tmp_path / "outer.keras")
    expected = km.attention_maps(inner, case("vit").images(2))
    found = km.attention_maps(reloaded, images)
    assert list(found) == [f"frozen/vit/{name}" for name in expected]
    for one, other in zip(found.values(), expected.values(), strict=True):
        assert one.dtype == "float32"
        np.testing.assert_allclose(one, other, atol=1e-6)
        np.testing.assert_allclose(one.sum(axis=-1), 1, atol=1e-6)


def test_probes_disable_augmentation_layers():
    """Keras's augmentation layers change images unless `training` is False."""
    vit = random_weights(case("vit").make())
    noise = [keras.layers.RandomFlip(), keras.layers.GaussianNoise(0.5)]
    model = keras.Sequential([keras.Input((8, 12, 2)), *noise, vit])
    images = case("vit").images(4)
    found, expected = km.attention_maps(model, images, 0), km.attention_maps(vit, images, 0)
    np.testing.assert_array_equal(*found.values(), *expected.values())


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("conv_mixer", {}, "`model` must have a MultiHeadSelfAttention layer.*ConvMixerBlock"),
        ("vit", {"layers": 2}, "`layers` must be names or numbers.*block_1_attention.*: 2"),
        ("vit", {"layers": "block_9_attention"}, "'block_9_attention'. Did you mean 'block_"),
        ("vit", {"layers": []}, r"`layers` must be names or numbers.*Received: \[\]"),
        ("vit", {"layers": True}, "`layers` must be names or numbers.*True"),
        ("vit", {"batch_size": 0}, "`batch_size` must be an integer from 1"),
        ("vit", {"images": np.zeros((2, 12, 8, 2))}, r"shape \(N, 8, 12, 2\).*\(2, 12, 8, 2\)"),
        (
            "vit",
            {"images": np.zeros((8, 12, 2))},
            r"shape \(N, 8, 12, 2\).*\(8, 12, 2\); `image\[None\]` is",
        ),
        ("vit", {"images": np.full((2, 8, 12, 2), np.nan)}, "`images` must be finite"),
        ("vit", {"images": np.zeros((0, 8, 12, 2))}, "at least one image"),
        ("vit", {"images": [1, 2]}, "must be an array of shape.*a list"),
    ],
)
def test_attention_maps_refuse_invalid_arguments(name, arguments, message):
    with pytest.raises(ValueError, match=f"(?s){message}"):
        km.attention_maps(case(name).make(), **{"images": case(name).images(), **arguments})


def test_rollout_refuses_a_hybrid_without_layers():
    model, images = case("hybrid_MMA").make(), case("hybrid_MMA").images()
    with pytest.raises(ValueError, match=r"block_0_token_mixing.*layers=\['block_2_attention'\]"):
        km.attention_rollout(model, images)
    assert km.attention_rollout(model, images, -1).shape == (4, 2, 3)


def test_rollout_refuses_two_inputs():
    two = keras.Input((8, 12, 2)), keras.Input((8, 12, 2))
    joined = layers.PatchEmbed(16, 4)(keras.layers.Add()(two))
    joined = layers.MultiHeadSelfAttention(2)(joined)
    with pytest.raises(ValueError, match="`model` must have one input.*which has 2"):
        km.attention_rollout(keras.Model(two, joined), case("vit").images())


def test_rollout_refuses_two_streams_of_tokens():
    x = keras.Input((8, 12, 2))
    towers = [case("vit").make(name=name)(x) for name in ("one", "two")]
    model = keras.Model(x, keras.layers.Average()(towers))
    with pytest.raises(ValueError, match="one stream of tokens.*one/patch_embed, two/patch_embed"):
        km.attention_rollout(model, case("vit").images())


def test_rollout_names_the_convolution_it_refuses():
    """The message names the convolution after the patches, and not the one before them."""
    images = keras.Input((8, 12, 2))
    x = layers.PatchEmbed(16, 4, flatten=False)(keras.layers.Conv2D(3, 1)(images))
    x = keras.layers.Conv2D(16, 3, padding="same", name="neighbours")(x)
    x = layers.MultiHeadSelfAttention(2)(keras.layers.Reshape((6, 16))(x))
    with pytest.raises(ValueError, match=r"may mix them.* with neighbours \(Conv2D\)\. layers="):
        km.attention_rollout(keras.Model(images, x), case("vit").images())


def test_rollout_refuses_pooled_patches():
    images = keras.Input((8, 12, 2))
    pooled = keras.layers.AveragePooling1D(2)(layers.PatchEmbed(16, 4)(images))
    model = keras.Model(images, layers.MultiHeadSelfAttention(2)(pooled))
    message = r"one token for each of its 2 x 3 patches.*sequences of 3"
    with pytest.raises(ValueError, match=message):
        km.attention_rollout(model, case("vit").images())


def test_rollout_refuses_an_unbuilt_model():
    with pytest.raises(ValueError, match="functional or Sequential model that is built"):
        km.attention_rollout(keras.Sequential([]), case("vit").images())


def test_token_grid_maps_patches_and_queries():
    assert km.probe.token_grid(case("vit_registers").make()).num_prefix == 2
    grid = km.probe.token_grid(case("vit_registers").make(), 9)
    assert (grid.rows, grid.columns, grid.patch_size, grid.num_prefix) == (2, 3, (4, 4), 3)
    assert [grid.token(query) for query in ((0, 1), (1, 0), (1, 2))] == [4, 6, 8]
    np.testing.assert_array_equal(grid.patches(np.arange(9)), [[3, 4, 5], [6, 7, 8]])
    for query in [(2, 0), (0, 3), (-1, 0)]:
        with pytest.raises(ValueError, match=r"grid of 2 x 3 patches.*Received: query=\("):
            grid.token(query)


def test_token_grid_refuses_two_grids():
    images = keras.Input((8, 12, 2))
    embedded = [layers.PatchEmbed(4, size)(images) for size in (2, 4)]
    with pytest.raises(ValueError, match="must have one grid"):
        km.probe.token_grid(keras.Model(images, embedded))


def test_layer_calls_name_every_layer():
    model = case("hybrid_CM").make()
    assert list(layer_calls(model)) == [layer.name for layer in model.layers[1:]]

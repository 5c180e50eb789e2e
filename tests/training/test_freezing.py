"""Recipes that train only a part of a model."""

import keras
import numpy as np
import pytest
from keras import ops

import keras_mixers as km

pytestmark = pytest.mark.backends

STEM = {"patch_embed", "prefix_tokens", "position_embedding", "patch_norm", "embedding_norm"}
SIZE = {"input_shape": (8, 8, 1), "patch_size": 4, "hidden_dim": 8, "depth": 3}


def vit(num_classes=2, **options):
    norms = ("patches", "embeddings")
    options = {"num_heads": 2, "mlp_dim": 8, "extra_norms": norms, **options}
    return km.ViT("Ti/16", num_classes=num_classes, **SIZE, **options)


def nested():
    """A backbone inside another model, with layers of a user before and after it."""
    image = keras.Input((8, 8, 3))
    x = keras.layers.Conv2D(1, 1, name="to_grey")(image)
    x = vit(num_classes=0)(x)
    return keras.Model(image, keras.layers.Dense(2, name="mine")(x))


def trained_parts(model):
    """`{"block_1", "head", ...}`: the first names in the paths of the weights that train."""
    names = [variable.path.split("/") for variable in model.trainable_variables]
    tops = [next(name for name in path if not name.startswith("vi_t")) for path in names]
    return {top[: len("block_0")] if top.startswith("block_") else top for top in tops}


BLOCKS = {"block_0", "block_1", "block_2"}
EXPECTED = {
    0: STEM | BLOCKS | {"norm", "head"},
    1: {"block_1", "block_2", "norm", "head"},
    3: {"norm", "head"},
    "all": {"head"},
}


@pytest.mark.parametrize("frozen", EXPECTED)
def test_compile_freezes_stem_and_first_blocks(frozen):
    model = vit()
    for before in ("all", frozen):  # each recipe sets all layers, whatever was frozen before
        km.Recipe(epochs=1, layer_decay=0.9, frozen_blocks=before).compile(model, 1)
    assert trained_parts(model) == EXPECTED[frozen]
    assert len(model.optimizer._trainable_variables) == len(model.trainable_variables)
    km.Recipe(epochs=1).compile(model, 1)
    assert trained_parts(model) == EXPECTED[frozen]


def test_compile_freezes_blocks_of_nested_model():
    model = nested()
    model.layers[2].trainable = False
    km.Recipe(epochs=1, frozen_blocks=2).compile(model, 1)
    assert trained_parts(model) == {"to_grey", "block_2", "norm", "mine"}
    assert model.layers[2].trainable
    model.get_layer("to_grey").trainable = False
    km.Recipe(epochs=1, frozen_blocks="all").compile(model, 1)
    assert trained_parts(model) == {"mine"}


def test_pooling_belongs_to_the_backbone():
    model = vit(pool="map", extra_norms=())
    km.Recipe(epochs=1, frozen_blocks=3).compile(model, 1)
    assert "pool" in " ".join(trained_parts(model))
    km.Recipe(epochs=1, frozen_blocks="all").compile(model, 1)
    assert trained_parts(model) == {"head"}


def test_frozen_blocks_keep_weights_and_statistics():
    """Also the moving averages of BatchNorm."""
    model = km.ConvMixer("256/8-k5-p2", num_classes=2, **SIZE)
    km.Recipe(epochs=1, learning_rate=0.1, frozen_blocks=2).compile(model, 9)
    before = {variable.path: ops.convert_to_numpy(variable) for variable in model.weights}
    images = np.random.RandomState(0).randn(4, 8, 8, 1)
    model.fit(images, np.arange(4) % 2, batch_size=4, verbose=0)
    for variable in model.weights:
        changed = np.any(ops.convert_to_numpy(variable) != before[variable.path])
        is_after = variable.path.startswith(("block_2", "head"))
        assert changed == is_after, variable.path


def test_freezing_raises_and_changes_nothing():
    model, headless = vit(), vit(num_classes=0)
    with pytest.raises(ValueError, match="`frozen_blocks` must be 'all' or at most 3.*=4"):
        km.Recipe(epochs=1, frozen_blocks=4).compile(model, 1)
    with pytest.raises(ValueError, match="`frozen_blocks` must leave a layer to train"):
        km.Recipe(epochs=1, frozen_blocks="all").compile(headless, 1)
    plain = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
    with pytest.raises(ValueError, match="`model` must contain one PatchEmbed"):
        km.Recipe(epochs=1, frozen_blocks=1).compile(plain, 1)
    for each in (model, headless, plain):
        assert not each.compiled
        assert all(layer.trainable for layer in each.layers)


def paths(variables):
    return [variable.path for variable in variables]


@pytest.mark.parametrize("frozen", [1, "all"])
def test_keras_file_keeps_frozen_layers(frozen, tmp_path):
    """Keras saves `trainable` of a layer, but not of the layers that its constructor makes."""
    model = vit(gated_mlp=True, layer_scale_init=1.0, normalization="rms")
    km.Recipe(epochs=1, frozen_blocks=frozen).compile(model, 1)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    for other in (loaded, keras.models.clone_model(model)):
        assert paths(other.trainable_variables) == paths(model.trainable_variables)
    assert len(loaded.optimizer.variables) == len(model.optimizer.variables)
    km.Recipe(epochs=1, frozen_blocks=0).compile(loaded, 1)
    assert paths(loaded.trainable_variables) == paths(loaded.weights)


def test_keras_file_keeps_weights_frozen_by_lora(tmp_path):
    """Also a weight of attention itself, next to the layers that have matrices."""
    model = vit(score="bilinear", layer_scale_init=1.0)
    km.Recipe(epochs=1, lora_rank=2).compile(model, 1)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras", compile=False)
    assert trained_parts(loaded) == {"head"}

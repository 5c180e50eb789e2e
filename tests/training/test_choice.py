"""Recipe.for_finetuning: the rules at their boundaries, and the facts that they read of models."""

import dataclasses

import keras
import numpy as np
import pytest

import keras_mixers as km
from keras_mixers.training.choice import Facts, choose

SMALL = Facts(1_000_000, 128, 5, has_head=True, has_dense_blocks=True, has_batch_norm=False)
SIZE = {"input_shape": (8, 8, 1), "patch_size": 4, "hidden_dim": 8, "depth": 1}


def recipe_of(num_images, **changed):
    return km.Recipe(**choose(dataclasses.replace(SMALL, **changed), num_images))


@pytest.mark.parametrize(
    ("images", "steps"), [(1, 150), (300, 150), (301, 500), (3_000, 500), (3_001, 3_000)]
)
def test_number_of_images_chooses_the_row(images, steps):
    recipe = recipe_of(images)
    assert (recipe.steps, recipe.warmup_steps) == (steps, steps // 10)
    assert recipe.batch_size == (64 if images > 3_000 else 32)
    assert (recipe.frozen_blocks, recipe.layer_decay) == (0, 0.75)
    assert f"for {images:,} images, about {images / 5:.0f} per class" in recipe.source


def test_head_trains_about_100_steps_first():
    for images, epochs in ((7, 100), (32, 100), (1_000, 4), (3_000, 2), (3_200, 2), (6_401, 1)):
        assert recipe_of(images).head_epochs == epochs
    assert recipe_of(3_200, has_head=False).head_epochs == 0


def test_size_chooses_lora_rate_and_steps_per_update():
    large = {"weights": 50_000_001}
    widths = (128, 192, 384, 768, 1024)
    ranks = [recipe_of(9, width=width, **large).lora_rank for width in widths]
    assert ranks == [4, 4, 8, 16, 16]
    rates = [recipe_of(9_999, width=width).learning_rate for width in (64, *widths)]
    np.testing.assert_allclose(rates, [3e-3, 3e-3, 2e-3, 1e-3, 5e-4, 3.75e-4])
    assert recipe_of(9, width=256, **large).learning_rate == 5e-3
    for weights, parts in ((50_000_000, 1), (50_000_001, 4), (200_000_000, 4), (200_000_001, 8)):
        recipe = recipe_of(9_999, weights=weights)
        assert recipe.gradient_accumulation_steps == parts
        assert recipe.batch_size * parts == 64
        assert recipe_of(9_999, weights=weights, has_batch_norm=True).batch_size == 64
        assert bool(recipe.lora_rank) == (parts > 1)
    assert "all weights would take 3.2 GB without" in recipe.source


def test_batch_norm_and_few_images_train_the_head():
    conv = {"has_dense_blocks": False, "has_batch_norm": True, "weights": 60_000_000}
    assert recipe_of(300, **conv).frozen_blocks == "all"
    assert recipe_of(300, **conv).learning_rate == 0.1
    assert recipe_of(301, **conv).frozen_blocks == 0
    assert recipe_of(300, has_head=False, **conv).frozen_blocks == 0
    assert recipe_of(100, outputs=1).loss == "sigmoid"


def test_model_for_several_labels_gets_the_sigmoid():
    model = MODELS["vit"][0]()
    assert km.Recipe.for_finetuning(model=model, num_images=100).loss == "softmax"
    model.multi_label = True
    recipe = km.Recipe.for_finetuning(model=model, num_images=100)
    assert (recipe.loss, recipe.multi_label) == ("sigmoid", True)


def handmade():
    """A model of a user: a nested backbone and a head of two layers."""
    backbone = km.MLPMixer("S/16", tokens_mlp_dim=4, channels_mlp_dim=8, num_classes=0, **SIZE)
    image = keras.Input((8, 8, 1))
    x = keras.layers.Dense(6, "relu")(backbone(image))
    return keras.Model(image, keras.layers.Dense(1)(x))


VIT = {"num_heads": 2, "mlp_dim": 8, **SIZE}
MODELS = {
    "vit": (lambda: km.ViT("Ti/16", num_classes=3, **VIT), (8, 3, True, True, False)),
    "features": (lambda: km.ViT("Ti/16", num_classes=0, **VIT), (8, 8, False, True, False)),
    "conv": (
        lambda: km.ConvMixer("256/8-k5-p2", num_classes=3, **SIZE),
        (8, 3, True, False, True),
    ),
    "handmade": (handmade, (8, 1, True, True, False)),
}


@pytest.mark.backends
@pytest.mark.parametrize("name", MODELS)
def test_facts_of_models(name):
    build, expected = MODELS[name]
    model = build()
    assert Facts.of(model) == Facts(model.count_params(), *expected)
    before = [variable.trainable for variable in model.variables]
    recipe = km.Recipe.for_finetuning(model=model, num_images=50)
    assert [variable.trainable for variable in model.variables] == before, "it only reads"
    for stage in recipe.stages(2):
        stage.compile(model, 2)
    trained = sum(np.prod(variable.shape) for variable in model.trainable_variables)
    head = 8 * 3 + 3  # of the model with BatchNorm
    assert trained == (head if name == "conv" else model.count_params())


def test_for_finetuning_raises_on_invalid_argument():
    model = MODELS["vit"][0]()
    with pytest.raises(ValueError, match="`num_images` must be an integer from 1.*num_images=0"):
        km.Recipe.for_finetuning(model=model, num_images=0)
    plain = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
    with pytest.raises(ValueError, match="`model` must contain one PatchEmbed"):
        km.Recipe.for_finetuning(model=plain, num_images=10)
    with pytest.raises(TypeError, match="`model` must be a keras.Model"):
        km.Recipe.for_finetuning(model=None, num_images=10)

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
    ("images", "steps", "rank"),
    [(1, 150, 4), (300, 150, 4), (301, 500, 4), (3_000, 500, 4), (3_001, 3_000, None)],
)
def test_number_of_images_chooses_the_row(images, steps, rank):
    recipe = recipe_of(images)
    assert (recipe.steps, recipe.warmup_steps, recipe.lora_rank) == (steps, steps // 10, rank)
    assert recipe.layer_decay == (1.0 if rank else 0.75)
    assert f"for {images:,} images" in recipe.source


def test_few_images_per_class_choose_lora():
    assert recipe_of(9_999, outputs=1_000).lora_rank == 4
    full = recipe_of(10_000, outputs=1_000)
    assert (full.lora_rank, full.frozen_blocks) == (None, 0)
    # The head trains for about 100 steps first.
    assert full.head_epochs == 1 == -(-100 // (10_000 // 64))
    assert recipe_of(3_200).head_epochs == 2
    assert recipe_of(3_200, has_head=False).head_epochs == 0


def test_size_chooses_rank_rate_and_steps_per_update():
    widths = (128, 192, 384, 768, 1024)
    assert [recipe_of(9, width=width).lora_rank for width in widths] == [4, 4, 8, 16, 16]
    rates = [recipe_of(9_999, width=width).learning_rate for width in (64, *widths)]
    np.testing.assert_allclose(rates, [3e-3, 3e-3, 2e-3, 1e-3, 5e-4, 3.75e-4])
    assert recipe_of(9).learning_rate == 1e-2
    for weights, parts in ((50_000_000, 1), (50_000_001, 4), (200_000_000, 4), (200_000_001, 8)):
        recipe = recipe_of(9_999, weights=weights)
        assert recipe.gradient_accumulation_steps == parts
        assert recipe.batch_size * parts == 64
        assert recipe_of(9_999, weights=weights, has_batch_norm=True).batch_size == 64
        assert bool(recipe.lora_rank) == (parts == 8)
    assert "moments of all would take 3 GB" in recipe.source


def test_blocks_without_dense_layers_train_the_head_or_all():
    conv = {"has_dense_blocks": False, "has_batch_norm": True}
    assert recipe_of(100, **conv).frozen_blocks == "all"
    assert "no block has a Dense layer" in recipe_of(100, **conv).source
    assert recipe_of(100, has_head=False, **conv).frozen_blocks == 0
    assert recipe_of(100, outputs=1).loss == "sigmoid"


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
    assert 0 < trained < model.count_params()


def test_for_finetuning_raises_on_invalid_argument():
    model = MODELS["vit"][0]()
    with pytest.raises(ValueError, match="`num_images` must be an integer from 1.*num_images=0"):
        km.Recipe.for_finetuning(model=model, num_images=0)
    plain = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
    with pytest.raises(ValueError, match="`model` must contain one PatchEmbed"):
        km.Recipe.for_finetuning(model=plain, num_images=10)
    with pytest.raises(TypeError, match="`model` must be a keras.Model"):
        km.Recipe.for_finetuning(model=None, num_images=10)

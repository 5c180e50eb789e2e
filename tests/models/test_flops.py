"""count_flops agrees with published figures, and with counts by hand."""

import keras
import pytest
from cases import LAYERS

import keras_mixers as km
from keras_mixers import layers
from keras_mixers.layers.base import Layer
from keras_mixers.models.flops import cost

pytestmark = pytest.mark.one_backend("names, shapes and counts are the same on every backend")

# In billions, for 224 x 224 images. ViT-S and the sizes that DeiT has are from arXiv 2012.12877,
# table 5, and 2106.10270, table 2. MLP-Mixer is from timm's results, which agree for ViT.
PUBLISHED = {
    ("ViT", "Ti/16"): 1.3,
    ("ViT", "S/16"): 4.6,
    ("ViT", "B/16"): 17.6,
    ("MLPMixer", "S/16"): 3.8,
    ("MLPMixer", "B/16"): 12.6,
}


@pytest.mark.parametrize("family, variant", PUBLISHED)
def test_flops_match_published_figures(family, variant, abstract_weights):
    model = getattr(km, family)(variant)
    assert round(km.count_flops(model) / 1e9, 1) == PUBLISHED[family, variant]


def test_flops_of_every_letter():
    # 6 tokens of width 8, from patches of 4 x 4 pixels and 2 channels.
    sizes = {"patch_size": 4, "hidden_dim": 8, "num_heads": 2, "mlp_dim": 10}
    model = km.Hybrid(
        "CMAPG",
        input_shape=(8, 12, 2),
        num_classes=5,
        tokens_mlp_dim=3,
        kernel_size=3,
        **sizes,
    )
    # Tokens times the size of each matrix.
    embed = 6 * 32 * 8
    conv = 6 * 8 * (9 + 8)
    tokens, channels = 2 * 6 * 3 * 8, 2 * 6 * 8 * 10
    attention = 4 * 6 * 8 * 8 + 2 * 6 * 6 * 8
    gating = 6 * 8 * 10 + 6 * 6 * 5 + 6 * 5 * 8
    head = 8 * 5
    expected = embed + conv + tokens + attention + 3 * channels + gating + head
    assert km.count_flops(model) == expected


def test_flops_of_hand_assembled_model():
    inner = keras.Sequential([keras.Input((6, 8)), layers.Residual(layers.ChannelMixing(10))])
    images = keras.Input((8, 12, 2))
    x = keras.layers.Conv2D(8, 4, strides=4)(images)
    x = keras.layers.DepthwiseConv2D(3, padding="same")(x)
    x = inner(keras.layers.Reshape((6, 8))(x))
    x = layers.MultiHeadSelfAttention(2, score="bilinear")(x)
    x = layers.ChannelMixing(10, gated=True)(x)
    x = layers.AttentionPooling(2, 10)(x)
    model = keras.Model(images, keras.layers.Dense(5)(x))
    expected = 6 * 32 * 8 + 6 * 9 * 8 + 2 * 6 * 8 * 10
    expected += 4 * 6 * 8 * 8 + 6 * 2 * 16 + 2 * 6 * 6 * 8 + 3 * 6 * 8 * 10
    expected += 2 * 6 * 8 * 8 + 2 * 8 * 8 + 2 * 6 * 8 + 2 * 8 * 10 + 8 * 5
    assert km.count_flops(model) == expected


def test_flops_refuse_uncountable_models():
    tokens = keras.Input((6, 8))
    unknown = keras.Model(
        tokens, keras.layers.EinsumDense("abc,cd->abd", (6, 8), name="it")(tokens)
    )
    with pytest.raises(ValueError, match="no rule for layer 'it' .EinsumDense.*multiply_adds"):
        km.count_flops(unknown)
    any_tokens = keras.Input((None, 8))
    unsized = keras.Model(any_tokens, layers.MultiHeadSelfAttention(2, name="it")(any_tokens))
    with pytest.raises(ValueError, match="`model` must have known sizes.*'it'"):
        km.count_flops(unsized)
    with pytest.raises(ValueError, match="functional"):
        km.count_flops(keras.Sequential([keras.layers.Dense(2)]))


@pytest.mark.parametrize("case", LAYERS, ids=lambda case: case.id)
def test_flops_have_rule_for_every_matrix(case):
    layer = case.make()
    layer.build((None, *case.shape[1:]))
    adds_its_weights = isinstance(layer, (layers.PositionEmbedding, layers.PrefixTokens))
    has_matrices = any(len(weight.shape) >= 2 for weight in layer.weights)
    # A layer without weights can still multiply, and then it has a rule.
    has_rule = type(layer).multiply_adds is not Layer.multiply_adds
    if adds_its_weights or not (has_matrices or has_rule):
        assert cost(layer, (None, *case.shape[1:])) == 0
    else:
        assert cost(layer, (None, *case.shape[1:])) > 0

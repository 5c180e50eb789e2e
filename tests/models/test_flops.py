"""Multiply-adds: published figures, and by hand where there are none."""

import keras
import pytest
from cases import LAYERS

import keras_mixers as km
from keras_mixers import layers
from keras_mixers.models.flops import cost

# In thousands of millions, of 224 x 224 images, as the papers print them: ViT-S and DeiT's in arXiv
# 2012.12877 table 5 and 2106.10270 table 2, MLP-Mixer's and ViT's again by timm's results.
PUBLISHED = {
    ("ViT", "Ti/16"): 1.3,
    ("ViT", "S/16"): 4.6,
    ("ViT", "B/16"): 17.6,
    ("MLPMixer", "S/16"): 3.8,
    ("MLPMixer", "B/16"): 12.6,
}


@pytest.mark.parametrize("family, variant", PUBLISHED)
def test_published_figures(family, variant, abstract_weights):
    model = getattr(km, family)(variant)
    assert round(km.count_flops(model) / 1e9, 1) == PUBLISHED[family, variant]


def test_every_letter_by_hand():
    # 6 tokens of width 8, of 4 x 4 patches with 2 channels; 2 heads; 3 hidden units of tokens.
    sizes = {"patch_size": 4, "hidden_dim": 8, "num_heads": 2, "mlp_dim": 10}
    model = km.Hybrid(
        "CMAPG",
        input_shape=(8, 12, 2),
        num_classes=5,
        tokens_mlp_dim=3,
        kernel_size=3,
        **sizes,
    )
    embed = 6 * 32 * 8
    conv = 6 * 8 * (9 + 8)
    tokens, channels = 2 * 6 * 3 * 8, 2 * 6 * 8 * 10
    attention = 4 * 6 * 8 * 8 + 2 * 6 * 6 * 8
    gating = 6 * 8 * 10 + 6 * 6 * 5 + 6 * 5 * 8
    head = 8 * 5
    expected = embed + conv + tokens + attention + 3 * channels + gating + head
    assert km.count_flops(model) == expected


def test_layers_of_a_model_of_ones_own():
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


def test_what_cannot_be_counted_is_refused():
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
def test_every_layer_with_matrices_has_a_rule(case):
    layer = case.make()
    layer.build((None, *case.shape[1:]))
    added_to_the_stream = (layers.PositionEmbedding, layers.PrefixTokens)
    has_none = all(len(weight.shape) < 2 for weight in layer.weights)
    if has_none or isinstance(layer, added_to_the_stream):
        assert cost(layer, (None, *case.shape[1:])) == 0
    else:
        assert cost(layer, (None, *case.shape[1:])) > 0

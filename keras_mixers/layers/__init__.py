"""The layers. Each can be used without the models, on any backend of Keras."""

from keras_mixers.layers.activations import gelu_tanh, quick_gelu
from keras_mixers.layers.attention import MultiHeadSelfAttention
from keras_mixers.layers.attention_pooling import AttentionPooling
from keras_mixers.layers.channel_mixing import ChannelMixing
from keras_mixers.layers.conv_mixer import ConvMixerBlock
from keras_mixers.layers.fourier_mixing import FourierMixing
from keras_mixers.layers.norms import RMSNormalization
from keras_mixers.layers.patch_embed import PatchEmbed
from keras_mixers.layers.pool_mixing import PoolMixing
from keras_mixers.layers.position_embedding import PositionEmbedding
from keras_mixers.layers.prefix_tokens import PrefixTokens
from keras_mixers.layers.residual import LayerScale, Residual, StochasticDepth
from keras_mixers.layers.rotary import Rotary
from keras_mixers.layers.select_token import SelectToken
from keras_mixers.layers.spatial_gating import SpatialGating
from keras_mixers.layers.token_mixing import TokenMixing

__all__ = [
    "AttentionPooling",
    "ChannelMixing",
    "ConvMixerBlock",
    "FourierMixing",
    "LayerScale",
    "MultiHeadSelfAttention",
    "PatchEmbed",
    "PoolMixing",
    "PositionEmbedding",
    "PrefixTokens",
    "RMSNormalization",
    "Residual",
    "Rotary",
    "SelectToken",
    "SpatialGating",
    "StochasticDepth",
    "TokenMixing",
    "gelu_tanh",
    "quick_gelu",
]

"""The same model as each contestant of benchmark.py builds it."""


def keras_mixers_model(spec):
    import keras_mixers as km

    return getattr(km, spec["family"])(spec["variant"], **spec["arguments"])


def checkpointed_model(spec):
    """The model of keras_mixers with gradient checkpointing."""
    arguments = {**spec["arguments"], "gradient_checkpointing": True}
    return keras_mixers_model({**spec, "arguments": arguments})


def layer_model(spec):
    """Two equal layers on tokens, to measure how their time grows with the tokens."""
    import keras

    import keras_mixers as km

    tokens, width = spec["input_shape"]
    side = round(tokens**0.5)
    make = {
        "attention": lambda: km.layers.MultiHeadSelfAttention(width // 64),
        "token MLP": lambda: km.layers.TokenMixing(tokens // 2),
        "channel MLP": lambda: km.layers.ChannelMixing(4 * width),
        "ConvMixer block": lambda: km.layers.ConvMixerBlock(5),
    }[spec["layer"]]
    images = x = keras.Input((tokens, width))
    if spec["layer"] == "ConvMixer block":
        x = keras.layers.Reshape((side, side, width))(x)
    x = make()(make()(x))
    x = keras.layers.Reshape((tokens, width))(x)
    x = keras.layers.GlobalAveragePooling1D()(x)
    return keras.Model(images, keras.layers.Dense(spec["num_classes"])(x))


def keras_hub_model(spec):
    """The ViT of keras-hub."""
    import keras
    import keras_hub

    backbone = keras_hub.models.ViTBackbone(
        image_shape=spec["input_shape"],
        patch_size=spec["patch_size"],
        num_layers=spec["depth"],
        num_heads=spec["num_heads"],
        hidden_dim=spec["hidden_dim"],
        mlp_dim=spec["mlp_dim"],
    )
    logits = keras.layers.Dense(spec["num_classes"], dtype="float32")(backbone.output[:, 0])
    return keras.Model(backbone.input, logits)


def plain_keras_model(spec):
    """The same architecture in layers of Keras, as a Keras tutorial writes it."""
    import keras
    from keras import layers

    images = x = keras.Input(spec["input_shape"])
    patch, width = spec["patch_size"], spec["hidden_dim"]
    x = layers.Conv2D(width, patch, strides=patch)(x)
    if spec["family"] == "ConvMixer":
        x = layers.BatchNormalization()(layers.Activation("gelu")(x))
        for _ in range(spec["depth"]):
            y = layers.DepthwiseConv2D(spec["kernel_size"], padding="same", activation="gelu")(x)
            x = layers.add([x, layers.BatchNormalization()(y)])
            x = layers.Conv2D(width, 1, activation="gelu")(x)
            x = layers.BatchNormalization()(x)
        x = layers.GlobalAveragePooling2D()(x)
        return keras.Model(images, layers.Dense(spec["num_classes"], dtype="float32")(x))

    tokens = x.shape[1] * x.shape[2]
    x = layers.Reshape((tokens, width))(x)
    if spec["family"] == "ViT":
        x = class_token_and_positions()(x)
    for _ in range(spec["depth"]):
        y = layers.LayerNormalization(epsilon=1e-6)(x)
        if spec["family"] == "ViT":
            heads = spec["num_heads"]
            y = layers.MultiHeadAttention(heads, width // heads)(y, y)
        else:
            y = layers.Dense(spec["tokens_mlp_dim"], activation="gelu")(layers.Permute((2, 1))(y))
            y = layers.Permute((2, 1))(layers.Dense(tokens)(y))
        x = layers.add([x, y])
        y = layers.LayerNormalization(epsilon=1e-6)(x)
        y = layers.Dense(spec["mlp_dim"], activation="gelu")(y)
        x = layers.add([x, layers.Dense(width)(y)])
    x = layers.LayerNormalization(epsilon=1e-6)(x)
    x = x[:, 0] if spec["family"] == "ViT" else layers.GlobalAveragePooling1D()(x)
    return keras.Model(images, layers.Dense(spec["num_classes"], dtype="float32")(x))


def class_token_and_positions():
    """The only layer of a ViT that Keras does not have."""
    import keras

    class ClassTokenAndPositions(keras.layers.Layer):
        def build(self, x_shape):
            _, tokens, width = x_shape
            self.token = self.add_weight(shape=(1, 1, width), initializer="zeros")
            self.table = self.add_weight(shape=(1, tokens + 1, width))

        def call(self, x):
            token = keras.ops.repeat(self.token, keras.ops.shape(x)[0], axis=0)
            return keras.ops.concatenate([token, x], axis=1) + self.table

    return ClassTokenAndPositions()


def timm_model(spec):
    """The model of timm with the same sizes."""
    from timm.models import convmixer, mlp_mixer, vision_transformer

    height, width, channels = spec["input_shape"]
    same = {"num_classes": spec["num_classes"], "in_chans": channels}
    if spec["family"] == "ConvMixer":
        return convmixer.ConvMixer(
            dim=spec["hidden_dim"],
            depth=spec["depth"],
            kernel_size=spec["kernel_size"],
            patch_size=spec["patch_size"],
            **same,
        )
    same |= {
        "img_size": (height, width),
        "patch_size": spec["patch_size"],
        "embed_dim": spec["hidden_dim"],
    }
    mlp_ratio = spec["mlp_dim"] / spec["hidden_dim"]
    if spec["family"] == "MLPMixer":
        ratios = (spec["tokens_mlp_dim"] / spec["hidden_dim"], mlp_ratio)
        return mlp_mixer.MlpMixer(num_blocks=spec["depth"], mlp_ratio=ratios, **same)
    return vision_transformer.VisionTransformer(
        depth=spec["depth"], num_heads=spec["num_heads"], mlp_ratio=mlp_ratio, **same
    )


BUILDERS = {
    "keras_mixers": keras_mixers_model,
    "checkpointed": checkpointed_model,
    "plain Keras": plain_keras_model,
    "keras-hub": keras_hub_model,
    "timm": timm_model,
    "layer": layer_model,
}

"""A check for several processes of two devices: weights are loaded into their parts."""

import tempfile

import keras
import numpy as np

import keras_mixers as km


def small():
    sizes = {"hidden_dim": 8, "depth": 1, "num_heads": 4, "mlp_dim": 16, "num_classes": 4}
    return km.ViT("Ti/16", input_shape=(8, 8, 3), patch_size=4, **sizes)


def check_load():
    """Each process fills its parts of the weights of a model from a file."""
    keras.utils.set_random_seed(0)  # all processes have the same file
    whole = small()
    mesh = keras.distribution.DeviceMesh((2, 2), ("batch", "model"))
    layouts = km.training.layout_map(mesh, small, model_axis="model", fsdp_axis="batch")
    with tempfile.TemporaryDirectory() as folder:
        km.save_weights(whole, f"{folder}/vit.safetensors", format="timm")
        keras.distribution.set_distribution(
            keras.distribution.ModelParallel(
                layout_map=layouts, batch_dim_name="batch", auto_shard_dataset=False
            )
        )
        split = small()
        km.load_weights(split, f"{folder}/vit.safetensors")
    keras.distribution.set_distribution(None)
    parts = 0
    for variable, other in zip(whole.weights, split.weights, strict=True):
        parts += not other.value.sharding.is_fully_replicated
        for part in other.value.addressable_shards:
            np.testing.assert_array_equal(part.data, np.asarray(variable.value)[part.index])
    assert parts > 5, parts

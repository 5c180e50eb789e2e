"""Fine-tuning by LoRA matrices, which Keras's Dense layers add to their kernels."""

import keras
import numpy as np

from keras_mixers.graph import all_layers, lora_layers, lora_matrices
from keras_mixers.training.freezing import layer_places, set_trainable
from keras_mixers.weights.roles import index_weights


def add_lora(model, rank):
    """Add LoRA matrices to the Dense layers of the blocks, and train only them and the head.

    A layer that has matrices of this rank keeps them, unless both are zero, as Keras loads them.
    Zeros would never change, because the gradient of each matrix is a product with the other one.

    Raises:
        ValueError: if there are matrices of another rank, a Dense layer cannot have any, or the
            blocks have no Dense layer.
    """
    index = index_weights(model)
    depth = len(index.mixers)
    places = layer_places(model, index, depth)
    blocks = [layer for layer, place in places if 0 <= place < depth]
    dense = [
        part
        for block in blocks
        for part in all_layers(block)
        if isinstance(part, keras.layers.Dense)
    ]
    check(model, dense, rank)

    for layer in dense:
        if not layer.lora_enabled:
            layer.enable_lora(rank)
        elif not any(map(has_values, lora_matrices(layer))):
            start = keras.initializers.HeUniform()  # Keras's own choice in `enable_lora`
            layer.lora_kernel_a.assign(start(layer.lora_kernel_a.shape))
    set_trainable(model, places, first=depth + 1)
    for block in blocks:
        unfreeze_lora(block)


def has_values(variable):
    """Whether a variable has a value that is not zero."""
    return bool(np.any(keras.ops.convert_to_numpy(variable)))


def check(model, dense, rank):
    """Raise an error unless the Dense layers of the blocks can have matrices of this rank."""
    if not dense:
        raise ValueError(
            "`lora_rank` must be None for a model without Dense layers in its blocks. Received:"
            f" lora_rank={rank} for model {model.name!r}; frozen_blocks='all' trains the head"
        )
    for layer in dense:
        if layer.quantization_mode or layer.kernel_constraint:
            raise ValueError(
                "`lora_rank` must be None for a model that is quantized or has kernel constraints."
                f" Received: lora_rank={rank} for layer {layer.path!r}"
            )
        if layer.lora_enabled and layer.lora_rank != rank:
            raise ValueError(
                f"`lora_rank` must be {layer.lora_rank}, the rank of the LoRA matrices that the"
                f" model has. Received: lora_rank={rank}. For another rank, add the matrices to"
                " their kernels: save the model and load it again"
            )


def unfreeze_lora(block):
    """Let the LoRA matrices of a frozen block train, and nothing else in it."""
    matrices = {id(matrix) for part in lora_layers(block) for matrix in lora_matrices(part)}
    for part in (block, *all_layers(block)):  # a layer before the layers inside it
        part.trainable = any(id(variable) in matrices for variable in part.weights)
    for variable in block.weights:
        variable.trainable = id(variable) in matrices

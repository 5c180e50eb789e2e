"""The recipe for fine-tuning a model on a number of images, chosen by a few fixed rules."""

import dataclasses
import math

import keras

from keras_mixers.graph import all_layers, graph_layers
from keras_mixers.models.image_model import ImageModel
from keras_mixers.training.freezing import has_trainable, layer_places
from keras_mixers.weights.roles import index_weights

MEDIUM, LARGE = 50_000_000, 200_000_000  # weights
BYTES = 16  # for each weight that AdamW trains: itself, its gradient and two moments, in float32
HEAD_STEPS = 100
WIDTH = 128  # of the model on which the rates were measured


@dataclasses.dataclass(frozen=True)
class Row:
    """How to train on at most this number of images."""

    most: float
    steps: int
    batch_size: int


ROWS = (
    Row(300, steps=150, batch_size=32),
    Row(3_000, steps=500, batch_size=32),
    Row(math.inf, steps=3_000, batch_size=64),
)


@dataclasses.dataclass(frozen=True)
class Facts:
    """What the rules ask about a model."""

    weights: int
    width: int
    outputs: int
    has_head: bool
    has_dense_blocks: bool
    has_batch_norm: bool
    multi_label: bool = False

    @property
    def gigabytes(self):
        """Memory for training all weights, without activations."""
        return BYTES * self.weights / 1e9

    @classmethod
    def of(cls, model):
        """Read the facts from the layers of a functional model with one `PatchEmbed`."""
        index = index_weights(model)
        depth = len(index.mixers)
        places = layer_places(model, index, depth)
        in_backbone = {id(layer) for layer, place in places if place <= depth}
        blocks = [layer for layer, place in places if 0 <= place < depth]
        parts = [part for block in blocks for part in (block, *all_layers(block))]
        norm = keras.layers.BatchNormalization
        return cls(
            weights=model.count_params(),
            width=index.patch_embed.output.shape[-1],
            outputs=model.output_shape[-1],
            has_head=any(
                id(layer) not in in_backbone and has_trainable(layer)
                for layer in graph_layers(model)
            ),
            has_dense_blocks=any(isinstance(part, keras.layers.Dense) for part in parts),
            has_batch_norm=any(isinstance(part, norm) for part in parts),
            multi_label=isinstance(model, ImageModel) and bool(model.multi_label),
        )


def choose(facts, num_images):
    """The arguments of the `Recipe` for a model with these facts; see `Recipe.for_finetuning`."""
    row = next(row for row in ROWS if num_images <= row.most)
    per_class = num_images / max(facts.outputs, 2)
    # Equal images per update in smaller steps, but not for BatchNorm, which sees one step.
    parts = 8 if facts.weights > LARGE else 4 if facts.weights > MEDIUM else 1
    parts = 1 if facts.has_batch_norm else parts
    way, reason = choose_way(facts, row)
    way["learning_rate"] *= min(1.0, WIDTH / facts.width)
    if way.get("frozen_blocks") == 0 and facts.has_head:
        steps_per_epoch = math.ceil(num_images / (row.batch_size // parts))
        way["head_epochs"] = math.ceil(HEAD_STEPS / steps_per_epoch)
    return {
        "steps": row.steps,
        "warmup_steps": row.steps // 10,
        "batch_size": row.batch_size // parts,
        "gradient_accumulation_steps": parts,
        "clip_norm": 1.0,
        "loss": "sigmoid" if facts.outputs == 1 or facts.multi_label else "softmax",
        "multi_label": facts.multi_label,
        "source": f"this package, for {num_images:,} images, about {per_class:.0f} per class, and"
        f" {facts.weights / 1e6:.1f} million weights: {reason}",
        **way,
    }


def choose_way(facts, row):
    """(the arguments that say what trains, the reason)."""
    if facts.weights > MEDIUM and facts.has_dense_blocks:
        rank = min(max(4, facts.width // 48), 16)
        way = {"lora_rank": rank, "learning_rate": 1e-2, "weight_decay": 0.0}
        return way, (
            f"LoRA of rank {rank}, because to train all weights would take"
            f" {facts.gigabytes:.1f} GB without activations"
        )
    if facts.has_batch_norm and facts.has_head and row is ROWS[0]:
        way = {"frozen_blocks": "all", "learning_rate": 0.1, "weight_decay": 0.0}
        return way, "only the head, because BatchNorm would take its statistics from few images"
    way = {
        "frozen_blocks": 0,
        "layer_decay": 0.75,
        "learning_rate": 3e-3,
        "weight_decay": 0.05,
    }
    return way, "all weights, the early blocks slower"

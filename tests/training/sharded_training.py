"""Train one hybrid of all mixers under several layouts of its weights, and print the losses.

    python sharded_training.py [number of this process, address of process 0]

This is a program for separate processes, because JAX accepts virtual devices only before its first
operation. One process has 8 devices. Two processes have 4 devices each.
"""

import os
import sys

PROCESS, COORDINATOR = (int(sys.argv[1]), sys.argv[2]) if len(sys.argv) > 2 else (0, None)
os.environ["KERAS_BACKEND"] = "jax"
os.environ["XLA_FLAGS"] = (
    f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count="
    f"{4 if COORDINATOR else 8}"
)

import json
import math
import re
import tempfile

import jax
import keras
import numpy as np

import keras_mixers as km

BATCH = 16
STEPS = 4
AXES = ("batch", "model")
WAYS = {
    "fsdp": ((8,), AXES[:1], {"fsdp_axis": "batch"}),
    "model": ((2, 4), AXES, {"model_axis": "model"}),
    "both": ((2, 4), AXES, {"model_axis": "model", "fsdp_axis": "batch"}),
}


def build():
    sizes = {"hidden_dim": 16, "mlp_dim": 32, "tokens_mlp_dim": 8, "num_heads": 4, "kernel_size": 3}
    return km.Hybrid(
        "CMAG",
        input_shape=(16, 16, 3),
        patch_size=4,
        num_classes=5,
        dropout_rate=0.1,
        stochastic_depth_rate=0.1,
        **sizes,
    )


def distribution(way, build=build):
    if way == "one":
        return None
    shape, names, axes = WAYS[way]
    mesh = keras.distribution.DeviceMesh(shape, names)
    layouts = km.training.layout_map(mesh, build, **axes)
    return keras.distribution.ModelParallel(
        layout_map=layouts, batch_dim_name="batch", auto_shard_dataset=False
    )


def compiled_model():
    """The model, compiled with all that an optimizer of this package can do."""
    model = build()
    optimizer = km.training.LayerwiseAdamW(
        km.training.WarmUp(1e-2, steps=STEPS, warmup_steps=1),
        weight_decay=0.1,
        layer_decay=0.7,
        clip_norm=0.5,
        use_ema=True,
        ema_momentum=0.5,
        gradient_accumulation_steps=2,
    )
    model.compile(optimizer, km.training.Crossentropy(), metrics=[km.training.Accuracy()])
    model.optimizer.build(model.trainable_variables)
    return model


def data():
    """Images and labels of all steps."""
    random = np.random.default_rng(0)
    images = random.normal(size=(STEPS * BATCH, 16, 16, 3)).astype("float32")
    labels = np.eye(5, dtype="float32")[random.integers(0, 5, STEPS * BATCH)]
    return images, labels


class Losses(keras.callbacks.Callback):
    """The running mean of the loss after each step."""

    def on_train_begin(self, logs=None):
        self.values = []

    def on_train_batch_end(self, batch, logs=None):
        self.values.append(float(logs["loss"]))


def train(way):
    """The losses of a training, then the model."""
    keras.utils.set_random_seed(1)
    keras.distribution.set_distribution(distribution(way))
    model = compiled_model()
    x, y = data()
    losses = Losses()
    model.fit(x, y, batch_size=BATCH, shuffle=False, verbose=0, callbacks=[losses])
    return losses.values, model


def check_slots(model):
    """Slots, averages and accumulated gradients have the layouts of their weights."""
    split = 0
    for variable in model.trainable_variables:
        name = variable.path.replace("/", "_")
        slots = [slot for slot in model.optimizer.variables if slot.name.startswith(f"{name}_")]
        assert len(slots) == 4, (name, [slot.name for slot in slots])
        for slot in slots:
            assert slot.value.sharding.is_equivalent_to(variable.value.sharding, variable.ndim)
        split += not variable.value.sharding.is_fully_replicated
    assert split > 10, split


def collectives(model):
    """`{name of an exchange between devices: bytes}` of the gradients of a sharded model."""

    def program(values, others, x):
        def loss(values):
            return model.stateless_call(values, others, x, training=True)[0].sum()

        return jax.grad(loss)(values)

    values = [variable.value for variable in model.trainable_variables]
    others = [variable.value for variable in model.non_trainable_variables]
    layout = keras.distribution.distribution().get_data_layout((BATCH, 16, 16, 3)).backend_layout
    x = jax.device_put(np.zeros((BATCH, 16, 16, 3), "float32"), layout)
    outputs = [value.sharding for value in values]
    text = jax.jit(program, out_shardings=outputs).lower(values, others, x).compile().as_text()
    found = {}
    for shapes, name in re.findall(
        r"= (.*?) (all-reduce|all-gather|all-to-all|collective-permute)\(", text
    ):
        for sizes in re.findall(r"f32\[([\d,]+)\]", shapes):
            found[name] = found.get(name, 0) + 4 * math.prod(map(int, sizes.split(",")))
    return found


def check_files(model):
    """A file of a sharded model loads under the same layout, and on one device."""
    with tempfile.TemporaryDirectory() as folder:
        model.save(f"{folder}/model.keras")
        loaded = keras.models.load_model(f"{folder}/model.keras")
        before, after = (each.variables + each.optimizer.variables for each in (model, loaded))
        for variable, other in zip(before, after, strict=True):
            assert variable.value.sharding == other.value.sharding, variable.path
            np.testing.assert_array_equal(np.asarray(variable.value), np.asarray(other.value))
        keras.distribution.set_distribution(None)
        one = keras.models.load_model(f"{folder}/model.keras", compile=False)
    for variable, other in zip(model.weights, one.weights, strict=True):
        assert len(other.value.sharding.device_set) == 1
        np.testing.assert_array_equal(np.asarray(variable.value), np.asarray(other.value))


def check_load():
    """Each process fills its parts of the weights of a model from a file."""

    def small():
        sizes = {"hidden_dim": 8, "depth": 1, "num_heads": 4, "mlp_dim": 16, "num_classes": 4}
        return km.ViT("Ti/16", input_shape=(8, 8, 3), patch_size=4, **sizes)

    keras.distribution.set_distribution(None)
    whole = small()
    with tempfile.TemporaryDirectory() as folder:
        km.save_weights(whole, f"{folder}/vit.safetensors", format="timm")
        keras.distribution.set_distribution(distribution("both", small))
        split = small()
        km.load_weights(split, f"{folder}/vit.safetensors")
    for variable, other in zip(whole.weights, split.weights, strict=True):
        for part in other.value.addressable_shards:
            np.testing.assert_array_equal(part.data, np.asarray(variable.value)[part.index])


if __name__ == "__main__":
    if COORDINATOR:
        keras.distribution.initialize(COORDINATOR, 2, PROCESS)
        found = {}
        check_load()  # test_train_distributed.py trains in two processes
    else:
        found = {"losses": {}, "collectives": {}}
        found["losses"]["one"], model = train("one")
        found["bytes"] = 4 * model.count_params()
        for way in ("fsdp", "model"):
            found["losses"][way], model = train(way)
            check_slots(model)
            found["collectives"][way] = collectives(model)
        check_files(model)
    print(json.dumps(found))

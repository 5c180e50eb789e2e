"""Train one hybrid of all mixers under several layouts of its weights, and print the losses.

This is a program for a separate process, because JAX accepts virtual devices only before its first
operation.
"""

import os

os.environ["KERAS_BACKEND"] = "jax"
eight_devices = "--xla_force_host_platform_device_count=8"
os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {eight_devices}"

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


def distribution(way):
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


def collectives():
    """`{name of an exchange between devices: bytes}` of a step of the training that just ended."""
    newest_first = jax.devices()[0].client.live_executables()
    modules = [module for program in newest_first for module in program.hlo_modules()]
    text = next(module.to_string() for module in modules if module.name == "jit_train_step")
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


if __name__ == "__main__":
    found = {"losses": {}, "collectives": {}}
    for way in ("one", *WAYS):
        found["losses"][way], model = train(way)
        if way != "one":
            check_slots(model)
            found["collectives"][way] = collectives()
    found["bytes"] = 4 * model.count_params()
    check_files(model)
    print(json.dumps(found))

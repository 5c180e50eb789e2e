"""Models compute, train, save and load, in every family."""

import dataclasses
import inspect
import pathlib
import subprocess
import sys

import keras
import numpy as np
import pytest
from backends import ON_JAX, ON_TORCH, WAYS, compute
from cases import FAMILIES, MODELS, case as model_case, describe
from keras import ops

import keras_mixers as km
from keras_mixers.graph import all_layers

HERE = pathlib.Path(__file__).parent
# XLA takes seconds to compile a model that these tests run for less time. On JAX, eager steps take
# longer than compiling.
QUICK = {"jit_compile": ON_JAX}
# Fewer models on JAX, which compiles every step of every model. These two have all mixers of the
# six families, and so does the only one on JAX.
FEW = [case for case in FAMILIES if case.id in ("conv_mixer", "hybrid_MMA")]
if ON_JAX:
    FEW = [dataclasses.replace(FEW[1], id="hybrid_CMA", variant="CMA")]
ALL = FEW if ON_JAX else MODELS
ids = pytest.mark.parametrize("case", ALL, ids=lambda case: case.id)
# Each mixer and the class token once, for tests in which their combination does not matter.
KINDS = [case for case in FAMILIES if case.id in ("vit", "conv_mixer", "hybrid_MMA")]
families = pytest.mark.parametrize("case", FEW if ON_JAX else KINDS, ids=lambda case: case.id)


def outputs(model, images):
    """The outputs of a model at inference."""
    return ops.convert_to_numpy(compute(model, images, training=False))


@ids
def test_output_does_not_depend_on_batch(case):
    model = case.make()
    images = case.images(3)
    three = outputs(model, images)
    np.testing.assert_allclose(three[:1], outputs(model, images[:1]), atol=1e-5)


@pytest.mark.one_backend("JAX runs the same operations in both ways, and so does test_contract.py")
@pytest.mark.parametrize("case", FEW, ids=lambda case: case.id)
@pytest.mark.slow
def test_compiled_model_equals_eager_model(case):
    labels = np.arange(8) % 5
    found = []
    for how in WAYS:
        keras.utils.set_random_seed(0)
        model = case.make()
        for layer in model._flatten_layers():
            layer.supports_jit = True  # because XLA must be correct where it is slow
        model.compile(
            keras.optimizers.SGD(0.1),
            keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            **how,
        )
        few = {"batch_size": 4, "verbose": 0}  # the same everywhere, because JAX compiles for it
        before = model.predict(case.images(8), **few)
        model.fit(case.images(8), labels, epochs=2, shuffle=False, **few)
        found.append((before, model.predict(case.images(8), **few)))
    for before, after in found[1:]:
        np.testing.assert_allclose(found[0][0], before, atol=1e-5)
        np.testing.assert_allclose(found[0][1], after, atol=1e-4)
    assert np.abs(found[0][0] - found[0][1]).max() > 1e-2, "training must change the outputs"


@families
# On JAX one policy, to save time; TensorFlow runs both.
@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"][ON_JAX:])
def test_mixed_precision_is_close_to_float32(case, policy):
    model = case.make(dtype=policy)
    assert keras.config.dtype_policy().name == "float32", "the builder must restore the default"
    assert model.output.dtype == "float32", "logits must keep full precision"
    assert model.get_layer("patch_embed").compute_dtype == policy.removeprefix("mixed_")
    assert {weight.dtype for weight in model.trainable_weights} == {"float32"}
    reference = case.make()
    reference.set_weights(model.get_weights())
    np.testing.assert_allclose(
        outputs(model, case.images()), outputs(reference, case.images()), atol=5e-2
    )


def trained(case, labels, epochs=1, **more):
    """A model of a case after a short training."""
    model = case.make(num_classes=5, **more)
    model.compile(
        keras.optimizers.AdamW(1e-3),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        **(QUICK if ON_JAX else {"run_eagerly": True}),  # tracing takes longer than a few steps
    )
    model.fit(case.images(8), labels, batch_size=4, epochs=epochs, shuffle=False, verbose=0)
    return model


@families
@pytest.mark.slow
def test_saved_model_loads_and_resumes_training(case, tmp_path):
    labels = np.arange(8) % 5
    accepted = inspect.signature(case.builder).parameters
    drops = ("dropout_rate", "attention_dropout_rate", "stochastic_depth_rate")
    model = trained(case, labels, **{name: 0.3 for name in drops if name in accepted})
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert describe(loaded) == describe(model)
    for before, after in zip(model.weights, loaded.weights, strict=True):
        np.testing.assert_array_equal(before.numpy(), after.numpy(), err_msg=before.path)
    moments = [model.optimizer.variables, loaded.optimizer.variables]
    for before, after in zip(*moments, strict=True):
        np.testing.assert_array_equal(before.numpy(), after.numpy(), err_msg=before.path)
    np.testing.assert_array_equal(outputs(model, case.images()), outputs(loaded, case.images()))
    for each in (model, loaded):
        each.fit(case.images(8), labels, batch_size=4, shuffle=False, verbose=0)
    np.testing.assert_allclose(
        outputs(model, case.images()), outputs(loaded, case.images()), atol=1e-6
    )


IN_A_FRESH_PROCESS = """
import pathlib, sys
import keras_mixers
import keras, numpy as np
for file in sorted(pathlib.Path(sys.argv[1]).glob("*.keras")):
    model = keras.models.load_model(file)
    with np.load(file.with_suffix(".npz")) as arrays:
        answer = keras.ops.convert_to_numpy(model(arrays["images"], training=False))
        print(file.stem, np.abs(answer - arrays["answer"]).max())
"""
RELEASES = sorted(path.name for path in (HERE / "saved").iterdir())


def save_with_outputs(model, case, folder, name):
    """Save a model, and the outputs that a test compares it with."""
    model.save(folder / f"{name}.keras")
    images = case.images()
    np.savez(folder / f"{name}.npz", images=images, answer=outputs(model, images))


# They have all kinds of layers of the table of models. test_assembly.py reads the config of every
# case.
OF_ALL_LAYERS = ["vit_map", "vit_rotary", "vit_rms", "vit_registers", "deit_distilled"]
OF_ALL_LAYERS += ["mlp_mixer", "conv_mixer", "hybrid_ACMPG"]


@pytest.mark.one_backend("which names Keras numbers in a process does not depend on the backend")
@pytest.mark.slow
def test_models_load_in_fresh_process(tmp_path):
    def kinds(models):
        return {type(layer) for model in models for layer in all_layers(model)}

    cases = [model_case(name) for name in OF_ALL_LAYERS]
    models = [case.make() for case in cases]
    assert kinds(models) >= kinds(case.make() for case in MODELS if case not in cases)
    for case, model in zip(cases, models, strict=True):
        save_with_outputs(model, case, tmp_path, case.id)
    finished = subprocess.run(
        [sys.executable, "-c", IN_A_FRESH_PROCESS, tmp_path],
        capture_output=True,
        text=True,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr
    found = dict(line.split() for line in finished.stdout.splitlines())
    assert set(found) == {case.id for case in cases}
    assert max(map(float, found.values())) < 1e-6, found


@pytest.mark.parametrize("case", FAMILIES[-1:] if ON_JAX else FAMILIES, ids=lambda case: case.id)
@pytest.mark.parametrize("release", RELEASES)
def test_files_of_earlier_releases_load(release, case):
    """TensorFlow computed the answers."""
    file = HERE / "saved" / release / f"{case.id}.keras"
    with np.load(file.with_suffix(".npz")) as arrays:
        found = outputs(keras.models.load_model(file), arrays["images"])
        np.testing.assert_allclose(found, arrays["answer"], rtol=0, atol=1e-5)


def test_files_of_this_release_exist():
    assert km.__version__ in RELEASES


@pytest.mark.parametrize("case", FEW, ids=lambda case: case.id)
@pytest.mark.slow
def test_model_memorizes_small_dataset(case):
    generator = np.random.default_rng(0)
    images = generator.uniform(-1, 1, (64, 8, 12, 2)).astype("float32")
    labels = generator.integers(0, 5, 64)
    model = case.make()
    model.compile(
        keras.optimizers.Adam(1e-2),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
        **QUICK,
    )
    model.optimizer.build(model.trainable_variables)  # or TensorFlow traces each step twice
    before = model.evaluate(images, labels, verbose=0)
    for _ in range(8):
        model.fit(images, labels, batch_size=64, epochs=25, verbose=0)
        loss, accuracy = model.evaluate(images, labels, verbose=0)
        if accuracy == 1:
            break
    assert before[1] < 0.6
    assert accuracy == 1
    assert loss < before[0]


@pytest.mark.skipif(ON_JAX or ON_TORCH, reason="only TensorFlow has tf.distribute")
@pytest.mark.slow
def test_two_replicas_train_like_one():
    finished = subprocess.run(
        [sys.executable, HERE / "two_replicas.py"], capture_output=True, text=True, check=False
    )
    assert finished.returncode == 0, finished.stderr
    assert "2 replicas" in finished.stdout


def assembled_by_hand():
    """A ViT without its builder."""
    return keras.Sequential(
        [
            keras.Input((8, 12, 2)),
            km.layers.PatchEmbed(16, 4),
            km.layers.PositionEmbedding((2, 3)),
            km.layers.Residual(km.layers.MultiHeadSelfAttention(num_heads=2)),
            km.layers.Residual(km.layers.ChannelMixing(32)),
            keras.layers.LayerNormalization(epsilon=1e-6),
            keras.layers.GlobalAveragePooling1D(),
            keras.layers.Dense(5),
        ]
    )


def test_hand_assembled_model_trains_and_saves(tmp_path):
    import tensorflow as tf

    images = MODELS[0].images(8)
    batches = tf.data.Dataset.from_tensor_slices((images, np.arange(8) % 5)).batch(8)
    model = assembled_by_hand()
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    history = model.fit(batches, epochs=20, shuffle=False, verbose=0).history["loss"]
    assert history[-1] < 0.8 * history[0]
    model.save(tmp_path / "by_hand.keras")
    loaded = keras.models.load_model(tmp_path / "by_hand.keras")
    np.testing.assert_array_equal(outputs(model, images), outputs(loaded, images))


def test_nested_model_saves_and_clones(tmp_path):
    case = MODELS[0]
    backbone = case.make(num_classes=0)
    inputs = keras.Input((8, 12, 2))
    outer = keras.Model(inputs, keras.layers.Dense(3)(backbone(inputs)))
    outer.save(tmp_path / "outer.keras")
    loaded = keras.models.load_model(tmp_path / "outer.keras")
    np.testing.assert_array_equal(outputs(outer, case.images()), outputs(loaded, case.images()))
    clone = keras.models.clone_model(outer)
    clone.set_weights(outer.get_weights())
    np.testing.assert_array_equal(outputs(outer, case.images()), outputs(clone, case.images()))

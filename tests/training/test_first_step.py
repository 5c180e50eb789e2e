"""The first training step: TensorFlow traces it once, and Adam has one kernel for each weight."""

import keras
import numpy as np
import pytest

import keras_mixers as km
from keras_mixers.layers.kernels import optimizer as choice

tf = pytest.importorskip("tensorflow")
pytestmark = pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="TensorFlow only")
IMAGES = np.random.RandomState(0).randn(8, 4, 4, 2).astype("float32")
LABELS = np.random.RandomState(1).randint(0, 3, 8)


def model_of(dtype="float32"):
    """A model of four weights without blocks."""
    images = x = keras.Input((4, 4, 2))
    x = keras.layers.Flatten()(x)
    x = keras.layers.Dense(5, "tanh", kernel_initializer=uniform(1), dtype=dtype, name="first")(x)
    x = keras.layers.Dense(3, kernel_initializer=uniform(2), dtype=dtype, name="head")(x)
    return km.ImageModel(images, x)


def uniform(seed):
    return keras.initializers.RandomUniform(-0.5, 0.5, seed=seed)


def train(optimizer, dtype="float32", **options):
    """A model that four batches have trained."""
    model = model_of(dtype)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer, loss, **options)
    model.fit(IMAGES, LABELS, batch_size=2, shuffle=False, verbose=0)
    return model


@pytest.fixture
def updates(monkeypatch):
    """The gradients that the kernel of Adam received, one for each call while a step is traced."""
    received, kernel = [], tf.raw_ops.ResourceApplyAdam

    def record(**inputs):
        received.append(inputs["grad"])
        return kernel(**inputs)

    monkeypatch.setattr(tf.raw_ops, "ResourceApplyAdam", record)
    return received


@pytest.mark.parametrize("metrics", [None, ["accuracy"]], ids=["", "metrics"])
def test_first_step_is_traced_once(metrics, monkeypatch):
    traced, call = [], keras.layers.Dense.call

    def record(layer, x, training=None):
        traced.append(layer.name)
        return call(layer, x, training=training)

    monkeypatch.setattr(keras.layers.Dense, "call", record)
    model = train("adamw", metrics=metrics)
    assert traced == ["first", "head"]
    assert bool(metrics) == ("accuracy" in model.get_metrics_result())
    fresh = model_of()
    fresh.compile("adamw", "sparse_categorical_crossentropy", metrics=metrics)
    fresh.train_on_batch(IMAGES, LABELS)
    assert traced[2:] == ["first", "head"]


class DecaysNames(keras.optimizers.AdamW):
    """A user's choice of weights, by the names that TensorFlow gives them."""

    def _use_weight_decay(self, variable):
        return variable.name == "kernel:0"


class DecaysFirst(keras.optimizers.AdamW):
    """A user's weight decay."""

    def _apply_weight_decay(self, variables):
        super()._apply_weight_decay(variables[:1])


@pytest.mark.parametrize(
    "make",
    [
        lambda: keras.optimizers.Adam(0.01, epsilon=1e-3),
        lambda: keras.optimizers.AdamW(0.01, weight_decay=0.1, global_clipnorm=0.1, use_ema=True),
        lambda: DecaysNames(0.01, weight_decay=0.5),
        lambda: DecaysFirst(0.01, weight_decay=0.5),
        lambda: keras.optimizers.Adam(0.01, beta_1=0.5, gradient_accumulation_steps=2),
        lambda: km.training.LayerwiseAdamW(0.01, weight_decay=0.1, clip_norm=0.1),
        lambda: km.training.LayerwiseAdamW(0.01, beta_2=0.9, gradient_accumulation_steps=2),
    ],
    ids=["adam", "adamw", "names", "first", "accumulated", "layerwise", "layerwise accumulated"],
)
def test_adam_has_one_kernel_for_each_weight(make, updates, monkeypatch):
    optimizer = make()
    fused = train(optimizer)
    assert len(updates) == len(fused.trainable_variables)
    # Or Keras could not pickle it.
    assert not {"step", "update_step", "_apply_weight_decay"} & set(vars(optimizer))

    monkeypatch.setattr(choice, "on_tensorflow_cpu", lambda: False)
    before, reference = model_of().get_weights(), train(make())
    assert len(updates) == len(fused.trainable_variables)
    for start, ours, keras_own in zip(
        before, fused.get_weights(), reference.get_weights(), strict=True
    ):
        assert np.abs(keras_own - start).max() > 0.01
        np.testing.assert_allclose(ours, keras_own, atol=1e-6)
    for ours, keras_own in zip(optimizer.variables, reference.optimizer.variables, strict=True):
        np.testing.assert_allclose(ours.numpy(), keras_own.numpy(), rtol=1e-4, atol=1e-7)


def test_kernel_of_adam_runs_eagerly(updates):
    model = train("adam", run_eagerly=True)
    assert len(updates) == 4 * len(model.trainable_variables)
    np.testing.assert_allclose(model.get_weights()[2], train("adam").get_weights()[2], atol=1e-6)


class HalfAdam(keras.optimizers.Adam):
    """A user's optimizer."""

    def update_step(self, gradient, variable, learning_rate):
        super().update_step(gradient, variable, learning_rate / 2)


class HalfLayerwiseAdamW(km.training.LayerwiseAdamW):
    """The same, of this package's optimizer."""

    def step(self, gradient, variable, rate):
        super().step(gradient, variable, rate / 2)


@pytest.mark.parametrize(
    ("optimizer", "dtype"),
    [
        (lambda: HalfAdam(0.01), "float32"),
        (lambda: HalfLayerwiseAdamW(0.01), "float32"),
        (lambda: keras.optimizers.Adam(0.01, amsgrad=True), "float32"),
        (lambda: keras.optimizers.Adam(0.01), "float64"),
    ],
    ids=["subclass", "layerwise", "amsgrad", "float64"],
)
def test_other_optimizers_do_not_use_the_kernel(optimizer, dtype, updates):
    model = train(optimizer(), dtype)
    assert not updates
    assert np.abs(model.get_weights()[1]).max() > 0  # the biases, which start at 0


def test_optimizer_has_only_the_weights_that_train():
    model = model_of()
    model.get_layer("first").trainable = False
    model.compile("adam", "mse")
    model.fit(IMAGES, np.zeros((8, 3), "float32"), verbose=0)
    assert len(model.optimizer.variables) == 2 + 2 * 2  # step and rate, two averages of two weights


def test_frozen_model_can_train_later():
    model = model_of()
    model.trainable = False
    model.compile("adam", "mse")
    with pytest.warns(UserWarning, match="trainable weights"):
        model.train_on_batch(IMAGES, np.zeros((8, 3), "float32"))
    assert not model.optimizer.built

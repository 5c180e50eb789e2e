"""The parts of a recipe: optimizer, loss and metric, each against an independent computation."""

import keras
import numpy as np
import pytest
from backends import ON_JAX, ON_TORCH
from keras import ops

import keras_mixers as km
from keras_mixers.training.layerwise import clip_by_global_norm

pytestmark = pytest.mark.backends


def vit():
    size = {"patch_size": 8, "hidden_dim": 24, "depth": 3, "num_classes": 2}
    norms = ("patches", "embeddings")
    return km.ViT("Ti/16", input_shape=(16, 16, 1), extra_norms=norms, **size)


@pytest.mark.parametrize("kind", [km.training.LayerwiseAdamW, km.training.LayerwiseSGD])
def test_layer_decay_scales_step_and_weight_decay(kind):
    model = vit()
    rates = {"head": 1, "norm": 1, "block_2_": 1 / 2, "block_0_": 1 / 8, "patch_embed": 1 / 16}
    rates |= {"block_1_": 1 / 4, "position_embedding": 1 / 16, "prefix_tokens": 1 / 16}
    rates |= {"patch_norm": 1 / 16, "embedding_norm": 1 / 16}
    before = [weight.numpy() for weight in model.weights]
    for gradient, decay in ((1.0, 0.0), (0.0, 0.5)):
        model.set_weights(before)
        optimizer = kind(0.1, weight_decay=decay, layer_decay=0.5)
        weights = model.trainable_variables
        optimizer.apply([ops.ones_like(weight.value) * gradient for weight in weights], weights)
        for weight, old in zip(weights, before, strict=True):
            rate = 0.1 * next(r for name, r in rates.items() if weight.path.startswith(name))
            # The length of the first step is the learning rate, for SGD because the gradient is 1.
            moved = rate if gradient else rate * decay * old * ("kernel" in weight.path)
            np.testing.assert_allclose(old - weight.numpy(), moved, atol=1e-6, err_msg=weight.path)


def test_weight_decay_applies_to_kernels_only():
    hybrid = km.Hybrid("CMAPG", input_shape=(8, 8, 1), patch_size=4, hidden_dim=8, num_heads=2)
    for model in (vit(), hybrid):
        optimizer = km.training.LayerwiseAdamW(weight_decay=0.1)
        optimizer.build(model.trainable_variables)
        for weight, decay in zip(model.trainable_variables, optimizer.decays, strict=True):
            is_excluded = weight.path.split("/")[0] in ("prefix_tokens", "position_embedding")
            assert bool(decay) == (len(weight.shape) > 1 and not is_excluded), weight.path


def test_optimizer_steps_equal_adamw():
    """Without exclusions and layer decay, each step equals a step of Keras's AdamW."""
    start = np.random.RandomState(0).randn(5, 3).astype("float32")
    ours, theirs = (keras.Variable(start, name=name) for name in ("kernel", "weight"))
    pair = [
        (km.training.LayerwiseAdamW(0.01, weight_decay=0.1, epsilon=1e-8, clip_norm=0.5), ours),
        (
            keras.optimizers.AdamW(0.01, weight_decay=0.1, epsilon=1e-8, global_clipnorm=0.5),
            theirs,
        ),
    ]
    for step in range(5):
        # Adam ignores a constant factor of the gradients. So only some of the steps are clipped.
        gradient = np.random.RandomState(step).randn(5, 3).astype("float32") * 0.05 ** (step % 2)
        for optimizer, variable in pair:
            optimizer.apply([ops.convert_to_tensor(gradient)], [variable])
    np.testing.assert_allclose(ours.numpy(), theirs.numpy(), atol=1e-6)


def test_sgd_steps_equal_their_formula():
    """Also after the rate has changed, with a schedule, and with gradients that are clipped."""
    random = np.random.RandomState(0)
    expected, velocity = random.randn(5, 3).astype("float32"), np.zeros((5, 3))
    kernel = keras.Variable(expected, name="kernel")
    schedule = km.training.WarmUp(0.1, steps=4, warmup_steps=2)
    options = {"momentum": 0.8, "weight_decay": 0.3, "clip_norm": 2.0}
    optimizer = km.training.LayerwiseSGD(schedule, **options)
    optimizer = type(optimizer).from_config(optimizer.get_config())
    norms = []
    for step in range(4):
        gradient = random.randn(5, 3).astype("float32") * (step + 1) * 0.3
        optimizer.apply([ops.convert_to_tensor(gradient)], [kernel])
        norms.append(np.linalg.norm(gradient))
        velocity = 0.8 * velocity + gradient * min(1, 2 / norms[-1])
        expected = expected - float(schedule(step)) * (velocity + 0.3 * expected)
    assert min(norms) < 2 < max(norms)
    np.testing.assert_allclose(ops.convert_to_numpy(kernel), expected, atol=1e-6)


def test_clip_by_global_norm_keeps_direction():
    gradients = [ops.array([3.0, 0.0]), None, ops.array([[4.0]])]
    first, none, second = clip_by_global_norm(gradients, 1.0)
    assert none is None
    np.testing.assert_allclose(first, [0.6, 0], atol=1e-6)
    np.testing.assert_allclose(second, [[0.8]], atol=1e-6)
    kept, _, _ = clip_by_global_norm(gradients, 10.0)
    np.testing.assert_allclose(kept, [3, 0])


def test_layer_decay_raises_without_blocks():
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
    with pytest.raises(ValueError, match="`layer_decay` must be 1 for a model without.*0.5"):
        km.training.LayerwiseAdamW(layer_decay=0.5).build(model.trainable_variables)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_crossentropy_equals_keras_for_indices_and_soft_labels(smoothing):
    random = np.random.RandomState(0)
    logits, labels = random.randn(8, 7).astype("float32"), random.randint(0, 7, 8)
    soft = np.eye(7, dtype="float32")[labels]
    loss = km.training.Crossentropy(smoothing)
    expected = keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=smoothing)
    for given in (labels, labels[:, None], soft):
        got = loss(ops.array(given), ops.array(logits))
        np.testing.assert_allclose(got, expected(soft, logits), rtol=1e-5)
    mixed = 0.3 * soft + 0.7 * soft[::-1]
    np.testing.assert_allclose(loss(mixed, logits), expected(mixed, logits), rtol=1e-5)


def test_sigmoid_crossentropy_sums_over_classes():
    random = np.random.RandomState(0)
    logits, soft = random.randn(8, 7), random.rand(8, 7)
    probabilities = 1 / (1 + np.exp(-logits))
    each = soft * np.log(probabilities) + (1 - soft) * np.log(1 - probabilities)
    loss = km.training.Crossentropy(kind="sigmoid")(ops.array(soft), ops.array(logits))
    np.testing.assert_allclose(loss, -each.sum(-1).mean(), rtol=1e-5)


@pytest.mark.parametrize("part", ["softmax", "sigmoid", "accuracy"])
@pytest.mark.parametrize("bad", [5, -1, 1.5, np.nan])
def test_class_number_outside_the_classes_raises(part, bad):
    accuracy = km.training.Accuracy()
    compute = accuracy.update_state if part == "accuracy" else km.training.Crossentropy(0.1, part)
    with pytest.raises(ValueError, match="Class numbers must be integers from 0 to 4, .*5 outputs"):
        compute(np.array([0, bad]), ops.zeros((2, 5)))
    compute(np.array([0, 4]), ops.zeros((2, 5)))
    with pytest.raises(ValueError, match="Class numbers must be from 0 to 1, .* one output.*-1"):
        km.training.Crossentropy(kind="sigmoid")(np.array([0, -1]), ops.zeros((2, 1)))


@pytest.mark.skipif(ON_JAX or ON_TORCH, reason="only TensorFlow checks labels in its graphs")
def test_class_number_outside_the_classes_raises_in_fit():
    import tensorflow as tf

    images, labels = np.zeros((4, 3), "float32"), np.array([0, 1, 2, 3])
    for jit_compile in (False, True):
        model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
        model.compile("sgd", km.training.Crossentropy(), jit_compile=jit_compile)
        if jit_compile:
            assert np.isnan(model.fit(images, labels, verbose=0).history["loss"])
        else:
            with pytest.raises(tf.errors.InvalidArgumentError, match="integers from 0 to 1"):
                model.fit(images, labels, verbose=0)


@pytest.mark.parametrize("kind", ["softmax", "sigmoid"])
def test_image_without_labels_has_finite_loss(kind):
    logits = ops.array(np.random.RandomState(0).randn(3, 4))
    labels = np.array([[1.0, 0, 0, 0], [0, 0, 0, 0], [1, 1, 0, 0]])
    loss = float(km.training.Crossentropy(kind=kind)(labels, logits))
    if kind == "sigmoid":
        expected = keras.losses.BinaryCrossentropy(from_logits=True)(labels, logits)
        assert loss == pytest.approx(4 * float(expected), rel=1e-5)
    assert np.isfinite(loss)


@pytest.mark.parametrize("shape", [(-1,), (-1, 1)])
def test_one_output_decides_between_two_classes(shape):
    labels, logits = np.array([0, 1, 1, 0]), np.array([[-3.0], [2.0], [-1.0], [-2.0]])
    for given in (labels, labels.astype(bool), labels.astype("float32")):
        loss = km.training.Crossentropy(0.1, "sigmoid")(given.reshape(shape), logits)
        expected = keras.losses.BinaryCrossentropy(from_logits=True, label_smoothing=0.1)
        assert float(loss) == pytest.approx(float(expected(labels[:, None], logits)), rel=1e-5)
        accuracy = km.training.Accuracy()
        accuracy.update_state(given.reshape(shape), logits)
        assert float(accuracy.result()) == 0.75
    with pytest.raises(ValueError, match="`kind` must be 'sigmoid' for a model with one output"):
        km.training.Crossentropy()(labels, logits)


def test_accuracy_of_several_labels_or_none():
    logits = ops.array([[0.0, 1, 2], [5, 1, 2], [0, 3, 1]])
    accuracy = km.training.Accuracy()
    accuracy.update_state(np.array([[0, 1, 1], [0, 1, 1], [0, 0, 0]]), logits)
    assert float(accuracy.result()) == 0.5, "the image without labels is not counted"
    accuracy.reset_state()
    accuracy.update_state(np.array([2, 1, 1]), logits, sample_weight=np.array([3.0, 1, 0]))
    assert float(accuracy.result()) == 0.75


def test_accuracy_accepts_indices_and_soft_labels():
    logits = ops.array([[0.0, 1, 2], [5, 1, 2], [0, 3, 1], [1, 0, 0]])
    for labels in ([2, 0, 2, 1], [[2], [0], [2], [1]], np.eye(3)[[2, 0, 2, 1]] * 0.6 + 0.1):
        accuracy = km.training.Accuracy()
        accuracy.update_state(ops.array(labels), logits)
        assert float(accuracy.result()) == 0.5


@pytest.mark.parametrize(
    ("part", "module", "config"),
    [
        (
            km.training.Crossentropy(0.1, "sigmoid"),
            "keras_mixers.training.labels",
            {
                "name": "crossentropy",
                "reduction": "sum_over_batch_size",
                "label_smoothing": 0.1,
                "kind": "sigmoid",
            },
        ),
        (
            km.training.WarmUp(1e-3, 100, 10, "linear", 1e-5),
            "keras_mixers.training.schedule",
            {"peak": 1e-3, "steps": 100, "warmup_steps": 10, "shape": "linear", "final": 1e-5},
        ),
    ],
    ids=["Crossentropy", "WarmUp"],
)
def test_part_loads_config_of_version_0_1_0(part, module, config):
    name = type(part).__name__
    saved = {"module": module, "class_name": name, "registered_name": f"keras_mixers>{name}"}
    loaded = keras.saving.deserialize_keras_object({**saved, "config": config})
    assert type(loaded) is type(part)
    assert loaded.get_config() == part.get_config() == config


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_accumulated_gradients_train_as_larger_batches(optimizer):
    """Rates, clipping, weight decay and the moving average are those of one batch of 8 images."""
    random = np.random.RandomState(0)
    images, labels = random.randn(32, 5).astype("float32"), random.randint(0, 3, 32)
    trained = []
    for steps, batch_size in ((1, 8), (4, 2)):
        model = keras.Sequential([keras.Input((5,)), keras.layers.Dense(3)])
        model.set_weights([np.ones((5, 3)), np.zeros(3)])
        options = {"ema_decay": 0.5, "clip_norm": 0.1, "learning_rate": 0.1}
        options |= {"optimizer": optimizer, "gradient_accumulation_steps": steps}
        recipe = km.Recipe(epochs=2, warmup_epochs=0.5, **options)
        recipe.compile(model, steps_per_epoch=4 * steps)
        model.fit(images, labels, batch_size=batch_size, epochs=2, shuffle=False, verbose=0)
        trained.append(ops.convert_to_numpy(model.weights[0]))
    assert np.abs(trained[0] - 1).max() > 0.01
    np.testing.assert_allclose(*trained, atol=1e-5)


def test_compile_raises_if_training_has_no_update():
    model = keras.Sequential([keras.Input((5,)), keras.layers.Dense(3)])
    recipe = km.Recipe(epochs=2, gradient_accumulation_steps=7)
    with pytest.raises(ValueError, match="`gradient_accumulation_steps` must be at most 6.*=7"):
        recipe.compile(model, steps_per_epoch=3)

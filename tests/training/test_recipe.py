"""Recipes: their arguments, their files, and the models that they compile."""

import dataclasses
import json

import keras
import numpy as np
import pytest

import keras_mixers as km
from keras_mixers.exporting import validation
from keras_mixers.exporting.serving import Serving

NESTED, CIRCULAR = {}, {}
for _ in range(10_000):
    NESTED = {"more": NESTED}
CIRCULAR["itself"] = CIRCULAR
BAD = {
    "epochs": [0, 1.5, None, 10**400],
    "steps": [0, 1.5, "500"],
    "head_epochs": [-1, 1.5, None],
    "batch_size": [0, "64"],
    "learning_rate": [-1, None, float("nan"), 1e300, 10**400],
    "warmup_epochs": [-1, None],
    "warmup_steps": [-1, 0.5, None, 3],
    "schedule": ["cosin", None, 3],
    "final_learning_rate": [-1e-5, None],
    "weight_decay": [-0.1, None, 1e39],
    "layer_decay": [0, 1.1, None],
    "frozen_blocks": [-1, 1.5, "most", True],
    "lora_rank": [0, 1.5, "4"],
    "optimizer": ["adam", None],
    "momentum": [1, -0.1, None],
    "beta_2": [1, -0.1],
    "epsilon": [-1, None],
    "clip_norm": [0, -1, "1", 10**400],
    "gradient_accumulation_steps": [0, 1.5, None],
    "ema_decay": [1, -0.1, "0.9"],
    "loss": ["mse", None],
    "label_smoothing": [1, -0.1, None],
    "multi_label": [1, "yes", None],
    "augmentation": [None, {}],
    "model_arguments": [None, [], NESTED, CIRCULAR],
    "source": [None, 3],
}
ADDED = {"gradient_accumulation_steps", "frozen_blocks", "lora_rank"}  # fields since version 0.1.0
ADDED |= {"steps", "warmup_steps", "head_epochs", "optimizer", "momentum", "multi_label"}


def small_model():
    return km.MLPMixer(
        "S/16", input_shape=(8, 8, 1), patch_size=4, hidden_dim=16, depth=2, num_classes=10
    )


@pytest.mark.parametrize(("name", "bad"), [(name, bad) for name in BAD for bad in BAD[name]])
def test_recipe_raises_on_invalid_argument(name, bad):
    with pytest.raises((ValueError, TypeError), match=f"`{name}` must.*Received"):
        km.Recipe(**{"epochs": 3, name: bad})


def test_warmup_is_shorter_than_the_steps():
    with pytest.raises(ValueError, match="`warmup_steps` must be less than `steps`.*=10, steps=10"):
        km.Recipe(steps=10, warmup_steps=10)


def test_every_field_has_invalid_values():
    assert set(BAD) == {field.name for field in dataclasses.fields(km.Recipe)}


@pytest.mark.parametrize("name", km.recipes())
def test_published_recipe_saves_loads_and_compiles(name, tmp_path):
    recipe = km.recipes()[name]
    assert recipe.source
    recipe.save(tmp_path / "recipe.json")
    assert km.Recipe.load(tmp_path / "recipe.json") == recipe
    *_, last = recipe.stages(steps_per_epoch=100)
    model = small_model()
    last.compile(model, steps_per_epoch=100)
    rates = schedule(model, last.epochs * 100)
    assert max(rates) == pytest.approx(recipe.learning_rate, rel=3e-3)
    in_steps = (recipe.warmup_steps, recipe.steps)
    part, whole = in_steps if recipe.steps else (recipe.warmup_epochs, recipe.epochs)
    warmup = last.epochs * 100 * part / whole
    assert rates.index(max(rates)) == pytest.approx(warmup, abs=2)
    assert type(model.optimizer).__name__.lower() == f"layerwise{recipe.optimizer}"
    assert rates[-1] == pytest.approx(recipe.final_learning_rate, abs=2e-3 * max(rates))


def schedule(model, steps):
    rate = model.optimizer._learning_rate
    return np.asarray(rate(np.arange(steps, dtype="float32"))).tolist()


def test_published_recipes_match_their_sources():
    """Compare some values with a second reading of the sources."""
    deit, mixer = km.recipes()["DeiT"], km.recipes()["big_vision Mixer-B/16"]
    assert (deit.epochs, deit.batch_size, deit.learning_rate) == (300, 1024, 5e-4 * 1024 / 512)
    assert (deit.ema_decay, deit.augmentation.erasing) == (0.99996, 0.25)
    assert (mixer.loss, mixer.schedule, mixer.final_learning_rate) == ("sigmoid", "linear", 1e-5)
    # 10,000 steps of 4,096 images; the training split is 99 % of ImageNet's training images
    assert mixer.warmup_epochs == pytest.approx(10_000 * 4096 / (0.99 * 1_281_167), rel=2e-3)
    mae, deit = km.recipes()["MAE fine-tuning B"], km.recipes()["DeiT fine-tuning 384"]
    assert (mae.learning_rate, mae.layer_decay) == (5e-4 * 1024 / 256, 0.65)
    assert deit.learning_rate == deit.final_learning_rate == 5e-6
    probe = km.recipes()["DINOv2 linear probe"]
    assert (probe.steps, probe.batch_size, probe.frozen_blocks) == (10 * 1250, 8 * 128, "all")
    bit = km.training.WarmUp(3e-3, 10_000, 500, "staircase")
    steps = np.array([499, 2999, 3000, 5999, 6000, 8999, 9000, 9999], "float32")
    expected = [3e-3, 3e-3, 3e-4, 3e-4, 3e-5, 3e-5, 3e-6, 3e-6]
    np.testing.assert_allclose(bit(steps), expected, rtol=1e-5)
    cifar = km.recipes()["ConvMixer CIFAR-10"]
    model = small_model()
    cifar.compile(model, 98)
    logged = schedule(model, 25 * 98)[97::98]  # at the end of each epoch, as in the authors' log
    published = [0.005 * n for n in range(1, 11)] + [0.04525, 0.0405, 0.03575, 0.031, 0.02625]
    published += [0.0215, 0.01675, 0.012, 0.00725, 0.0025, 0.002, 0.0015, 0.001, 0.0005, 0]
    np.testing.assert_allclose(logged, published, atol=1e-6)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "Expecting property name"),
        pytest.param("[" * 100_000, "JSON is nested too deeply", id="deep"),
        ('{"epochs": 1' + "0" * 400 + "}", "`epochs` must"),
        ('{"epochs": 3, "augmentation": null}', ".*mapping"),
        (b"\xff\xfe\xff", ".*codec can't decode"),
        ("[]", "it is a list, not a dict"),
        ('{"epochs": 0}', "`epochs` must.*0"),
        ('{"epochs": 3, "epoch": 4}', ".*'epoch'"),
        ('{"epochs": 3, "augmentation": {"flop": true}}', ".*'flop'"),
    ],
)
def test_recipe_load_raises_on_invalid_file(text, message, tmp_path):
    (tmp_path / "recipe.json").write_bytes(text if isinstance(text, bytes) else text.encode())
    expected = f"`path` must be a JSON file of a recipe.*recipe.json: {message}"
    with pytest.raises(ValueError, match=expected):
        km.Recipe.load(tmp_path / "recipe.json")


def test_recipe_loads_file_of_version_0_1_0(tmp_path):
    """A file in which every field of that version has a value other than the default."""
    text = """{
        "epochs": 3, "batch_size": 32, "learning_rate": 0.002, "warmup_epochs": 0.5,
        "schedule": "one_cycle", "final_learning_rate": 1e-05, "weight_decay": 0.1,
        "layer_decay": 0.75, "beta_2": 0.95, "epsilon": 0.001, "clip_norm": 1.0, "ema_decay": 0.9,
        "loss": "sigmoid", "label_smoothing": 0.1,
        "augmentation": {
            "crop_scale": [0.08, 1.0], "flip": true, "translation": 0.1, "rand_augment": [2, 9.0],
            "erasing": 0.25, "mixup": 0.8, "cutmix": 1.0
        },
        "model_arguments": {"stochastic_depth_rate": 0.1}, "source": "a paper"
    }"""
    (tmp_path / "recipe.json").write_text(text)
    recipe = km.Recipe.load(tmp_path / "recipe.json")
    default = km.Recipe(epochs=1)
    assert recipe.get_config() == json.loads(text) | {n: getattr(default, n) for n in ADDED}
    assert recipe.augmentation.crop_scale == (0.08, 1.0)
    for name in {field.name for field in dataclasses.fields(km.Recipe)} - ADDED:
        assert getattr(recipe, name) != getattr(default, name), name


def test_recipe_prints_its_json(tmp_path):
    recipe = km.recipes()["DeiT"]
    recipe.save(tmp_path / "recipe.json")
    assert json.loads(str(recipe)) == json.loads((tmp_path / "recipe.json").read_text())


def test_recipe_raises_on_invalid_path_or_model(tmp_path):
    recipe = km.Recipe(epochs=1)
    with pytest.raises(TypeError, match="`model` must be a keras.Model. Received: model=5"):
        recipe.compile(5, 3)
    for call in (recipe.save, km.Recipe.load):
        with pytest.raises(TypeError, match="`path` must be a string or a path"):
            call(object())
    (tmp_path / "runs").mkdir()
    with pytest.raises(IsADirectoryError, match="runs"):
        recipe.save(tmp_path / "runs")
    assert (tmp_path / "runs").is_dir()


def test_length_is_in_epochs_or_in_steps():
    with pytest.raises(ValueError, match="`epochs` must be given, or `steps` instead.*epochs=3"):
        km.Recipe(epochs=3, steps=5)
    with pytest.raises(ValueError, match="`warmup_epochs` must be 0 .* use `warmup_steps`.*=0.5"):
        km.Recipe(steps=5, warmup_epochs=0.5)
    recipe = km.Recipe(steps=500, warmup_steps=100)
    with pytest.raises(ValueError, match=r"`steps` must not be given .*stages\(len.*steps=500"):
        recipe.compile(small_model(), 4)
    assert [recipe.stages(n)[0].epochs for n in (1, 4, 250, 251, 499, 500, 501)] == [
        *(500, 125, 2, 2, 2, 1, 1)
    ]
    (stage,) = recipe.stages(4)
    assert (stage.warmup_epochs, stage.steps, stage.warmup_steps) == (25, None, 0)
    assert stage.stages(9) == (stage,)


def test_head_epochs_become_a_stage():
    options = {"head_epochs": 2, "learning_rate": 0.1, "layer_decay": 0.5, "warmup_epochs": 1}
    recipe = km.Recipe(epochs=4, **options)
    with pytest.raises(ValueError, match="`head_epochs` must not be given .*head_epochs=2"):
        recipe.compile(small_model(), 4)
    head, rest = recipe.stages(4)
    assert (head.epochs, head.frozen_blocks, head.learning_rate) == (2, "all", 0.1)
    assert head.warmup_epochs == 0
    # Without it, the backbone would remain frozen.
    assert rest == dataclasses.replace(recipe, head_epochs=0, frozen_blocks=0)
    for kept in ({"frozen_blocks": 1}, {"lora_rank": 2}):
        head, rest = dataclasses.replace(recipe, **kept).stages(4)
        assert rest == dataclasses.replace(recipe, head_epochs=0, **kept)
        assert (head.frozen_blocks, head.lora_rank) == ("all", None)


def test_compile_raises_if_warmup_is_too_long():
    recipe = km.Recipe(epochs=10, warmup_epochs=5)
    with pytest.raises(ValueError, match="`epochs` must be more than `warmup_epochs`.*epochs=5"):
        recipe.compile(small_model(), 10, epochs=5)


@pytest.mark.parametrize(("loss", "classes"), [("softmax", 3), ("sigmoid", 3), ("sigmoid", 1)])
def test_exported_probabilities_follow_the_loss(loss, classes):
    size = {"input_shape": (4, 4, 1), "hidden_dim": 4, "depth": 1}
    model = km.ConvMixer("256/8-k5-p2", num_classes=classes, **size)
    km.Recipe(epochs=1, loss=loss).compile(model, 1)
    preprocessing = km.Preprocessing((4, 4), mean=0.5, std=0.5)
    validation.check_preprocessing(preprocessing, model)
    images = np.arange(2 * 4 * 4, dtype="uint8").reshape(2, 4, 4, 1)
    outputs = Serving(model, preprocessing)(images)
    activation = getattr(keras.ops, loss)
    np.testing.assert_allclose(outputs["probabilities"], activation(outputs["logits"]), rtol=1e-6)
    model.compile("sgd", "mse")
    if classes == 1:
        with pytest.raises(ValueError, match=r"compiled with Recipe\(loss='sigmoid'\).*'mse'"):
            validation.check_preprocessing(preprocessing, model)


@pytest.mark.slow
def test_saved_model_continues_training(tmp_path, digits_folder):
    """A .keras file keeps what the recipe compiled: optimizer, loss, metric and moving average."""
    train, _, info = km.data.load("digits", augmentation=km.data.Augmentation(mixup=0.2))
    recipe = km.Recipe(epochs=2, clip_norm=1.0, ema_decay=0.9, label_smoothing=0.1, layer_decay=0.9)
    model = small_model()
    recipe.compile(model, len(train))
    first, second, *_ = train
    model.train_on_batch(*first)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert loaded.optimizer.get_config() == model.optimizer.get_config()
    results = [m.train_on_batch(*second, return_dict=True) for m in (model, loaded)]
    assert results[0]["loss"] == pytest.approx(results[1]["loss"], rel=1e-5)
    for one, other in zip(model.weights, loaded.weights, strict=True):
        np.testing.assert_allclose(one.numpy(), other.numpy(), atol=1e-6, err_msg=one.path)
    assert info.num_classes == 10


def test_last_recipe_decides_whether_a_model_has_several_labels():
    model = small_model()
    km.Recipe(epochs=1, loss="sigmoid", multi_label=True).compile(model, 1)
    assert model.multi_label is True
    km.Recipe(epochs=1).compile(model, 1)
    assert model.multi_label is False

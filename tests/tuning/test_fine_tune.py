"""The space of fine-tuning: what trains, whose weights, whose preprocessing, and a real search."""

import collections
import functools
import re

import keras
import keras_tuner
import numpy as np
import pytest
from scored import TINY_CONV, TINY_VIT, tiny_fine_tune

import keras_mixers as km
from keras_mixers import graph
from keras_mixers.tuning import backbones, budget

VIT = {**TINY_VIT, "depth": 2, "patch_size": 8}
CONV = {**TINY_CONV, "depth": 3, "patch_size": 4, "hidden_dim": 8}
SHAPE = (16, 16, 3)
WIDE = km.Preprocessing(16, crop_fraction=1.0, mean=0.5, std=0.25)
NARROW = km.Preprocessing(32, mean=(0.1, 0.2, 0.3), std=(1.0, 1.0, 1.0))


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """The files of a ViT and a ConvMixer for five classes."""
    folder = tmp_path_factory.mktemp("weights")
    vit = {name: value for name, value in VIT.items() if name != "model"}
    conv = {name: value for name, value in CONV.items() if name != "model"}
    models = {
        "vit": km.ViT("Ti/16", input_shape=SHAPE, num_classes=5, **vit),
        "conv": km.ConvMixer("768/32", input_shape=SHAPE, num_classes=5, **conv),
    }
    for name, model in models.items():
        km.save_weights(model, folder / f"{name}.safetensors", format="timm")
    return {name: (folder / f"{name}.safetensors", model) for name, model in models.items()}


@pytest.fixture(scope="module")
def given(files):
    return {
        "vit": {**VIT, "weights": files["vit"][0], "preprocessing": WIDE},
        "conv": {**CONV, "weights": files["conv"][0], "preprocessing": NARROW},
    }


def make_space(given, **options):
    augmentation = options.pop("augmentation", km.data.Augmentation())
    return km.tuning.HyperFineTune(given, SHAPE, 10, augmentation=augmentation, **options)


def configuration(**values):
    hp = keras_tuner.HyperParameters()
    hp.values = values
    return hp


@pytest.mark.parametrize(
    ("method", "trains"),
    [
        ("full", ""),
        ("freeze", "block_1_|norm/|head/"),
        ("lora", "head/|.*/lora_kernel_[ab]$"),
        ("head", "head/"),
    ],
)
def test_method_decides_what_trains(method, trains, given):
    space = make_space(given, layer_decay=0.5, lora_rank=2, frozen_fraction=0.3, batch_size=8)
    hp = configuration(method=method)
    model = space.build(hp)
    found = {weight.path for weight in model.trainable_weights}
    assert found == {weight.path for weight in model.weights if re.match(trains, weight.path)}
    assert any("lora" in path for path in found) == (method == "lora")
    recipe = space.recipe_of(hp, epochs=20)
    assert recipe.layer_decay == (0.5 if method in ("full", "freeze") else 1.0)
    assert model.optimizer.layer_decay == recipe.layer_decay
    assert (recipe.epochs, recipe.warmup_epochs, recipe.batch_size) == (20, 2.0, 8)


def values_of(model):
    """`{path of a weight: array}`."""
    return {weight.path: keras.ops.convert_to_numpy(weight) for weight in model.weights}


def test_build_reads_each_file_once_and_makes_a_new_head(given, files, monkeypatch):
    reads, features = [], backbones.Backbone.features
    monkeypatch.setattr(
        backbones.Backbone, "features", lambda self: reads.append(self.model) or features(self)
    )
    space = make_space(given)
    models = [space.build(configuration(backbone=name)) for name in ("vit", "vit", "conv", "vit")]
    assert reads == [VIT["model"], CONV["model"]]
    for model, name in zip(models, ("vit", "vit", "conv", "vit"), strict=True):
        found, expected = values_of(model), values_of(files[name][1])
        assert found.keys() == expected.keys()
        for path in found.keys() - {"head/kernel", "head/bias"}:
            np.testing.assert_array_equal(found[path], expected[path], err_msg=path)
        assert found["head/kernel"].shape == (expected["head/kernel"].shape[0], 10)
    assert np.any(values_of(models[0])["head/kernel"] != values_of(models[1])["head/kernel"])
    monkeypatch.setattr(backbones, "CACHED_BYTES", 1)
    space.build(configuration(backbone="conv"))
    assert list(space.weights.kept) == ["conv"], "the last one is kept, however large"


def test_pretrained_false_gives_random_weights():
    space = tiny_fine_tune()
    one, two = (values_of(space.build(configuration())) for _ in range(2))
    assert np.any(one["patch_embed/projection/kernel"] != two["patch_embed/projection/kernel"])
    assert not space.weights.kept


def test_budget_and_method_refuse_a_backbone(given):
    small, large = (space_cost(given, name)["params"] for name in ("vit", "conv"))
    assert small != large
    limit = min(small, large)
    refused = "vit" if small > large else "conv"
    hp = configuration(backbone=refused)
    space = make_space(given, max_params=limit)
    with pytest.raises(keras_tuner.errors.FailedTrialError, match=f"over max_params={limit:,}"):
        space.build(hp).fit()
    space = make_space(given)
    model = space.build(configuration(backbone="conv", method="lora"))
    with pytest.raises(keras_tuner.errors.FailedTrialError, match="'lora' for conv, whose blocks"):
        model.fit()
    assert space.size_key(hp) != space.size_key(configuration(backbone=refused, method="lora"))


def space_cost(given, name):
    space = make_space(given)
    cost = space.cost_of(configuration(backbone=name))
    options = space.arguments_of(configuration(backbone=name))
    model = km.create_model(options.pop("model"), **options)
    assert cost == {"params": model.count_params(), "flops": km.count_flops(model)}
    return cost


def test_quantities_exist_only_for_their_methods(tmp_path):
    tuner = keras_tuner.RandomSearch(tiny_fine_tune(), "val_accuracy", directory=tmp_path, seed=1)
    seen = collections.Counter()
    for _ in range(40):
        values = tuner.oracle._random_values()
        method = values["method"]
        seen[method] += 1
        assert ("layer_decay" in values) == (method in ("full", "freeze"))
        assert ("frozen_fraction" in values) == (method == "freeze")
        assert ("lora_rank" in values) == (method == "lora")
    assert len(seen) == 4
    only = tiny_fine_tune(method=["full", "head"])
    assert only.configuration(configuration())["lora_rank"] is None
    hp = keras_tuner.HyperParameters()
    only.declare_hyperparameters(hp)
    assert not {"lora_rank", "frozen_fraction"} & {each.name for each in hp.space}


def test_frozen_fraction_freezes_at_least_one_block(given):
    space = make_space(given, method="freeze")
    frozen = [
        space.recipe_of(configuration(backbone=name, frozen_fraction=fraction), 1).frozen_blocks
        for name, fraction in (("vit", 0.25), ("vit", 0.75), ("conv", 0.25), ("conv", 0.75))
    ]
    assert frozen == [1, 2, 1, 2]  # of two and three blocks


def test_memory_depends_on_what_trains(given):
    """A ViT with 5 tokens of width 4 in two blocks, with hand-counted numbers."""
    rank, batch = 2, 7
    space = make_space(given, frozen_fraction=0.5, lora_rank=rank, batch_size=batch)
    stem, block, norm, head = 192 * 4 + 4 + 5 * 4 + 4, 4 * 20 + 16 + 40 + 36, 8, 50
    # The norm, queries, keys, values, weighted values, weights, result and sum; then the MLP's.
    activations = (7 * 5 * 4 + 5 * 5) + (3 * 5 * 4 + 2 * 5 * 8)
    before, after = 16 + 20 + 20, 20 + 4
    everything = stem + 2 * block + norm + head

    def expected(trained, kept, matrices=0):
        weights = everything + matrices + 3 * trained
        return 4 * (weights + batch * (kept + activations)) / 1e6

    matrices = rank * 2 * ((4 + 12) + (4 + 4) + (4 + 8) + (8 + 4))
    found = {
        method: space.memory_of(configuration(method=method))
        for method in ("full", "freeze", "lora", "head")
    }
    assert found["full"] == pytest.approx(
        expected(everything, before + 2 * activations + after + 10)
    )
    assert found["freeze"] == pytest.approx(expected(block + norm + head, activations + after + 10))
    assert found["lora"] == pytest.approx(
        expected(head + matrices, 2 * activations + after + 10, matrices)
    )
    assert found["head"] == pytest.approx(expected(head, 10))
    sgd = make_space(given, recipe=km.Recipe(epochs=1, optimizer="sgd"), batch_size=batch)
    saved = found["full"] - sgd.memory_of(configuration(method="full"))
    assert saved == pytest.approx(4 * everything / 1e6), "one number less for each weight"
    limited = make_space(given, max_memory_mb=found["full"] - 1e-6, batch_size=batch)
    with pytest.raises(keras_tuner.errors.FailedTrialError, match="MB in training, over max_mem"):
        limited.build(configuration(method="full")).fit()


@pytest.fixture
def fitted(monkeypatch):
    """Replace `model.fit`, so that it trains nothing."""

    def fit(self, *data, **options):
        history = keras.callbacks.History()
        history.history, history.epoch = {"val_accuracy": [0.5, 0.6]}, [0, 1]
        return history

    monkeypatch.setattr(keras.Model, "fit", fit)


def test_load_prepares_images_for_the_backbone(given, fitted):
    """Both preprocessings have the size and the number of channels of the input."""
    space, requests = make_space(given, augmentation="DeiT", batch_size=4), []

    def load(**options):
        requests.append(options)
        return [1] * 3, "validation"

    for name in ("vit", "conv"):
        hp = configuration(backbone=name)
        space.fit(hp, space.build(hp), load=load, epochs=2)
    wide, narrow = (request["preprocessing"] for request in requests)
    assert (wide.size, wide.mean, wide.std) == ((16, 16), (0.5,) * 3, (0.25,) * 3)
    assert wide.crop_fraction == 1.0
    assert (narrow.size, narrow.mean) == ((16, 16), NARROW.mean)
    assert space.preprocessing_of(hp) == narrow
    assert requests[0]["batch_size"] == 4
    assert requests[0]["augmentation"] == km.recipes()["DeiT"].augmentation
    images, labels = np.zeros((4, *SHAPE)), np.zeros(4)
    with pytest.raises(TypeError, match="must be given load.*different preprocessing.*vit, conv"):
        space.fit(hp, space.build(hp), images, labels)
    one = make_space({"vit": given["vit"]})
    hp = configuration()
    assert one.fit(hp, one.build(hp), images, labels, epochs=2).epoch == [0, 1]


def test_latency_is_measured_once_for_each_backbone(given, fitted, monkeypatch):
    measured = []

    def latency(model):
        measured.append([layer.lora_enabled for layer in graph.lora_layers(model)])
        return 7.0

    monkeypatch.setattr(budget, "keras_latency", latency)
    space = make_space(given, max_latency_ms=10.0, method=["lora", "head"])
    load = lambda **options: ([1] * 3, "validation")  # noqa: E731
    for method in ("lora", "head"):
        hp = configuration(method=method)
        history = space.fit(hp, space.build(hp), load=load, epochs=2)
        assert history.history["latency_ms"] == [7.0, 7.0]
    assert measured == [[]], "without LoRA matrices"
    slow = make_space(given, max_latency_ms=5.0)
    with pytest.raises(keras_tuner.errors.FailedTrialError, match="7.0 ms an image, over max_la"):
        slow.fit(hp, slow.build(hp), load=load)
    assert len(measured) == 2
    with pytest.raises(keras_tuner.errors.FailedTrialError, match="7.0 ms an image, over max_la"):
        slow.build(hp).fit()  # which needs no trial any more


@pytest.mark.parametrize(
    ("backbone", "options", "message"),
    [
        ([], {}, "`backbones` must be a list of names, or a dict"),
        (3, {}, "`backbones` must be a list of names, or a dict.*=3"),
        (["a", "a"], {}, "`backbones` must have each name once"),
        ({"a": 3}, {}, "`backbones` must have a dict of arguments.*'a': 3"),
        ("vit_tiny", {}, "`backbones`, 'vit_tiny': `name` must be a name of km.list_models"),
        ({"a": {**VIT, "depht": 3}}, {}, "`backbones`, 'a'.*'depht'. Did you mean 'depth'"),
        ({"a": {**VIT, "num_classes": 3}}, {}, "that the space sets itself. Received: num_classes"),
        ({"a": {**VIT, "patch_size": 5}}, {}, "'a': `patch_size` must divide"),
        ({"a": {**VIT, "weights": "x.npz"}}, {}, "`preprocessing` must be given.*'x.npz'"),
        ({"a": {**VIT, "preprocessing": 3}}, {}, "`preprocessing` must be km.Preprocessing"),
        ({"a": {**VIT, "input_shape": (16, 16, 1)}}, {}, "`mean` must have one number for each"),
        ({"a": {**VIT, "pretrained": 3}}, {}, "'a': `pretrained` must be"),
        ({"a": {**CONV, "pretrained": False}}, {}, "`method` must not have 'lora' if no backbone"),
        ({"a": VIT}, {"method": "lore"}, "`method` must be one of.*Did you mean 'lora'"),
        ({"a": VIT}, {"layer_decay": (0.0, 1.0)}, "`layer_decay` must be above 0 and at most 1"),
        ({"a": VIT}, {"frozen_fraction": 1.5}, "`frozen_fraction` must be above 0 and at most 1"),
        (
            {"a": VIT},
            {"augmentation": "Deit"},
            "`augmentation` must be km.data.*Did you mean 'DeiT'",
        ),
        (
            {"a": VIT},
            {"recipe": km.Recipe(epochs=1, model_arguments={"weights": "x"})},
            "`recipe` must not have model_arguments.*'weights'",
        ),
        (
            {"a": VIT},
            {"recipe": km.Recipe(epochs=1, head_epochs=2)},
            "`recipe` must not have `head_epochs`.*head_epochs=2",
        ),
    ],
)
def test_invalid_argument_is_named(backbone, options, message):
    with pytest.raises((ValueError, TypeError), match=message):
        make_space(backbone, **options)


def test_published_backbones_have_their_preprocessing():
    """Two published models with other images; nothing is downloaded before a trial."""
    names = ["vit_tiny_patch16_224.augreg_in21k", "vit_small_patch14_dinov2.lvd142m"]
    space = km.tuning.HyperFineTune(names, (112, 112, 3), 5)
    rows = km.pretrained()
    for name in names:
        found = space.preprocessing_of(configuration(backbone=name))
        assert (found.mean, found.size) == (rows[name].preprocessing.mean, (112, 112))
        assert space.arguments_of(configuration(backbone=name))["pretrained"] is True


def interrupted_load(load, calls):
    """`load` that the user interrupts in its second call."""

    def interrupted(**options):
        calls.append(options)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return load(**options)

    return interrupted


def test_real_search_is_interrupted_resumed_and_reported(given, files, tmp_path, digits_folder):
    load = functools.partial(km.data.load, "digits", validation_fraction=0.2)
    few = {"epochs": 1, "steps_per_epoch": 2, "validation_steps": 1, "verbose": 0}

    def make_tuner():
        fixed = {"learning_rate": 1e-3, "weight_decay": 0.0, "layer_decay": 0.8}
        space = make_space(given, method=["freeze", "head"], frozen_fraction=0.5, **fixed)
        return keras_tuner.GridSearch(space, "val_accuracy", max_trials=3, directory=tmp_path)

    calls = []
    with pytest.raises(KeyboardInterrupt):
        make_tuner().search(load=interrupted_load(load, calls), **few)
    tuner = make_tuner()
    tuner.search(load=interrupted_load(load, calls), **few)
    assert len(calls) == 1 + 3, "the interrupted trial runs again, the first one does not"
    results = km.tuning.results(tuner)
    assert sorted(trial.value("method") for trial in results.completed) == ["freeze"] * 2 + ["head"]
    assert {trial.value("backbone") for trial in results.completed} == {"vit", "conv"}
    assert {trial.trial_id for trial in results.trials} == set(tuner.oracle.trials)
    assert all(trial.values["method"] in str(results) for trial in results.trials)

    space, best = tuner.hypermodel, results.trials[0].hyperparameters
    model, (trained,) = space.build(best), tuner.get_best_models()
    assert [w.path for w in model.trainable_weights] == [w.path for w in trained.trainable_weights]
    assert space.recipe_of(best, 1).weight_decay == 0.0
    (axes, *_) = km.visualize.plot_search(results, color="method").axes
    assert sum(len(points.get_offsets()) for points in axes.collections) == 3

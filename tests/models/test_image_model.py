"""A model's preprocessing and class names: in its file, checked, and from a dataset's `Info`."""

import copy
import dataclasses

import keras
import pytest
from cases import FAMILIES

import keras_mixers as km
from keras_mixers.models import published
from keras_mixers.weights.catalog import checkpoints

PREPROCESSING = km.Preprocessing((4, 6), crop_fraction=0.9, mean=(0.1, 0.2, 0.3), std=0.5)
NAMES = ("ant", "bee", "cow")
one_backend = pytest.mark.one_backend("the functions do not compute")


def tiny(classes=3, shape=(4, 6, 3), outputs=1):
    """An `ImageModel` without facts, which is built in milliseconds."""
    images = keras.Input(shape)
    x = keras.layers.GlobalAveragePooling2D()(images)
    heads = [keras.layers.Dense(classes, name=f"head_{i}")(x) for i in range(outputs)]
    return km.ImageModel(images, heads[0] if outputs == 1 else heads, name="tiny")


def with_facts():
    model = tiny()
    model.preprocessing, model.class_names = PREPROCESSING, list(NAMES)
    model.multi_label = True
    return model


def facts(model):
    return model.preprocessing, model.class_names


def saved_and_loaded(model, folder):
    model.save(folder / "model.keras")
    return keras.models.load_model(folder / "model.keras")


def test_file_and_copy_have_the_facts(tmp_path):
    model = with_facts()
    loaded = saved_and_loaded(model, tmp_path)
    assert type(loaded) is km.ImageModel
    assert facts(loaded) == facts(copy.deepcopy(loaded)) == (PREPROCESSING, NAMES)
    assert loaded.multi_label is True
    outer = keras.Sequential([keras.Input((4, 6, 3)), model])
    assert facts(saved_and_loaded(outer, tmp_path).layers[0]) == (PREPROCESSING, NAMES)


@one_backend
def test_older_format_of_keras_has_the_facts(tmp_path):
    with_facts().save(tmp_path / "model.h5")
    assert facts(keras.models.load_model(tmp_path / "model.h5")) == (PREPROCESSING, NAMES)


@one_backend
def test_model_without_facts_has_the_config_of_a_functional_model(tmp_path):
    model = tiny()
    plain = keras.Model(model.input, model.output, name="tiny")
    assert model.get_config() == plain.get_config()
    known = ["preprocessing", "class_names", "multi_label"]
    assert list(with_facts().get_config()) == [*plain.get_config(), *known]
    # Earlier releases saved a functional model, which stays one.
    assert not isinstance(saved_and_loaded(plain, tmp_path), km.ImageModel)


@one_backend
def test_every_builder_returns_an_image_model(abstract_weights):
    for case in FAMILIES:
        model = case.make()
        assert type(model) is km.ImageModel
        assert facts(model) == (None, None)


WRONG = {
    "size": ("preprocessing", km.Preprocessing(5), "of the model's size.*takes \\(4, 6\\)"),
    "config": ("preprocessing", {"size": (4, 6)}, "a keras_mixers.Preprocessing"),
    "count": ("class_names", ["a", "b"], "3 strings.*Received: 2"),
    "numbers": ("class_names", [1, 2, 3], "3 strings"),
    "many": ("class_names", ["a"] * 10**6, "3 strings.*more than 3"),
    "text": ("class_names", "abc", "3 strings"),
}


@pytest.mark.parametrize("wrong", WRONG.values(), ids=list(WRONG))
def test_wrong_fact_is_refused_and_the_old_one_stays(wrong):
    name, value, message = wrong
    model = with_facts()
    with pytest.raises((TypeError, ValueError), match=f"`{name}` must.*{message}"):
        setattr(model, name, value)
    assert facts(model) == (PREPROCESSING, NAMES)


@pytest.mark.parametrize("wrong", WRONG.values(), ids=list(WRONG))
@one_backend
def test_wrong_fact_in_a_file_is_named(wrong):
    name, value, message = wrong
    if isinstance(value, km.Preprocessing):
        value = keras.saving.serialize_keras_object(value)
    config = {**with_facts().get_config(), name: value}
    with pytest.raises(ValueError, match=f"model 'tiny' must have a valid '{name}'.*{message}"):
        km.ImageModel.from_config(config)


def test_layer_is_no_preprocessing():
    """On torch an attribute that is a layer takes another way into the model."""
    model = with_facts()
    with pytest.raises(TypeError, match="must be a keras_mixers.Preprocessing"):
        model.preprocessing = PREPROCESSING.layer()
    config = keras.saving.serialize_keras_object(keras.layers.Dense(3))
    with pytest.raises(ValueError, match="must have a valid 'preprocessing'"):
        km.ImageModel.from_config({**model.get_config(), "preprocessing": config})
    assert facts(model) == (PREPROCESSING, NAMES)


@one_backend
def test_one_output_may_have_two_names_and_several_have_none():
    binary = tiny(1)
    for names in (("good", "bad"), ("bad",)):
        binary.class_names = names
        assert binary.class_names == names
    with pytest.raises(ValueError, match="`class_names` must be 2 strings"):
        binary.class_names = NAMES
    maps = tiny(outputs=2)
    maps.preprocessing = PREPROCESSING
    with pytest.raises(ValueError, match="`class_names` must be None for a model with several"):
        maps.class_names = NAMES


def info(**changes):
    flowers = km.data.Info("flowers", (4, 6, 3), NAMES, 9, 1, "train", PREPROCESSING)
    return dataclasses.replace(flowers, **changes)


@one_backend
def test_set_info_sets_all_facts_or_none(recwarn):
    model = tiny()
    model.set_info(info())
    model.set_info(info(preprocessing=dataclasses.replace(PREPROCESSING, std=(0.5,) * 3)))
    assert facts(model)[1] == NAMES and not recwarn
    assert model.multi_label is False
    with pytest.raises(ValueError, match="`class_names` must be 3 strings"):
        model.set_info(info(preprocessing=PREPROCESSING, class_names=("ant",)))
    assert model.preprocessing.std == (0.5,) * 3
    with pytest.raises(TypeError, match="`info` must be the Info of km.data.load"):
        model.set_info(NAMES)


@one_backend
def test_set_info_warns_of_other_colours_than_those_of_the_weights():
    model = with_facts()
    other = dataclasses.replace(PREPROCESSING, mean=0.5)
    with pytest.warns(UserWarning, match=r"another mean.*mean=0.5; the model's: \(0.1, 0.2"):
        model.set_info(info(preprocessing=other))
    assert model.preprocessing == other


IMAGENET = checkpoints()["vit_tiny_patch16_224.augreg_in21k_ft_in1k"]
DINO = checkpoints()["vit_small_patch16_224.dino"]


@one_backend
@pytest.mark.parametrize(
    ("checkpoint", "classes", "shape", "names", "mean"),
    [
        (IMAGENET, 1000, (224, 224, 3), 1000, (0.5, 0.5, 0.5)),
        (IMAGENET, 1000, (32, 48, 1), 1000, 0.5),
        (IMAGENET, 5, (32, 48, 3), None, (0.5, 0.5, 0.5)),
        (DINO, 1000, (224, 224, 3), None, (0.485, 0.456, 0.406)),
        (DINO, 5, (224, 224, 4), None, None),
    ],
)
def test_published_weights_bring_their_facts(checkpoint, classes, shape, names, mean):
    model = published.filled(tiny(classes, shape), None, checkpoint)
    assert (model.class_names and len(model.class_names)) == names
    assert names is None or model.class_names[0] == "tench"
    if mean is None:
        assert model.preprocessing is None
    else:
        colors = {"mean": mean, "std": model.preprocessing.std}
        expected = dataclasses.replace(checkpoint.preprocessing, size=shape[:2], **colors)
        assert model.preprocessing == expected

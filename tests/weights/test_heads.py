"""Which heads load_weights loads and skips, and which layers after the backbone are a user's."""

import goldens
import keras
import numpy as np
import pytest

import keras_mixers as km

VIT = "timm_vit.safetensors"
every = pytest.mark.parametrize("name", goldens.GOLDENS)


def test_head_is_loaded_only_if_it_fits():
    path = goldens.FOLDER / VIT
    model = goldens.make(VIT, num_classes=3)
    before = model.get_layer("head").get_weights()
    report = km.load_weights(model, path)
    assert report.skipped["head.weight"] == "'head.weight' has 10 classes, the model has 3"
    assert set(report.untouched) == {"head/kernel", "head/bias"}
    for one, other in zip(before, model.get_layer("head").get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    with pytest.raises(ValueError, match="`head`='keep' needs a head that fits: 'head.weight' has"):
        km.load_weights(model, path, head="keep")

    model = goldens.make(VIT)
    before = model.get_layer("head").get_weights()
    report = km.load_weights(model, path, head="skip")
    assert set(report.skipped.values()) == {"head='skip'"}
    np.testing.assert_array_equal(before[0], model.get_layer("head").get_weights()[0])


@every
def test_feature_model_loads_without_a_head(name):
    more = {"distillation_token": True} if "distilled" in name else {}
    model = goldens.make(name, num_classes=0, **more)
    report = km.load_weights(model, goldens.FOLDER / name)
    assert not report.untouched
    assert any("head" in key for key in report.skipped)


def test_head_does_not_fit_without_pre_logits():
    name = "google_vit_prelogits.npz"
    model = goldens.make(name, representation_size=None)
    report = km.load_weights(model, goldens.FOLDER / name)
    assert set(report.untouched) == {"head/kernel", "head/bias"}
    assert "pre_logits/kernel" in report.skipped
    with pytest.raises(ValueError, match="pre_logits is only in the file"):
        km.load_weights(model, goldens.FOLDER / name, head="keep")


def with_user_layers(features, *dense):
    """A backbone without its head, followed by layers of a user."""
    x = features.output
    for layer in dense:
        x = layer(x)
    return keras.Model(features.input, x)


def test_head_after_hidden_layer_is_untouched():
    hidden = keras.layers.Dense(64, activation="relu", name="hidden")
    model = with_user_layers(
        goldens.make(VIT, num_classes=0), hidden, keras.layers.Dense(10, name="out")
    )
    report = km.load_weights(model, goldens.FOLDER / VIT)
    assert {path.split("/")[0] for path in report.untouched} == {"hidden", "out"}
    with pytest.raises(ValueError, match="`head`='keep'.*no head that reads the features"):
        km.load_weights(model, goldens.FOLDER / VIT, head="keep")


def test_head_after_dropout_is_loaded():
    head = [keras.layers.Dropout(0.5), keras.layers.Dense(10, name="out")]
    model = with_user_layers(goldens.make(VIT, num_classes=0), *head)
    km.load_weights(model, goldens.FOLDER / VIT, head="keep")
    goldens.assert_golden(model, VIT)


def test_distilled_heads_after_dropout_are_loaded():
    name = "timm_deit_distilled.safetensors"
    body = goldens.make(name)
    normed = body.get_layer("norm").output
    heads = [
        keras.layers.Dense(10, name=f"out_{i}")(
            keras.layers.Dropout(0.1)(km.layers.SelectToken(i)(normed))
        )
        for i in (0, 1)
    ]
    model = keras.Model(body.input, keras.layers.Average()(heads))
    km.load_weights(model, goldens.FOLDER / name, head="keep")
    goldens.assert_golden(model, name)
    on_average = with_user_layers(
        goldens.make(name, num_classes=0), keras.layers.Dense(10, name="out")
    )
    report = km.load_weights(on_average, goldens.FOLDER / name)
    assert set(report.untouched) == {"out/kernel", "out/bias"}


def test_user_norms_are_untouched():
    norm = keras.layers.LayerNormalization(name="mine")
    model = with_user_layers(
        goldens.make(VIT, num_classes=0), norm, keras.layers.Dense(10, name="out")
    )
    report = km.load_weights(model, goldens.FOLDER / VIT)
    assert {"mine/gamma", "mine/beta"} <= set(report.untouched)

    images = keras.Input((32, 32, 3))
    conv = goldens.make("timm_convmixer.safetensors")
    scaled = keras.layers.BatchNormalization(name="mine")(images)
    model = keras.Model(images, conv(scaled))
    report = km.load_weights(model, goldens.FOLDER / "timm_convmixer.safetensors")
    assert len(report.untouched) == 4
    assert report.loaded == len(conv.weights)


def test_damaged_heads_are_refused(tmp_path):
    arrays = goldens.arrays(VIT)
    for change, message in (
        ({"head.bias": None}, "'head.bias' for head/bias"),
        ({"head.weight": arrays["head.weight"].T}, r"'head.weight' has shape \(64, 10\)"),
    ):
        changed = {k: change.get(k, v) for k, v in arrays.items()}
        changed = {k: v for k, v in changed.items() if v is not None}
        path = goldens.write(changed, tmp_path / "vit.safetensors")
        with pytest.raises(ValueError, match=message):
            km.load_weights(goldens.make(VIT), path)


def test_head_keep_needs_a_head():
    with pytest.raises(ValueError, match="`head`='keep' needs a head that fits: the model has no"):
        km.load_weights(goldens.make(VIT, num_classes=0), goldens.FOLDER / VIT, head="keep")


def test_distilled_positions_are_added_to_both_tokens():
    name = "timm_deit_distilled.safetensors"
    model = goldens.make(name, position_prefix=False)
    report = km.load_weights(model, goldens.FOLDER / name)
    goldens.assert_golden(model, name)
    assert {"tokens.class", "tokens.distillation", "positions"} == set(report.adapted)

"""Files in which wrappers precede the names of the weights, or that hold several models."""

import goldens
import numpy as np
import pytest

import keras_mixers as km

VIT = "timm_vit.safetensors"


@pytest.fixture(scope="module")
def model():
    return goldens.make(VIT)


@pytest.fixture(scope="module")
def arrays():
    return goldens.arrays(VIT)


def refuse(model, arrays, tmp_path, *messages):
    """Assert that loading fails with all the messages and that no weight changes."""
    path = goldens.write(arrays, tmp_path / "w.safetensors")
    with goldens.unchanged(model), pytest.raises(ValueError) as caught:
        km.load_weights(model, path)
    for message in messages:
        assert message in str(caught.value)


def under(prefix, arrays):
    return {prefix + key: array for key, array in arrays.items()}


def other(arrays):
    """Other values, which the model must not get."""
    return {key: array + 1 for key, array in arrays.items()}


def load(model, arrays, tmp_path):
    """The report of a load of these arrays into a model whose weights were wrong before."""
    for weight in model.weights:
        weight.assign(np.full(weight.shape, 7, "float32"))
    report = km.load_weights(model, goldens.write(arrays, tmp_path / "w.safetensors"))
    goldens.assert_golden(model, VIT)
    return report


PREFIXES = {
    "": "",
    "module.": "module",
    "_orig_mod.module.": "module",
    "module._orig_mod.": "module",
    "model.": "model",
    "backbone._fsdp_wrapped_module.": "backbone",
    "model.encoder.": "model.encoder",
    "state_dict.image_encoder.visual.trunk.": "state_dict.image_encoder.visual.trunk",
    "my_network.": "my_network",
}


@pytest.mark.parametrize("prefix", PREFIXES)
def test_prefixes_are_removed(prefix, model, arrays, tmp_path):
    report = load(model, under(prefix, arrays), tmp_path)
    assert report.part == PREFIXES[prefix]
    assert not report.skipped
    assert (f" from '{report.part}'" in str(report)) == bool(report.part)


def test_wrappers_of_single_layers_are_removed(model, arrays, tmp_path):
    inside = {
        key.replace(".attn.", "._checkpoint_wrapped_module.attn._orig_mod."): array
        for key, array in arrays.items()
    }
    assert "blocks.0._checkpoint_wrapped_module.attn._orig_mod.qkv.weight" in inside
    assert load(model, under("module.", inside), tmp_path).part == "module"


SEVERAL = {
    "visual.trunk": ["text.", "decoder."],
    "teacher.backbone": ["student.backbone."],
    "model_ema.module": ["model.module."],
    "target_encoder": ["encoder.", "predictor."],
    "state_dict_ema": ["model_ema.", "state_dict.", "model."],
    "state_dict": ["model.", "optimizer.state."],
    "vision_tower": ["audio_tower."],
    "ema.visual": ["ema.text.", "model.visual.", "model.text."],
}


@pytest.mark.parametrize("part", SEVERAL)
def test_one_of_several_models_is_chosen(part, model, arrays, tmp_path):
    several = under(f"{part}.", arrays)
    for prefix in SEVERAL[part]:
        several |= under(prefix, other(arrays))
    report = load(model, several, tmp_path)
    assert report.part == part
    assert report.skipped.keys() == several.keys() - under(f"{part}.", arrays).keys()
    assert set(report.skipped.values()) == {f"outside of '{part}'"}


def test_equal_models_are_refused(model, arrays, tmp_path):
    several = under("a.", arrays) | under("b.", other(arrays))
    refuse(
        model, several, tmp_path, "must hold one model", "with the prefixes 'a.', 'b.'; save one"
    )


def test_many_models_are_refused_at_once(model, arrays, tmp_path):
    one = {"blocks.0.attn.qkv.weight": np.ones(1, "float32")}
    many = {key: a for i in range(20_000) for key, a in under(f"a.{i}.", one).items()}
    refuse(model, many, tmp_path, "must hold one model")
    deep = under("a." * 100_000, one)
    refuse(model, deep, tmp_path, "must name its weights as one of the known formats")


def test_heads_next_to_the_backbone_are_loaded(model, arrays, tmp_path):
    heads = {key: array for key, array in arrays.items() if key.startswith("head.")}
    rest = {key: array for key, array in arrays.items() if key not in heads}
    projector = {"teacher.dino_head.mlp.0.weight": np.ones((4, 4), "float32")}
    several = under("teacher.backbone.", rest) | under("teacher.", heads) | projector
    report = load(model, several, tmp_path)
    assert report.skipped == dict.fromkeys(projector, "outside of 'teacher.backbone'")
    # The head inside comes before a head outside.
    report = load(model, under("backbone.", arrays) | other(heads), tmp_path)
    assert report.skipped == dict.fromkeys(heads, "outside of 'backbone'")


def test_heads_next_to_the_backbone_may_have_other_classes(model, arrays, tmp_path):
    several = under("backbone.", arrays)
    for name in ("weight", "bias"):
        several[f"head.{name}"] = several.pop(f"backbone.head.{name}")[:3]
    path = goldens.write(several, tmp_path / "w.safetensors")
    report = km.load_weights(model, path)
    reason = "'head.weight' has 3 classes, the model has 10"
    assert report.skipped == {"head.bias": reason, "head.weight": reason}


def test_other_weights_outside_are_not_taken(model, arrays, tmp_path):
    several = under("backbone.", arrays)
    several["norm.weight"] = several.pop("backbone.norm.weight")
    messages = "the part 'backbone' of", "missing in the file", "'norm.weight' for norm/gamma"
    refuse(model, several, tmp_path, *messages)


def test_unknown_keys_inside_are_refused(model, arrays, tmp_path):
    several = under("module.", arrays | {"surprise": np.ones(3, "float32")})
    refuse(model, several, tmp_path, "without a place in the model", "'module.surprise' (3,)")

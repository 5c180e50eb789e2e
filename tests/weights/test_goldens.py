"""The models compute the same as the original implementations."""

import goldens
import pytest
import towers
from backends import ON_JAX

import keras_mixers as km
from keras_mixers.weights.formats import FORMATS

pytestmark = pytest.mark.backends

# JAX runs one model of each kind, because the rules of the files do not depend on the backend.
KINDS = ("timm_vit_registers_layerscale_gap", "google_mixer", "timm_convmixer.")
RUN = [name for name in goldens.GOLDENS if not ON_JAX or name.startswith(KINDS)]
# Formats without a golden file, and the test that makes such a file.
DERIVED = {
    "locuslab ConvMixer": "test_layouts.py::test_locuslab_names_load",
    "timm gMLP": "test_save.py::test_gmlp_round_trips_as_timm",
}


@pytest.mark.parametrize("name", RUN)
def test_logits_equal_the_original(name):
    model = goldens.make(name)
    report = km.load_weights(model, goldens.FOLDER / name)
    goldens.assert_golden(model, name)
    assert not report.adapted
    assert not report.untouched
    assert all("counts training steps" in reason for reason in report.skipped.values())
    assert report.loaded == len(model.weights)


# On TensorFlow test_create.py computes the other backbones. JAX runs one of each kind.
BACKBONES = ("facebook_dinov2_reg4", "open_clip")
if ON_JAX:
    BACKBONES = ("clip_quickgelu", "dinov3", "eva02_base", "pe_core", "aimv2")


@pytest.mark.parametrize("name", BACKBONES)
def test_backbones_equal_the_original(name):
    model = towers.make(name)
    km.load_weights(model, towers.path(name))
    towers.assert_equal_to_original(model, name)


@pytest.mark.skipif(ON_JAX, reason="the names of activations do not depend on the backend")
def test_logits_differ_with_the_other_gelu():
    """With the wrong form of GELU the logits differ from the golden file's."""
    for name, wrong in (("timm_vit.safetensors", "gelu_tanh"), ("google_vit_token.npz", "gelu")):
        model = goldens.make(name, activation=wrong)
        km.load_weights(model, goldens.FOLDER / name)
        with pytest.raises(AssertionError):
            goldens.assert_golden(model, name)


def test_every_format_has_a_golden_or_another_test():
    files = [goldens.arrays(name) for name in goldens.GOLDENS]
    files += [towers.arrays(name) for name in towers.OTHERS]
    found = {form.name for form in FORMATS for keys in files if form.recognise(keys)}
    assert found.isdisjoint(DERIVED)
    assert found | set(DERIVED) == {form.name for form in FORMATS}
    for test in DERIVED.values():
        file, name = test.split("::")
        assert f"def {name}(" in (goldens.FOLDER.parent / file).read_text(), test

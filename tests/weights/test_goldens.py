"""The models give the answers of the original implementations."""

import goldens
import pytest
from backends import ON_JAX

import keras_mixers as km

# Under JAX one of each kind of layer: files and their rules are the same on every backend.
KINDS = ("timm_vit_registers_layerscale_gap", "google_mixer", "timm_convmixer.")
ASKED = [name for name in goldens.GOLDENS if not ON_JAX or name.startswith(KINDS)]


@pytest.mark.parametrize("name", ASKED)
def test_logits_are_those_of_the_original(name):
    model = goldens.make(name)
    report = km.load_weights(model, goldens.FOLDER / name)
    goldens.assert_golden(model, name)
    assert not report.adapted
    assert not report.untouched
    assert all("counts training steps" in reason for reason in report.skipped.values())
    assert report.loaded == len(model.weights)


@pytest.mark.skipif(ON_JAX, reason="an activation is named alike on every backend")
def test_the_other_gelu_shows():
    """The declared activation matters: with the wrong one a golden file disagrees."""
    for name, wrong in (("timm_vit.safetensors", "gelu_tanh"), ("google_vit_token.npz", "gelu")):
        model = goldens.make(name, activation=wrong)
        km.load_weights(model, goldens.FOLDER / name)
        with pytest.raises(AssertionError):
            goldens.assert_golden(model, name)

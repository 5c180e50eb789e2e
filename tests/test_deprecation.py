"""Old names still work, warn, and give the same as the new names."""

import pytest

import keras_mixers as km
from keras_mixers.deprecation import renamed_argument


def test_shapes_alone_is_abstract_weights():
    with pytest.warns(DeprecationWarning, match="`shapes_alone` is deprecated.*`abstract_weights`"):
        context = km.shapes_alone()
    with context:
        model = km.ViT("Ti/16", depth=1)
    assert model.count_params() > 0


def test_bounded_is_within_budget():
    with pytest.warns(DeprecationWarning, match="`bounded`.*`within_budget`"):
        with pytest.raises(TypeError, match="`tuner`"):
            km.tuning.bounded(None)


def test_validation_share_is_validation_fraction(digits_folder):
    with pytest.warns(DeprecationWarning, match="`validation_share`.*`validation_fraction`"):
        *_, info = km.data.load("digits", validation_share=0.5)
    with pytest.warns(DeprecationWarning, match="`judged_by`.*`validation_source`"):
        assert info.judged_by == info.validation_source == "train"


@pytest.mark.parametrize("family", ["HyperViT", "HyperMLPMixer", "HyperConvMixer", "HyperHybrid"])
def test_warmup_share_is_warmup_fraction(family):
    space = getattr(km.tuning, family)
    with pytest.warns(DeprecationWarning, match="`warmup_share`.*`warmup_fraction`"):
        made = space(input_shape=(16, 16, 1), num_classes=10, warmup_share=0.25)
    assert made.warmup_fraction == 0.25


def test_old_and_new_argument_raise_together():
    @renamed_argument("old", "new")
    def function(new):
        return new

    with pytest.raises(TypeError, match="`old` is the old name of `new`.*old=1 and new=2"):
        function(old=1, new=2)

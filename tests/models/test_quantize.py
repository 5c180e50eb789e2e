"""Keras's `model.quantize`, on a fresh model of each family."""

import keras
import numpy as np
import pytest
from cases import case

pytestmark = pytest.mark.one_backend("Keras quantizes in the same way on each backend")


# Each family in one mode, and each mode in a model of all mixers.
CASES = [(family, "int8") for family in ("vit_map", "mlp_mixer", "conv_mixer", "hybrid_ACMPG")]
CASES += [("hybrid_ACMPG", mode) for mode in ("int4", "float8")]


@pytest.mark.parametrize(("family", "mode"), CASES)
@pytest.mark.filterwarnings("ignore:Layer .* does not have a `quantize` method:UserWarning")
def test_quantized_model_is_saved(family, mode, tmp_path):
    model = case(family).make(pool="map")  # because only this pooling has products with weights
    images = case(family).images()
    expected = np.asarray(model(images))
    model.quantize(mode)
    quantized = model.predict(images, verbose=0)
    assert np.abs(quantized - expected).max() < 0.6 * np.abs(expected).max()
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded.predict(images, verbose=0), quantized)

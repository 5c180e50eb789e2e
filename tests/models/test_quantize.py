"""Keras's `model.quantize`, on a fresh model of each family."""

import keras
import numpy as np
import pytest
from cases import case

pytestmark = pytest.mark.one_backend("Keras quantizes in the same way on each backend")


@pytest.mark.parametrize("mode", ["int8", "int4", "float8"])
@pytest.mark.parametrize("family", ["vit_map", "mlp_mixer", "conv_mixer", "hybrid_ACMPG"])
@pytest.mark.filterwarnings("ignore:Layer .* does not have a `quantize` method:UserWarning")
def test_quantized_model_is_saved(family, mode, tmp_path):
    model = case(family).make()
    images = case(family).images()
    expected = model.predict(images, verbose=0)
    model.quantize(mode)
    quantized = model.predict(images, verbose=0)
    assert np.abs(quantized - expected).max() < 0.6 * np.abs(expected).max()
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded.predict(images, verbose=0), quantized)

"""Keras's own files, `.keras` and `.weights.h5`, filled in whole or not at all."""

import numpy as np

from keras_mixers.weights.report import LoadReport


def load(model, source, kind):
    """Load by Keras; on any failure the model gets back what it had."""
    before = model.get_weights()
    try:
        model.load_weights(source)
        for weight in model.weights:
            if not np.isfinite(np.asarray(weight, "float32")).all():
                raise ValueError(f"{weight.path} must be finite")
    except Exception as error:
        model.set_weights(before)
        raise ValueError(
            f"`source` does not fit the model, which stays as it was. Received: '{source}': {error}"
        ) from error
    return LoadReport(f"Keras {kind}", len(before), {}, {}, {})

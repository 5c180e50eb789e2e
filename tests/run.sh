#!/usr/bin/env bash
# The whole suite: everything under TensorFlow, then the layers and models under JAX.
# Works from any folder, with the Python that PYTHON names (default: python).
set -eu
cd "$(dirname "$0")/.."
python=${PYTHON:-python}
"$python" -m ruff check .
"$python" -m ruff format --check .
KERAS_BACKEND=jax "$python" -m pytest -n auto tests/layers tests/models
KERAS_BACKEND=tensorflow "$python" -m pytest -n auto

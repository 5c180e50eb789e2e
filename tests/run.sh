#!/usr/bin/env bash
# The whole suite: what computes under JAX, then everything under TensorFlow.
# Works from any folder, with the Python that PYTHON names (default: python).
set -eu
python=$(command -v "${PYTHON:-python}")
python=$(cd "$(dirname "$python")" && pwd)/$(basename "$python")
cd "$(dirname "$0")/.."

# What one worker or process compiled for JAX, the others need not.
JAX_COMPILATION_CACHE_DIR=$(mktemp -d)
export JAX_COMPILATION_CACHE_DIR JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS=0
export JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES=-1
trap 'rm -rf "$JAX_COMPILATION_CACHE_DIR"' EXIT

"$python" -m ruff check .
"$python" -m ruff format --check .
# Under JAX what computes; arguments, sizes and wiring are judged before any backend is asked.
# What is compiled to run once is compiled fast; TensorFlow's half of the suite runs XLA as it is.
XLA_FLAGS="--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true" \
KERAS_BACKEND=jax "$python" -m pytest -n auto tests/layers/test_contract.py \
    tests/layers/test_meaning.py tests/layers/test_user_mixer.py \
    tests/models/test_checkpointing.py tests/models/test_models.py \
    "tests/probe/test_relevance.py::test_relevance_is_gradient_times_attention[gap]" \
    tests/preprocessing tests/training/test_parts.py \
    tests/weights/test_goldens.py
KERAS_BACKEND=tensorflow "$python" -m pytest -n auto

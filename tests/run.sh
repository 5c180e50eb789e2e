#!/usr/bin/env bash
# Run ruff, the tests marked `backends` on JAX and on torch, and then every test on TensorFlow.
#
#     bash tests/run.sh [lint | jax | torch | tensorflow]     # one part only
#
# It works from any folder, with the Python that PYTHON names (default: python).
set -eu
python=$(command -v "${PYTHON:-python}")
python=$(cd "$(dirname "$python")" && pwd)/$(basename "$python")
cd "$(dirname "$0")/.."

lint() {
    "$python" -m ruff check .
    "$python" -m ruff format --check .
}

# XLA optimizes little and in few steps, because each program of the tests runs only a few times. So
# it compiles a training step in a fifth of the time on JAX, and in half on TensorFlow. The test of
# the fused kernels with oneDNN removes these flags, and so compiles them as users do.
quick="--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"
quick="$quick --xla_cpu_use_fusion_emitters=false --xla_cpu_parallel_codegen_split_count=1"
export XLA_FLAGS="$quick"

# The workers share compiled programs.
jax() (
    JAX_COMPILATION_CACHE_DIR=$(mktemp -d)
    trap 'rm -rf "$JAX_COMPILATION_CACHE_DIR"' EXIT
    export JAX_COMPILATION_CACHE_DIR JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS=0
    export JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES=-1
    KERAS_BACKEND=jax "$python" -m pytest -n auto --dist worksteal -m backends
)

# The package does not install torch, because it is large. Slow tests run on the other backends only,
# to save time.
torch() {
    if ! "$python" -c "import importlib.util as u, sys; sys.exit(not u.find_spec('torch'))"; then
        echo "skipped the tests on torch, because torch is not installed"
        return
    fi
    KERAS_BACKEND=torch "$python" -m pytest -n auto --dist worksteal -m "backends and not slow"
}

tensorflow() {
    KERAS_BACKEND=tensorflow "$python" -m pytest -n auto --dist worksteal
}

case "${1:-all}" in
    all)
        lint
        jax
        torch
        tensorflow
        ;;
    lint | jax | torch | tensorflow) "$1" ;;
    *)
        echo "usage: bash tests/run.sh [lint | jax | torch | tensorflow]" >&2
        exit 2
        ;;
esac

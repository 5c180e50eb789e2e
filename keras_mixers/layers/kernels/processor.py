"""Which processor computes, and what it can compute."""

import functools
import pathlib

import keras

CPU_INFO = pathlib.Path("/proc/cpuinfo")
# Names in Linux's list of features: AVX-512 and AMX on x86, then Arm.
BFLOAT16_FEATURES = {"avx512_bf16", "amx_bf16", "bf16"}


@functools.cache
def has_bfloat16():
    """Whether the processor has instructions for products in bfloat16.

    The answer is False where the system does not say it: on systems other than Linux.
    """
    try:
        lines = CPU_INFO.read_text().splitlines()
    except OSError:
        return False
    features = [line for line in lines if line.startswith(("flags", "Features"))]
    return any(BFLOAT16_FEATURES & set(line.split()) for line in features)


def on_cpu(x=None):
    """Whether a CPU computes. On torch, the device of x decides; the other backends need no x."""
    backend = keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        return all(device.device_type == "CPU" for device in tf.config.get_visible_devices())
    if backend == "jax":
        import jax

        return jax.default_backend() == "cpu"
    return getattr(getattr(x, "device", None), "type", None) == "cpu"

"""What the processor can compute."""

import functools
import pathlib

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

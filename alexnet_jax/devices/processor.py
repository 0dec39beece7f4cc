"""What the machine's processor can do, as far as XLA's options depend on it."""

import re
from functools import lru_cache
from pathlib import Path

CPUINFO = Path("/proc/cpuinfo")  # Linux only; elsewhere nothing is known
BFLOAT16_FLAGS = {"avx512_bf16", "amx_bf16"}


@lru_cache
def multiplies_bfloat16() -> bool:
    """Whether the processor has instructions for bfloat16 products: AVX512-BF16 or AMX."""
    try:
        flags = re.search(r"^flags\s*:(.*)$", CPUINFO.read_text(), re.MULTILINE)
    except OSError:
        return False
    return bool(flags and BFLOAT16_FLAGS & set(flags[1].split()))

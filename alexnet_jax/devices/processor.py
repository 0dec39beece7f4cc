"""What a machine's processor can do that decides how XLA is to compile for it."""

import re
from functools import lru_cache
from pathlib import Path

TOLD = Path("/proc/cpuinfo")  # Linux's; elsewhere nothing is known
OF_BFLOAT16 = {"avx512_bf16", "amx_bf16"}


@lru_cache
def multiplies_bfloat16() -> bool:
    """Whether it has instructions for products of bfloat16: AVX512-BF16 or AMX."""
    try:
        flags = re.search(r"^flags\s*:(.*)$", TOLD.read_text(), re.MULTILINE)
    except OSError:
        return False
    return bool(flags and OF_BFLOAT16 & set(flags[1].split()))

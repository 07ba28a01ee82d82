"""x86-64: AVX-512 servers (v4; some multiply bfloat16), AVX2 (v3), and every 64-bit CPU (baseline,
SSE2 without FMA).
"""

from __future__ import annotations

import os
import platform
from dataclasses import replace
from functools import lru_cache

from rabbet.base.target import Target

_BASELINE = "+cx8,+fxsr,+mmx,+sse,+sse2,+x87"
_V3 = (
    f"{_BASELINE},+sahf,+cx16,+popcnt,+sse3,+ssse3,+sse4.1,+sse4.2,+crc32,+xsave,+avx,+avx2"
    ",+fma,+f16c,+bmi,+bmi2,+lzcnt,+movbe"
)
_V4 = f"{_V3},+avx512f,+avx512cd,+avx512bw,+avx512dq,+avx512vl,+evex512"


def _triple() -> str:
    return "x86_64-unknown-linux-gnu"


x86_v4 = Target(
    name="x86_v4",
    triple=_triple(),
    cpu="x86-64-v4",
    features=_V4,
    vector_bits=512,
    registers=32,
    l1_bytes=32 << 10,
    l2_bytes=1 << 20,
    l3_bytes=16 << 20,
    has_fma=True,
)
x86_v4_bf16 = replace(x86_v4, name="x86_v4_bf16", features=f"{_V4},+avx512bf16")
x86_v3 = Target(
    name="x86_v3",
    triple=_triple(),
    cpu="x86-64-v3",
    features=_V3,
    vector_bits=256,
    registers=16,
    l1_bytes=32 << 10,
    l2_bytes=256 << 10,
    l3_bytes=8 << 20,
    has_fma=True,
)
x86_baseline = Target(
    name="x86_baseline",
    triple=_triple(),
    cpu="x86-64",
    features=_BASELINE,
    vector_bits=128,
    registers=16,
    l1_bytes=32 << 10,
    l2_bytes=256 << 10,
    l3_bytes=4 << 20,
    has_fma=False,
)
TARGETS = (x86_v4_bf16, x86_v4, x86_v3, x86_baseline)

# What /proc/cpuinfo calls the features that a record needs beyond the baseline.
_FLAGS_V3 = {"avx2", "fma", "bmi1", "bmi2", "f16c", "abm", "movbe", "sse4_2", "popcnt", "xsave"}
_FLAGS_V4 = _FLAGS_V3 | {"avx512f", "avx512cd", "avx512bw", "avx512dq", "avx512vl"}
_FLAGS_V4_BF16 = _FLAGS_V4 | {"avx512_bf16"}


def runnable() -> tuple[Target, ...]:
    """The records this machine can run, best first; none on another architecture."""
    if platform.machine().lower() not in ("x86_64", "amd64"):
        return ()
    flags = cpu_flags()
    wanted: tuple[tuple[Target, set[str]], ...] = (
        (x86_v4_bf16, _FLAGS_V4_BF16),
        (x86_v4, _FLAGS_V4),
        (x86_v3, _FLAGS_V3),
        (x86_baseline, set()),
    )
    return tuple(target for target, needed in wanted if needed <= flags)


@lru_cache(maxsize=1)
def cpu_flags() -> frozenset[str]:
    """The CPU's feature names as the kernel lists them; empty where there is no such list."""
    if not os.path.exists("/proc/cpuinfo"):
        return frozenset()
    with open("/proc/cpuinfo", encoding="utf-8") as lines:
        for line in lines:
            if line.startswith("flags"):
                return frozenset(line.split(":", 1)[1].split())
    return frozenset()

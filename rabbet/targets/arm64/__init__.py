"""ARM64 (AArch64): every 64-bit ARM CPU has NEON, 32 vector registers of 128 bits, and FMA."""

from __future__ import annotations

import platform

from rabbet.base.target import Target

arm64 = Target(
    name="arm64",
    triple="aarch64-unknown-linux-gnu",
    cpu="generic",
    features="+v8a,+fp-armv8,+neon",
    vector_bits=128,
    registers=32,
    l1_bytes=32 << 10,
    l2_bytes=512 << 10,
    l3_bytes=4 << 20,
    has_fma=True,
)
TARGETS = (arm64,)


def runnable() -> tuple[Target, ...]:
    """The records this machine can run; none on another architecture."""
    here = platform.system() == "Linux" and platform.machine().lower() in ("aarch64", "arm64")
    return TARGETS if here else ()

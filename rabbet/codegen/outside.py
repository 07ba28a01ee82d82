"""What compiled code rests on that is not ours: functions of the C library, and LLVM's version."""

from __future__ import annotations

import llvmlite

ALLOWED_SYMBOLS = frozenset({"memcpy", "memset", "memmove"})


def llvm_version() -> str:
    """What is known of LLVM without loading it: llvmlite's version, whose wheels bring one each."""
    return str(llvmlite.__version__)

"""The Target record: what the compiler must know of a machine, as plain data."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Target:
    """One machine. Records live in `rabbet/targets/<family>/__init__.py`."""

    name: str
    triple: str
    cpu: str  # LLVM's name
    features: str  # LLVM's feature string, explicit
    vector_bits: int
    registers: int  # vector registers
    l1_bytes: int
    l2_bytes: int
    l3_bytes: int
    has_fma: bool
    tile_rows: int = (
        0  # contract: rows (m) and vectors (n) of the register tile; 0: chosen from the registers
    )
    tile_vectors: int = 0

    def lanes(self, bits: int) -> int:
        """Elements of `bits` in one vector register."""
        return self.vector_bits // bits

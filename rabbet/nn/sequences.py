"""Sequences of several lengths as one tensor (PyTorch's `nn.utils.rnn`)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rabbet.base.errors import ShapeError
from rabbet.base.shapes import show
from rabbet.tensor import Tensor, asarray, functions


def pad_sequence(
    sequences: Sequence[Any],
    batch_first: bool = False,
    padding_value: float = 0.0,
    padding_side: str = "right",
) -> Tensor:
    """Sequences (length, ...) side by side, the shorter ones filled up: (longest, batch, ...).

    With `batch_first` (batch, longest, ...). Raises ShapeError where further sizes differ.

    >>> pad_sequence([rb.ones(2), rb.ones(3)], batch_first=True).tolist()
    [[1.0, 1.0, 0.0], [1.0, 1.0, 1.0]]
    """
    parts = [asarray(s) for s in sequences]
    if not parts or any(not p.ndim or p.shape[1:] != parts[0].shape[1:] for p in parts):
        listed = ", ".join(show(p.shape) for p in parts)
        raise ShapeError(f"pad_sequence: {listed}: sequences that differ in axis 0 alone needed")
    if padding_side not in ("right", "left"):
        raise ValueError(f"pad_sequence: padding_side={padding_side!r} must be 'right' or 'left'")
    longest = max(p.shape[0] for p in parts)
    filled = []
    for p in parts:
        missing = (longest - p.shape[0], *(0,) * (p.ndim - 1))
        none = (0,) * p.ndim
        low, high = (none, missing) if padding_side == "right" else (missing, none)
        filled.append(functions["pad"](p, low, high, none, padding_value))
    return functions["stack"](filled, 0 if batch_first else 1)


def unpad_sequence(padded: Tensor, lengths: Any, batch_first: bool = False) -> list[Tensor]:
    """The sequences of `pad_sequence` again, from their lengths.

    >>> [s.tolist() for s in unpad_sequence(rb.ones((2, 3)), [1, 3], batch_first=True)]
    [[1.0], [1.0, 1.0, 1.0]]
    """
    rows = padded if batch_first else functions["swapaxes"](padded, 0, 1)
    counts = [int(n) for n in (lengths.tolist() if hasattr(lengths, "tolist") else lengths)]
    return [rows[i, :n] for i, n in enumerate(counts)]

"""Sample and Draw: what the generated tests feed to an op, written beside its declaration.

Takes no op in particular; `arrays` turns a Sample into NumPy operands and the op's `form`.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from rabbet.base.dtypes import DType, dtype_of

FLOATS = ("float32", "float64")
COMPLEX = ("complex64", "complex128")
HALVES = ("float16", "bfloat16")
SIGNED = ("int8", "int16", "int32", "int64")
UNSIGNED = ("uint8", "uint16", "uint32", "uint64")
INTEGERS = SIGNED + UNSIGNED
NUMERIC = INTEGERS + FLOATS
ALL = ("bool", *NUMERIC)

_MARGIN = 0.25  # distance kept from values to avoid: far more than a finite difference's step


@dataclass(frozen=True)
class Draw:
    """How to draw one operand.

    kind: "float" (the dtype under test, between low and high; whole numbers for integers),
    "positive" (the same, at least 0.5), "distinct" (the same, no two elements alike), "int" (int64
    from low up to but not including high), "bool", "definite" (symmetric positive definite matrices
    in the last two axes), "regular" (matrices far from singular ones). `dtype` fixes the dtype
    instead. `avoid` are values near which an op has no derivative; elements keep away from them.
    """

    shape: tuple[int, ...]
    low: float = -2.0
    high: float = 2.0
    kind: str = "float"
    avoid: tuple[float, ...] = ()
    dtype: str | None = None

    @property
    def swept(self) -> bool:
        """True where the operand takes the dtype under test."""
        return self.dtype is None and self.kind not in _OWN


@dataclass(frozen=True)
class Sample:
    """One case: a Draw per operand parameter (None: left out; a tuple: a list), and attributes.

    `dtypes`: dtypes under test (default float32, float64). `grad`: False where the gradient is not
    to be compared with finite differences. `tolerance`: relative error allowed in float32.
    """

    operands: tuple[Draw | None | tuple[Draw, ...], ...]
    attrs: dict[str, Any] = field(default_factory=dict)
    dtypes: tuple[str, ...] = FLOATS
    grad: bool = True
    tolerance: float | None = None


def draws(sample: Sample) -> list[Draw]:
    """The Draws of a Sample, flat: one per flat operand."""
    flat: list[Draw] = []
    for operand in sample.operands:
        if isinstance(operand, Draw):
            flat.append(operand)
        elif operand is not None:
            flat.extend(operand)
    return flat


def form(sample: Sample) -> tuple[int, ...]:
    """How the flat operands fall on the parameters (see graph/op.py)."""
    codes = []
    for operand in sample.operands:
        if operand is None:
            codes.append(-1)
        else:
            codes.append(1 if isinstance(operand, Draw) else 2 + len(operand))
    return () if all(c == 1 for c in codes) else tuple(codes)


def arrays(sample: Sample, dtype: str, seed: int = 0) -> list[np.ndarray]:
    """Flat operands for one dtype under test; the same for the same seed."""
    generator = np.random.default_rng(seed)
    return [array(d, dtype, generator) for d in draws(sample)]


def drawn_dtype(draw: Draw, dtype: str) -> DType:
    """What an operand is drawn in when `dtype` is under test."""
    return dtype_of(draw.dtype or (dtype if draw.swept else _OWN[draw.kind]))


def array(draw: Draw, dtype: str, generator: np.random.Generator) -> np.ndarray:
    """One operand."""
    wanted = drawn_dtype(draw, dtype)
    if wanted.kind == "b":
        return generator.integers(0, 2, draw.shape).astype(bool)
    if draw.kind == "int":
        return generator.integers(int(draw.low), int(draw.high), draw.shape, wanted.numpy)
    low = max(draw.low, 0.5) if draw.kind == "positive" else draw.low
    if wanted.is_integer:
        return _whole(draw, low, wanted, generator)
    if wanted.kind == "c":
        part = replace(draw, dtype="float64")
        pair = [array(part, "float64", generator) for _ in range(2)]
        return np.asarray(pair[0] + 1j * pair[1]).astype(wanted.numpy)
    if draw.kind in ("definite", "regular"):
        return _matrices(draw, generator).astype(wanted.numpy)
    if draw.kind == "distinct":
        count = int(np.prod(draw.shape))
        found = generator.permutation(np.linspace(low, draw.high, count)).reshape(draw.shape)
    else:
        found = generator.uniform(low, draw.high, draw.shape)
    for point in draw.avoid:
        side = np.where(found < point, -_MARGIN, _MARGIN)
        found = np.where(np.abs(found - point) < _MARGIN, point + side, found)
    return np.asarray(found).astype(wanted.numpy)


def _matrices(draw: Draw, generator: np.random.Generator) -> np.ndarray:
    """Matrices with eigenvalues (singular values) well apart from one another and from 0."""
    rows, columns = draw.shape[-2:]
    found = generator.uniform(-0.5, 0.5, draw.shape)
    if draw.kind == "definite":
        found = found @ np.swapaxes(found, -1, -2)
    return np.asarray(found + np.eye(rows, columns) * (1 + np.arange(columns)))


def _whole(draw: Draw, low: float, wanted: DType, generator: np.random.Generator) -> np.ndarray:
    """Whole numbers from low to high, or next to them where there are none."""
    first, last = int(np.ceil(low)), int(np.floor(draw.high))
    if first > last:
        first, last = last, first
    if wanted.kind == "u":
        first, last = max(first, 0), max(last, 0)
    if draw.kind == "distinct":
        count = int(np.prod(draw.shape))
        return (first + generator.permutation(count)).reshape(draw.shape).astype(wanted.numpy)
    return generator.integers(first, last, draw.shape, endpoint=True).astype(wanted.numpy)


_OWN = {"int": "int64", "bool": "bool"}

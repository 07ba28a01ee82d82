"""Random numbers as pure functions of a key and an offset (Philox4x32-10): they fuse and repeat.

Key and offset are 0-d uint64 operands. A block of four words has one offset; an op draws one uint32
word per element (two for 64-bit numbers), so it needs a range of ceil(words / 4) offsets.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from rabbet.base import dtypes
from rabbet.base.dtypes import DType, int64, uint32, uint64
from rabbet.base.errors import DTypeError
from rabbet.base.shapes import Shape
from rabbet.base.sizes import Dim
from rabbet.base.spec import Spec
from rabbet.expr import philox
from rabbet.expr.expr import Expr, const
from rabbet.graph.op import Flags, op
from rabbet.graph.sample import Draw, Sample
from rabbet.graph.value import Value
from rabbet.ops.arithmetic import (
    add,
    cast,
    divide,
    multiply,
    remainder,
    subtract,
)
from rabbet.ops.bits import bitwise_left_shift, bitwise_or, bitwise_right_shift
from rabbet.ops.compare import greater_equal, less, where
from rabbet.ops.create import shape_of
from rabbet.ops.index_maps import Dims, Index, reshape, slice_
from rabbet.ops.special import erfinv

# ---- the primitive -------------------------------------------------------------------------------


def _bits_spec(key: Spec, offset: Spec, shape: Shape) -> Spec:
    for name, spec in (("key", key), ("offset", offset)):
        if spec.shape != () or spec.dtype is not uint64:
            raise DTypeError(f"random_bits: {name} is {spec}, it must be uint64()")
    return Spec(shape_of("random_bits", shape), uint32, key.device)


def _bits_lower(index: Index, dims: Dims, key: Expr, offset: Expr, shape: Shape) -> Expr:
    place = const(0, int64)
    for i, size in zip(index, shape, strict=True):
        place = place * dims(size) + i
    return philox.random_bits(key, offset, place)


def _bits_array(key: np.ndarray, offset: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Philox4x32-10 in NumPy: 32-bit words held in uint64."""
    count, low = int(np.prod(shape)), np.uint64(0xFFFFFFFF)
    half = np.uint64(32)
    block: np.ndarray = offset + np.arange((count + 3) // 4, dtype=np.uint64)
    c0, c1 = block & low, block >> half
    c2, c3 = (np.zeros(block.shape, np.uint64) for _ in range(2))
    k0, k1 = int(key) & 0xFFFFFFFF, int(key) >> 32
    for _ in range(10):
        p0, p1 = c0 * np.uint64(0xD2511F53), c2 * np.uint64(0xCD9E8D57)
        c0, c1, c2, c3 = (
            (p1 >> half) ^ c1 ^ np.uint64(k0),
            p1 & low,
            (p0 >> half) ^ c3 ^ np.uint64(k1),
            p0 & low,
        )
        k0, k1 = (k0 + 0x9E3779B9) & 0xFFFFFFFF, (k1 + 0xBB67AE85) & 0xFFFFFFFF
    words = np.stack([c0, c1, c2, c3], -1).reshape(-1)[:count]
    return words.astype(np.uint32).reshape(shape)


_KEY = Draw((), 0, 2**62, "int", dtype="uint64")


def _random_samples(**attrs: Any) -> list[Sample]:
    shapes = ((3, 5), (), (0,), (2, 3, 4))
    return [Sample((_KEY, _KEY), {"shape": s} | attrs) for s in shapes]


@op(
    "source",
    public=False,
    differentiable=False,
    sizes=("shape",),
    infer=_bits_spec,
    lower=_bits_lower,
    reference=_bits_array,
    samples=_random_samples,
)
def random_bits(key: Value, offset: Value, shape: tuple[Dim, ...]) -> Value:
    """uint32 words: element i (row-major) is word i % 4 of the block at offset + i // 4."""


@random_bits.batching
def _random_bits_batch(size: int, flags: Flags, key: Any, offset: Any, shape: Shape) -> Any:
    return random_bits(key, offset, (size, *shape))


# ---- distributions -------------------------------------------------------------------------------


def _float_dtype(name: str, dtype: DType | None) -> DType:
    found = dtypes.default_float if dtype is None else dtype
    if found not in (dtypes.float32, dtypes.float64):
        raise DTypeError(f"{name}: {found.name} is not supported; draw float32 and cast")
    return found


def _two_words(key: Any, offset: Any, shape: Any) -> tuple[Any, Any]:
    """Two uint32 tensors of `shape`."""
    shape = shape_of("random", shape)
    words = random_bits(key, offset, (*shape, 2))
    zero = (0,) * len(shape)
    one = (1,) * (len(shape) + 1)
    first = slice_(words, (*zero, 0), (*shape, 1), one)
    second = slice_(words, (*zero, 1), (*shape, 2), one)
    return reshape(first, shape), reshape(second, shape)


def _words_array(key: Any, offset: Any, shape: Any) -> tuple[np.ndarray, np.ndarray]:
    words = _bits_array(key, offset, (*shape, 2)).astype(np.uint64)
    return words[..., 0], words[..., 1]


def _uniform_array(key: Any, offset: Any, shape: Any, dtype: DType | None) -> np.ndarray:
    if (dtype or dtypes.default_float) is dtypes.float32:
        return np.ldexp((_bits_array(key, offset, shape) >> 8).astype(np.float32), -24)
    high, low = _words_array(key, offset, shape)
    return np.ldexp(((high >> 5) * 2**26 + (low >> 6)).astype(np.float64), -53)


def _both_floats() -> list[Sample]:
    return [*_random_samples(dtype=None), *_random_samples(dtype=dtypes.float64)]


@op(
    "composite",
    public=False,
    differentiable=False,
    sizes=("shape",),
    reference=_uniform_array,
    samples=_both_floats,
    onnx="RandomUniform",
)
def uniform(key: Value, offset: Value, shape: tuple[Dim, ...], dtype: DType | None = None) -> Value:
    """Numbers in [0, 1): multiples of 2**-24 (float32) or 2**-53 (float64)."""
    of = _float_dtype("uniform", dtype)
    if of is dtypes.float32:
        bits = bitwise_right_shift(random_bits(key, offset, shape), 8)
        return multiply(cast(bits, of), 2.0**-24)
    high, low = _two_words(key, offset, shape)
    upper = multiply(cast(bitwise_right_shift(high, 5), of), 2.0**-27)
    return add(upper, multiply(cast(bitwise_right_shift(low, 6), of), 2.0**-53))


def _normal_array(key: Any, offset: Any, shape: Any, dtype: DType | None) -> np.ndarray:
    of = dtype or dtypes.default_float
    if of is dtypes.float32:
        odd = (_bits_array(key, offset, shape) >> 9).astype(np.float64) * 2 + 1
        centred = odd / 2**23 - 1
    else:
        high, low = _words_array(key, offset, shape)
        odd = ((high >> 6) * 2**26 + (low >> 6)).astype(np.float64) * 2 + 1
        centred = odd / 2**52 - 1
    found = np.sqrt(2.0) * np.asarray(erfinv.reference(centred))
    return found.astype(of.numpy)


@op(
    "composite",
    public=False,
    differentiable=False,
    sizes=("shape",),
    reference=_normal_array,
    samples=_both_floats,
    onnx="RandomNormal",
)
def normal(key: Value, offset: Value, shape: tuple[Dim, ...], dtype: DType | None = None) -> Value:
    """Standard normal numbers by the inverse of their distribution: one uniform number each."""
    of = _float_dtype("normal", dtype)
    # Odd multiples of a power of two in (-1, 1): exact, symmetric, never -1 or 1.
    if of is dtypes.float32:
        bits = cast(bitwise_right_shift(random_bits(key, offset, shape), 9), of)
        centred = subtract(multiply(add(multiply(bits, 2.0), 1.0), 2.0**-23), 1.0)
    else:
        high, low = _two_words(key, offset, shape)
        upper = multiply(cast(bitwise_right_shift(high, 6), of), 2.0**26)
        bits = add(upper, cast(bitwise_right_shift(low, 6), of))
        centred = subtract(multiply(add(multiply(bits, 2.0), 1.0), 2.0**-52), 1.0)
    return multiply(erfinv(centred), math.sqrt(2.0))


def _randint_array(
    key: Any, offset: Any, low: Any, high: Any, shape: Any, dtype: DType | None
) -> np.ndarray:
    first, second = _words_array(key, offset, shape)
    wide = (first << np.uint64(32)) | second
    span = np.asarray(int(high) - int(low), np.uint64)
    found = (wide % span).astype(np.int64) + int(low)
    return found.astype((dtype or int64).numpy)


@op(
    "composite",
    public=False,
    differentiable=False,
    sizes=("shape",),
    reference=_randint_array,
    samples=lambda: [
        Sample(
            (_KEY, _KEY, Draw((), -9, 0, "int"), Draw((), 1, 99, "int")),
            {"shape": s, "dtype": d},
        )
        for s, d in (((3, 5), None), ((), None), ((0,), None), ((4,), dtypes.int32))
    ],
)
def randint(
    key: Value,
    offset: Value,
    low: Value,
    high: Value,
    shape: tuple[Dim, ...],
    dtype: DType | None = None,
) -> Value:
    """Whole numbers in [low, high), from 64 bits each; int64 unless told.

    >>> rb.randint(0, 5, (2, 3)).shape
    (2, 3)
    """
    first, second = _two_words(key, offset, shape)
    wide = bitwise_or(bitwise_left_shift(cast(first, uint64), 32), cast(second, uint64))
    low = cast(low, int64)
    span = cast(subtract(cast(high, int64), low), uint64)
    return cast(add(cast(remainder(wide, span), int64), low), dtype or int64)


def _bernoulli_array(p: np.ndarray, key: Any, offset: Any) -> np.ndarray:
    return _uniform_array(key, offset, p.shape, dtypes.float32) < p.astype(np.float32)


@op(
    "composite",
    public=False,
    differentiable=False,
    reference=_bernoulli_array,
    samples=lambda: [Sample((Draw(s, 0, 1), _KEY, _KEY)) for s in ((3, 5), (), (0,))],
    onnx="Bernoulli",
)
def bernoulli(p: Value, key: Value, offset: Value) -> Value:
    """True with the probability given by every element of `p`: (*s) -> bool (*s)."""
    if not p.dtype.is_float:
        raise DTypeError(f"bernoulli: probabilities are {p.dtype.name}, floats are needed")
    return less(uniform(key, offset, p.shape, dtypes.float32), cast(p, dtypes.float32))


def _dropout_array(x: np.ndarray, p: np.ndarray, key: Any, offset: Any) -> np.ndarray:
    kept = _uniform_array(key, offset, x.shape, dtypes.float32) >= p.astype(np.float32)
    return np.where(kept, x / (1 - p.astype(x.dtype)), x.dtype.type(0))


@op(
    "composite",
    method=None,
    public=False,
    reference=_dropout_array,
    samples=lambda: [
        Sample((Draw(s), Draw((), 0.2, 0.7, dtype="float32"), _KEY, _KEY))
        for s in ((3, 5), (), (0,), (2, 40))
    ],
    onnx="Dropout",
)
def dropout(x: Value, p: Value, key: Value, offset: Value) -> Value:
    """`x` with each element set to 0 with probability `p`, the others divided by 1 - p."""
    if not x.dtype.is_float or not p.dtype.is_float or p.ndim:
        raise DTypeError(f"dropout: input {x.dtype.name} and p {p.dtype.name} must be floats")
    kept = greater_equal(uniform(key, offset, x.shape, dtypes.float32), cast(p, dtypes.float32))
    return where(kept, divide(x, subtract(1.0, cast(p, x.dtype))), 0.0)


@dropout.gradient
def _dropout_gradient(
    g: Any, y: Any, x: Any, p: Any, key: Any, offset: Any
) -> tuple[Any, None, None, None]:
    # The same key and offset give the same mask again, so nothing needs to be kept.
    return dropout(g, p, key, offset), None, None, None

"""Running contractions, and a model of their order of additions."""

from __future__ import annotations

import ctypes
import mmap
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction

import numpy as np

from rabbet.base.dtypes import DType, bfloat16, dtype_of, float32, int64
from rabbet.base.target import Target
from rabbet.codegen.build import build, launch
from rabbet.codegen.library import Library
from rabbet.codegen.machine import object_code
from rabbet.expr.expr import Expr, acc, const, load, size, var
from rabbet.expr.interpret import evaluate
from rabbet.kernel.loops import CONTRACT_BLOCK, ContractKernel, Kernel, Operand, Store
from rabbet.kernel.sums import has_pairs, sum_dtype
from rabbet.targets.x86 import runnable

TARGETS = runnable()

_libraries: dict[tuple[Kernel, str], Library] = {}


# ---------------------------------------------------------------------- running


def number(e: Expr, sizes: Sequence[int]) -> int:
    """The value of an expression over size(n)."""
    return int(evaluate((e,), lambda leaf: np.int64(sizes[leaf.value]))[0])


def run(
    kernel: Kernel,
    target: Target,
    arrays: Sequence[np.ndarray],
    sizes: Sequence[int],
    cuts: Sequence[int] = (),
) -> None:
    """Run a kernel in ranges of tasks cut at `cuts`; the outputs among `arrays` are written."""
    key = (kernel, target.name)
    if key not in _libraries:
        code = build(kernel, target)
        _libraries[key] = Library({code.name: object_code(code.text, target)})
    shape = launch(kernel, target)
    tasks, scratch_bytes = number(shape.tasks, sizes), number(shape.scratch_bytes, sizes)
    assert number(shape.cost, sizes) >= 0
    scratch = aligned(scratch_bytes + 64)
    scratch[:] = 0xA5
    entry = ctypes.CFUNCTYPE(
        None, *[ctypes.c_void_p] * 2, *[ctypes.c_int64] * 2, *[ctypes.c_void_p] * 2
    )
    (address,) = _libraries[key].addresses.values()
    function = entry(address)
    pointers = (ctypes.c_void_p * len(arrays))(*[a.ctypes.data for a in arrays])
    numbers = (ctypes.c_int64 * max(1, len(sizes)))(*sizes)
    status = (ctypes.c_int64 * 5)()
    edges = [0, *[c for c in cuts if c < tasks], tasks]
    for begin, end in zip(edges, edges[1:], strict=False):
        function(pointers, numbers, begin, end, scratch.ctypes.data, status)
    assert bytes(scratch[scratch_bytes:]) == b"\xa5" * 64, (
        "the kernel wrote past its scratch memory"
    )


def aligned(count: int) -> np.ndarray:
    """Bytes that begin on a cache line."""
    raw = np.zeros(count + 64, np.uint8)
    return raw[-raw.ctypes.data % 64 :][:count]


# ---------------------------------------------------------------------- the model


def fma(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> np.ndarray:
    """a * b + c rounded once."""
    if a.dtype == np.float32:
        product, addend = a.astype(np.float64) * b.astype(np.float64), c.astype(np.float64)
        total = product + addend
        part = total - product
        error = (product - (total - part)) + (addend - part)
        bits = total.view(np.int64)
        # round to odd in float64, so that rounding to float32 happens once
        toward = np.where((error > 0) == (total > 0), 1, -1)
        odd = np.where(
            (error != 0) & (bits & 1 == 0), np.where(toward > 0, bits, bits - 1) | 1, bits
        )
        return odd.view(np.float64).astype(np.float32)
    flat = [
        float(Fraction(x) * Fraction(y) + Fraction(z))
        for x, y, z in zip(a.ravel().tolist(), b.ravel().tolist(), c.ravel().tolist(), strict=True)
    ]
    return np.array(flat, a.dtype).reshape(a.shape)


def model(a: np.ndarray, b: np.ndarray, target: Target) -> np.ndarray:
    """The sums of a[..., m, k] with b[..., n, k] in the order that every contraction keeps."""
    batch = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    m, n, k = a.shape[-2], b.shape[-2], a.shape[-1]
    if dtype_of(a.dtype).is_half:
        if a.dtype == bfloat16.numpy and has_pairs(target):
            return model_of_pairs(a, b)
        a, b = a.astype(np.float32), b.astype(np.float32)
    total = np.zeros((*batch, m, n), a.dtype)
    for begin in range(0, k, CONTRACT_BLOCK):
        part = np.zeros_like(total)
        for i in range(begin, min(begin + CONTRACT_BLOCK, k)):
            x = np.broadcast_to(a[..., :, None, i], total.shape)
            y = np.broadcast_to(b[..., None, :, i], total.shape)
            if target.has_fma and a.dtype.kind == "f":
                part = fma(np.ascontiguousarray(x), np.ascontiguousarray(y), part)
            else:
                part = x * y + part
        total = part if begin == 0 else total + part
    return total


def model_of_pairs(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """`model` on a machine that adds the second product of a pair, then the first.

    For numbers far from the smallest, where nothing is taken for zero.
    """
    a, b = (np.pad(x, [(0, 0)] * (x.ndim - 1) + [(0, x.shape[-1] % 2)]) for x in (a, b))
    order = np.arange(a.shape[-1]) ^ 1
    x, y = (v[..., order].astype(np.float32) for v in (a, b))
    return model(x, y, TARGETS[0])


def numbers_of(dtype: DType, shape: Sequence[int], seed: int) -> np.ndarray:
    """Random numbers whose sums round often."""
    draw = np.random.default_rng(seed)
    if dtype.is_float:
        return draw.standard_normal(shape).astype(dtype.numpy)
    limits = np.iinfo(dtype.numpy)
    return draw.integers(limits.min, limits.max, shape, dtype.numpy)


def check(found: np.ndarray, wanted: np.ndarray) -> None:
    """The same bits."""
    kind = np.dtype(f"u{found.itemsize}")
    bad = np.argwhere(found.view(kind) != wanted.view(kind))
    assert not len(bad), f"{len(bad)} of {found.size} differ, first at {bad[0]}"


# ---------------------------------------------------------------------- kernels


def guarded(values: np.ndarray) -> np.ndarray:
    """A copy that ends where a page begins that nobody may touch."""
    page = mmap.PAGESIZE
    pages = -(-values.nbytes // page)
    memory = mmap.mmap(-1, (pages + 1) * page)
    address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    libc = ctypes.CDLL(None, use_errno=True)
    forbidden = ctypes.c_void_p(address + pages * page)
    assert libc.mprotect(forbidden, ctypes.c_size_t(page), 0) == 0
    begin = pages * page - values.nbytes
    copy = np.frombuffer(memory, values.dtype, values.size, begin).reshape(values.shape)
    copy[...] = values
    return copy


def product(dtype: DType, a_turned: bool = False, b_turned: bool = False) -> ContractKernel:
    """out[b, m, n] = a[b, m, k] * b[b, k, n]; turned: stored with swapped axes."""
    count, m, n, k = (size(i) for i in range(4))
    i, r, c, s = (var(j) for j in range(4))
    a = i * m * k + (s * m + r if a_turned else r * k + s)
    b = i * n * k + (c * k + s if b_turned else s * n + c)
    out = i * m * n + r * n + c
    return ContractKernel(
        (Operand(dtype, "in"), Operand(dtype, "in"), Operand(sum_dtype(dtype), "out")),
        (count,),
        (m,),
        (n,),
        (k,),
        load(0, dtype, a),
        load(1, dtype, b),
        (Store(2, out, acc(0, sum_dtype(dtype))),),
    )


def run_product(
    dtype: DType,
    target: Target,
    shape: tuple[int, int, int, int],
    turned: tuple[bool, bool],
    tile: tuple[int, int] = (0, 0),
) -> None:
    count, m, n, k = shape
    a = numbers_of(dtype, (count, k, m) if turned[0] else (count, m, k), 1)
    b = numbers_of(dtype, (count, n, k) if turned[1] else (count, k, n), 2)
    room = np.full(count * m * n + 64, 7, sum_dtype(dtype).numpy)
    found = room[:-64].reshape(count, m, n)
    run(replace(product(dtype, *turned), tile=tile), target, (a, b, found), shape, (1, 3))
    wanted = model(
        a.swapaxes(1, 2) if turned[0] else a, b if turned[1] else b.swapaxes(1, 2), target
    )
    check(found, wanted)
    assert (room[-64:] == 7).all(), "the kernel wrote past its result"


EDGES = (
    *((1, m, n, 5) for m in (1, 2, 5, 6, 7, 13) for n in (1, 3, 15, 16, 17, 63, 64, 65)),
    *((1, 7, 20, k) for k in (0, 1, 15, 16, 17, 255, 256, 257, 512, 600)),
    *(
        (3, 8, 70, 20),
        (2, 100, 130, 70),
        (1, 70, 300, 270),
        (0, 3, 3, 3),
        (2, 0, 3, 3),
        (2, 3, 0, 3),
    ),
)


def convolution(stride: int, padding: int | None = None) -> ContractKernel:
    """y[i, o, r, c] = sum x[i, ch, r * stride + p - pad, c * stride + q - pad] w[o, ch, p, q]."""
    images, filters, rows, columns, channels, kh, kw, height, width, pad = (
        size(j) for j in range(10)
    )
    pad = pad if padding is None else const(padding, int64)
    i, o, r, c, ch, p, q = (var(j) for j in range(7))
    y, x = r * stride + p - pad, c * stride + q - pad
    zero = const(0, int64)
    valid = (zero <= y) & (y < height) & (zero <= x) & (x < width)
    image = load(0, float32, ((i * channels + ch) * height + y) * width + x, valid)
    weight = load(1, float32, ((o * channels + ch) * kh + p) * kw + q)
    out = ((i * filters + o) * rows + r) * columns + c
    return ContractKernel(
        (Operand(float32, "in"), Operand(float32, "in"), Operand(float32, "out")),
        (images,),
        (filters,),
        (rows, columns),
        (channels, kh, kw),
        weight,
        image,
        (Store(2, out, acc(0, float32)),),
    )


def patches(x: np.ndarray, k: tuple[int, int], stride: int, pad: int) -> np.ndarray:
    """[images, rows, columns, channels, kh, kw]: what each output point sees."""
    padded = np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, k, (2, 3))
    return windows[:, :, ::stride, ::stride].transpose(0, 2, 3, 1, 4, 5)

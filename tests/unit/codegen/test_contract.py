"""Contractions, machine code against a model of the order of additions, bit for bit."""

from __future__ import annotations

import ctypes
import mmap
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

from rabbet.base.dtypes import DType, dtype_of, float32, int64
from rabbet.base.errors import CompileError
from rabbet.base.target import Target
from rabbet.codegen.build import build, launch
from rabbet.codegen.contract import emit_contract
from rabbet.codegen.contract_turn import transpose
from rabbet.codegen.machine import Library, object_code
from rabbet.expr.expr import Expr, acc, cast, const, load, size, var
from rabbet.expr.interpret import evaluate
from rabbet.expr.scalars import maximum
from rabbet.kernel.loops import CONTRACT_BLOCK, ContractKernel, Kernel, Operand, Store
from rabbet.kernel.rewrite import map_expressions
from rabbet.kernel.windows import is_direct
from rabbet.targets.x86 import runnable, x86_baseline, x86_v3, x86_v4

TARGETS = runnable()
pytestmark = pytest.mark.skipif(not TARGETS, reason="needs an x86-64 processor")

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


def product(dtype: DType, a_turned: bool = False, b_turned: bool = False) -> ContractKernel:
    """out[b, m, n] = a[b, m, k] * b[b, k, n]; turned: stored with swapped axes."""
    count, m, n, k = (size(i) for i in range(4))
    i, r, c, s = (var(j) for j in range(4))
    a = i * m * k + (s * m + r if a_turned else r * k + s)
    b = i * n * k + (c * k + s if b_turned else s * n + c)
    out = i * m * n + r * n + c
    return ContractKernel(
        (Operand(dtype, "in"), Operand(dtype, "in"), Operand(dtype, "out")),
        (count,),
        (m,),
        (n,),
        (k,),
        load(0, dtype, a),
        load(1, dtype, b),
        (Store(2, out, acc(0, dtype)),),
    )


def run_product(
    dtype: DType, target: Target, shape: tuple[int, int, int, int], turned: tuple[bool, bool]
) -> None:
    count, m, n, k = shape
    a = numbers_of(dtype, (count, k, m) if turned[0] else (count, m, k), 1)
    b = numbers_of(dtype, (count, n, k) if turned[1] else (count, k, n), 2)
    found = np.full((count, m, n), 7, dtype.numpy)
    run(product(dtype, *turned), target, (a, b, found), shape, (1, 3))
    wanted = model(
        a.swapaxes(1, 2) if turned[0] else a, b if turned[1] else b.swapaxes(1, 2), target
    )
    check(found, wanted)


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


@pytest.mark.parametrize("target", TARGETS, ids=lambda t: t.name)
@pytest.mark.parametrize("turned", [(x, y) for x in (False, True) for y in (False, True)])
def test_products_of_all_edges(target: Target, turned: tuple[bool, bool]) -> None:
    for shape in EDGES:
        run_product(float32, target, shape, turned)


@pytest.mark.parametrize("target", TARGETS, ids=lambda t: t.name)
@pytest.mark.parametrize("name", ["float64", "int32", "int64", "uint32", "uint64"])
def test_products_of_other_dtypes(target: Target, name: str) -> None:
    for shape in ((1, 1, 1, 3), (2, 7, 33, 9), (1, 5, 9, 300), (1, 9, 40, 17)):
        for turned in ((False, False), (True, False), (False, True)):
            run_product(dtype_of(name), target, shape, turned)


def test_other_dtypes_are_refused() -> None:
    with pytest.raises(CompileError, match="cast them first"):
        emit_contract(product(dtype_of("int8")), TARGETS[0])


# ---------------------------------------------------------------------- several loops, epilogues


def test_linear_layer_with_casts_and_epilogue() -> None:
    """relu(x[b, t, k] W[n, k] + bias[n]) * scale, with x stored as int32."""
    batch, time, n, k = (size(i) for i in range(4))
    i, t, c, s = (var(j) for j in range(4))
    x = cast(load(0, dtype_of("int32"), (i * time + t) * k + s), float32)
    w = load(1, float32, c * k + s)
    biased = acc(0, float32) + load(2, float32, c)
    value = maximum(biased, const(0.0, float32)) * load(3, float32, const(0, int64))
    out = (i * time + t) * n + c
    kernel = ContractKernel(
        tuple(Operand(dtype_of(d), "in") for d in ("int32", "float32", "float32", "float32"))
        + (Operand(float32, "out"), Operand(float32, "out")),
        (),
        (batch, time),
        (n,),
        (k,),
        x,
        w,
        (Store(4, out, value), Store(5, out, biased)),
    )
    sizes = (3, 5, 37, 29)
    draw = np.random.default_rng(3)
    xs = draw.integers(-9, 9, (15, 29), np.int32)
    ws, bias = numbers_of(float32, (37, 29), 4), numbers_of(float32, (37,), 5)
    scale = np.array([1.7], np.float32)
    for target in TARGETS:
        found, second = np.zeros((15, 37), np.float32), np.zeros((15, 37), np.float32)
        run(kernel, target, (xs, ws, bias, scale, found, second), sizes)
        plain = model(xs.astype(np.float32), ws, target) + bias
        check(second, plain)
        check(found, np.maximum(plain, np.float32(0)) * scale)


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


CONVOLUTIONS = (
    # images, channels, height, width, filters, kernel, stride, padding
    (2, 3, 9, 10, 5, (3, 3), 1, 1),
    (3, 4, 7, 7, 8, (3, 3), 1, 1),
    (1, 30, 8, 8, 7, (3, 3), 1, 1),
    (2, 2, 33, 40, 3, (5, 3), 1, 2),
    (2, 3, 21, 23, 4, (7, 7), 2, 3),
    (2, 5, 8, 8, 6, (1, 1), 1, 0),
    (2, 5, 8, 9, 6, (1, 1), 2, 0),
    (1, 2, 3, 3, 2, (3, 3), 1, 2),
)


@pytest.mark.parametrize("case", CONVOLUTIONS, ids=str)
def test_convolutions(case: tuple) -> None:
    images, channels, height, width, filters, k, stride, pad = case
    x = numbers_of(float32, (images, channels, height, width), 6)
    w = numbers_of(float32, (filters, channels, *k), 7)
    seen = patches(x, k, stride, pad)
    rows, columns = seen.shape[1:3]
    sizes = (images, filters, rows, columns, channels, *k, height, width, pad)
    for target in TARGETS:
        found = np.zeros((images, filters, rows, columns), np.float32)
        run(convolution(stride), target, (x, w, found), sizes, (1,))
        lanes = np.ascontiguousarray(seen).reshape(images, rows * columns, -1)
        wanted = model(w.reshape(1, filters, -1), lanes, target)
        check(found, wanted.reshape(found.shape))


FEW = (
    # images, channels, height, width, filters, kernel, stride, padding
    (2, 1, 9, 10, 1, (3, 3), 1, 1),
    (2, 1, 40, 70, 1, (3, 3), 2, 0),
    (1, 2, 13, 600, 1, (3, 5), 1, 2),
    (3, 1, 21, 37, 4, (7, 7), 3, 3),
    (1, 7, 8, 19, 3, (2, 4), 1, 5),
    (2, 1, 6, 7, 1, (1, 1), 2, 0),
    (1, 1, 5, 1, 1, (1, 3), 1, 2),
)


@pytest.mark.parametrize("case", FEW, ids=str)
def test_windows_of_few_rows_are_not_copied(case: tuple) -> None:
    images, channels, height, width, filters, k, stride, pad = case
    x = numbers_of(float32, (images, channels, height, width), 6)
    w = numbers_of(float32, (filters, channels, *k), 7)
    seen = patches(x, k, stride, pad)
    rows, columns = seen.shape[1:3]
    sizes = (images, filters, rows, columns, channels, *k, height, width, pad)
    known = {"m": (filters,), "k": (channels, *k)}
    extents = {name: tuple(const(d, int64) for d in dims) for name, dims in known.items()}
    kernel = replace(convolution(stride, pad), batch=(), n=(size(0), size(2), size(3)), **extents)
    places = {0: 1, 1: 0}  # filters are m, and images n
    kernel = map_expressions(
        kernel, lambda e: var(places.get(e.value, e.value)) if e.op == "var" else None
    )
    assert is_direct(kernel)
    lanes = np.ascontiguousarray(seen).reshape(images, rows * columns, -1)
    for target in TARGETS:
        found = np.zeros((images, filters, rows, columns), np.float32)
        run(kernel, target, (x, w, found), sizes, (1,))
        check(found, model(w.reshape(1, filters, -1), lanes, target).reshape(found.shape))


def convolution_same() -> ContractKernel:
    """As `convolution` with stride 1, results as large as images, and channels summed last: rows of
    the padded image follow each other in memory, and whole runs of k have one padding.
    """
    images, filters, height, width, channels, kh, kw, pad = (size(j) for j in range(8))
    i, o, r, c, p, q, ch = (var(j) for j in range(7))
    y, x = r + p - pad, c + q - pad
    zero = const(0, int64)
    valid = (zero <= y) & (y < height) & (zero <= x) & (x < width)
    image = load(0, float32, ((i * channels + ch) * height + y) * width + x, valid)
    weight = load(1, float32, ((o * kh + p) * kw + q) * channels + ch)
    out = ((i * filters + o) * height + r) * width + c
    return ContractKernel(
        (Operand(float32, "in"), Operand(float32, "in"), Operand(float32, "out")),
        (images,),
        (filters,),
        (height, width),
        (kh, kw, channels),
        weight,
        image,
        (Store(2, out, acc(0, float32)),),
    )


@pytest.mark.parametrize("case", ((3, 5, 7, 7, 9), (2, 40, 4, 4, 8), (1, 31, 9, 10, 5)), ids=str)
def test_convolutions_of_the_same_size(case: tuple) -> None:
    images, channels, height, width, filters = case
    x = numbers_of(float32, (images, channels, height, width), 6)
    w = numbers_of(float32, (filters, 3, 3, channels), 7)
    seen = patches(x, (3, 3), 1, 1).transpose(0, 1, 2, 4, 5, 3)
    sizes = (images, filters, height, width, channels, 3, 3, 1)
    for target in TARGETS:
        found = np.zeros((images, filters, height, width), np.float32)
        run(convolution_same(), target, (x, w, found), sizes, (1,))
        lanes = np.ascontiguousarray(seen).reshape(images, height * width, -1)
        check(found, model(w.reshape(1, filters, -1), lanes, target).reshape(found.shape))


def weight_gradient() -> ContractKernel:
    """dw[o, ch, p, q] = sum over i, r, c of dy[i, o, r, c] x[i, ch, r + p - pad, c + q - pad]."""
    images, filters, rows, columns, channels, kh, kw, height, width, pad = (
        size(j) for j in range(10)
    )
    o, ch, p, q, i, r, c = (var(j) for j in range(7))
    y, x = r + p - pad, c + q - pad
    zero = const(0, int64)
    valid = (zero <= y) & (y < height) & (zero <= x) & (x < width)
    image = load(0, float32, ((i * channels + ch) * height + y) * width + x, valid)
    slope = load(1, float32, ((i * filters + o) * rows + r) * columns + c)
    out = ((o * channels + ch) * kh + p) * kw + q
    return ContractKernel(
        (Operand(float32, "in"), Operand(float32, "in"), Operand(float32, "out")),
        (),
        (filters,),
        (channels, kh, kw),
        (images, rows, columns),
        slope,
        image,
        (Store(2, out, acc(0, float32)),),
    )


@pytest.mark.parametrize("case", [c for c in CONVOLUTIONS if c[6] == 1], ids=str)
def test_weight_gradients(case: tuple) -> None:
    images, channels, height, width, filters, k, stride, pad = case
    x = numbers_of(float32, (images, channels, height, width), 8)
    seen = patches(x, k, stride, pad)
    rows, columns = seen.shape[1:3]
    slope = numbers_of(float32, (images, filters, rows, columns), 9)
    sizes = (images, filters, rows, columns, channels, *k, height, width, pad)
    a = slope.transpose(1, 0, 2, 3).reshape(filters, -1)
    b = seen.transpose(3, 4, 5, 0, 1, 2).reshape(channels * k[0] * k[1], -1)
    for target in TARGETS:
        found = np.zeros((filters, channels, *k), np.float32)
        run(weight_gradient(), target, (x, slope, found), sizes)
        wanted = model(np.ascontiguousarray(a), np.ascontiguousarray(b), target)
        check(found, wanted.reshape(found.shape))


def test_matrix_times_vector_and_transposed_result() -> None:
    """No lane loop, and a result that is contiguous along m: the roles swap."""
    m, n, k = (size(i) for i in range(3))
    a = numbers_of(float32, (70, 33), 10)
    x = numbers_of(float32, (33,), 11)
    operands = (Operand(float32, "in"), Operand(float32, "in"), Operand(float32, "out"))
    vector = ContractKernel(
        operands,
        (),
        (m,),
        (),
        (k,),
        load(0, float32, var(0) * k + var(1)),
        load(1, float32, var(1)),
        (Store(2, var(0), acc(0, float32)),),
    )
    b = numbers_of(float32, (33, 21), 12)
    turned = ContractKernel(
        operands,
        (),
        (m,),
        (n,),
        (k,),
        load(0, float32, var(0) * k + var(2)),
        load(1, float32, var(2) * n + var(1)),
        (Store(2, var(1) * m + var(0), acc(0, float32)),),
    )
    for target in TARGETS:
        found = np.zeros(70, np.float32)
        run(vector, target, (a, x, found), (70, 1, 33))
        check(found, model(a, x[None], target)[:, 0])
        result = np.zeros((21, 70), np.float32)
        run(turned, target, (a, b, result), (70, 21, 33))
        check(result, np.ascontiguousarray(model(a, np.ascontiguousarray(b.T), target).T))


THIN = [(1, rows, n, k) for rows in (1, 2, 3, 4, 5) for n, k in ((1, 7), (17, 40), (70, 530))]


@pytest.mark.parametrize("target", TARGETS, ids=lambda t: t.name)
def test_few_rows_with_weights_along_k(target: Target) -> None:
    for shape in (*THIN, (3, 2, 33, 0)):
        run_product(float32, target, shape, (False, True))
    run_product(dtype_of("float64"), target, (1, 3, 21, 19), (False, True))
    run_product(dtype_of("int64"), target, (1, 1, 21, 19), (False, True))


def convolution_channels_last() -> ContractKernel:
    """y[i, r, c, o] = sum x[i, r + p - pad, c + q - pad, ch] w[p, q, ch, o]."""
    images, filters, rows, columns, channels, kh, kw, height, width, pad = (
        size(j) for j in range(10)
    )
    i, r, c, o, p, q, ch = (var(j) for j in range(7))
    y, x = r + p - pad, c + q - pad
    zero = const(0, int64)
    valid = (zero <= y) & (y < height) & (zero <= x) & (x < width)
    image = load(0, float32, ((i * height + y) * width + x) * channels + ch, valid)
    weight = load(1, float32, ((p * kw + q) * channels + ch) * filters + o)
    out = ((i * rows + r) * columns + c) * filters + o
    return ContractKernel(
        (Operand(float32, "in"), Operand(float32, "in"), Operand(float32, "out")),
        (),
        (images, rows, columns),
        (filters,),
        (kh, kw, channels),
        image,
        weight,
        (Store(2, out, acc(0, float32)),),
    )


@pytest.mark.parametrize("case", [c for c in CONVOLUTIONS if c[6] == 1], ids=str)
def test_convolutions_with_channels_last(case: tuple) -> None:
    images, channels, height, width, filters, k, _, pad = case
    x = numbers_of(float32, (images, channels, height, width), 15)
    w = numbers_of(float32, (*k, channels, filters), 16)
    seen = patches(x, k, 1, pad).transpose(0, 1, 2, 4, 5, 3)
    rows, columns = seen.shape[1:3]
    sizes = (images, filters, rows, columns, channels, *k, height, width, pad)
    a = np.ascontiguousarray(seen).reshape(images * rows * columns, -1)
    b = np.ascontiguousarray(w.reshape(-1, filters).T)
    image = np.ascontiguousarray(x.transpose(0, 2, 3, 1))
    for target in TARGETS:
        found = np.zeros((images, rows, columns, filters), np.float32)
        run(convolution_channels_last(), target, (image, w, found), sizes, (1,))
        check(found, model(a, b, target).reshape(found.shape))


def strided(a_index: Expr, b_index: Expr, out: Expr) -> ContractKernel:
    """Sizes m, n, k as size(0..2), variables m, n, k; other strides from size(3) on."""
    operands = (Operand(float32, "in"), Operand(float32, "in"), Operand(float32, "out"))
    left, right = load(0, float32, a_index), load(1, float32, b_index)
    store = Store(2, out, acc(0, float32))
    return ContractKernel(operands, (), (size(0),), (size(1),), (size(2),), left, right, (store,))


VIEWS = {  # index of row i and column j, rows g apart; the same formula for expressions and arrays
    "gap": lambda g, i, j: i * g + j,
    "turned": lambda g, i, j: j * g + i,
    "halves": lambda g, i, j: i * g + j * 2,
    "thirds": lambda g, i, j: i * g + j * 3,
    "back": lambda g, i, j: 9000 - i * g - j,
    "repeated": lambda g, i, j: i * g + j // 3,
    "mixed": lambda g, i, j: (i * 2 + j) // 3 % 50,
}


@pytest.mark.parametrize("name", VIEWS)
def test_operands_with_gaps_steps_reversals_and_quotients(name: str) -> None:
    m, n, k, gap = 14, 70, 37, 90
    r, c, s = (var(j) for j in range(3))
    index = VIEWS[name]
    kernel = strided(index(size(3), r, s), index(size(3), s, c), r * size(1) + c)
    memory = numbers_of(float32, (10000,), 17)
    rows, lanes, sums = (np.arange(x) for x in (m, n, k))
    a = memory[index(gap, rows[:, None], sums)]
    b = memory[index(gap, sums[None], lanes[:, None])]
    for target in TARGETS:
        found = np.zeros((m, n), np.float32)
        run(kernel, target, (memory, memory, found), (m, n, k, gap))
        check(found, model(a, b, target))


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


@pytest.mark.parametrize("target", TARGETS, ids=lambda t: t.name)
def test_nothing_is_read_or_written_behind_a_buffer(target: Target) -> None:
    for turned in ((False, False), (False, True), (True, False), (True, True)):
        for shape in ((1, 1, 19, 33), (1, 7, 83, 33), (1, 33, 5, 270), (2, 20, 64, 16)):
            count, m, n, k = shape
            a = guarded(numbers_of(float32, (count, k, m) if turned[0] else (count, m, k), 1))
            b = guarded(numbers_of(float32, (count, n, k) if turned[1] else (count, k, n), 2))
            found = guarded(np.zeros((count, m, n), np.float32))
            run(product(float32, *turned), target, (a, b, found), shape)
            exact = np.einsum(
                "bkm,bkn->bmn" if turned[0] else "bmk,bkn->bmn",
                a.astype(np.float64),
                (b.swapaxes(1, 2) if turned[1] else b).astype(np.float64),
            )
            assert np.abs(found - exact).max() < 1e-3
    for stride in (1, 2):
        x, w = numbers_of(float32, (2, 3, 9, 19), 3), numbers_of(float32, (5, 3, 3, 3), 4)
        seen = patches(x, (3, 3), stride, 1)
        rows, columns = seen.shape[1:3]
        found = guarded(np.zeros((2, 5, rows, columns), np.float32))
        sizes = (2, 5, rows, columns, 3, 3, 3, 9, 19, 1)
        run(convolution(stride), target, (guarded(x), guarded(w), found), sizes)
        exact = np.einsum("irshpq,ohpq->iors", seen.astype(np.float64), w.astype(np.float64))
        assert np.abs(found - exact).max() < 1e-3


def test_weights_whose_loops_do_not_follow_each_other() -> None:
    """Several loops of k that are one in memory only for some sizes: both are right."""
    m, n, outer, inner, gap = (size(i) for i in range(5))
    r, c, o, i = (var(j) for j in range(4))
    kernel = ContractKernel(
        (Operand(float32, "in"), Operand(float32, "in"), Operand(float32, "out")),
        (),
        (m,),
        (n,),
        (outer, inner),
        load(0, float32, (r * outer + o) * gap + i),
        load(1, float32, (o * inner + i) * n + c),
        (Store(2, r * n + c, acc(0, float32)),),
    )
    for stride in (9, 11):
        a = numbers_of(float32, (13, 30, stride), 18)
        b = numbers_of(float32, (270, 40), 19)
        left = np.ascontiguousarray(a[:, :, :9]).reshape(13, 270)
        for target in TARGETS:
            found = np.zeros((13, 40), np.float32)
            run(kernel, target, (a, b, found), (13, 40, 30, 9, stride))
            check(found, model(left, np.ascontiguousarray(b.T), target))


def test_grouped_convolution_and_nothing_to_sum() -> None:
    """One batch loop for groups beside one for images, and a kernel of one element."""
    images, groups, filters, columns, channels, kw, width = (size(j) for j in range(7))
    i, g, o, c, ch, q = (var(j) for j in range(6))
    kernel = ContractKernel(
        (Operand(float32, "in"), Operand(float32, "in"), Operand(float32, "out")),
        (images, groups),
        (filters,),
        (columns,),
        (channels, kw),
        load(1, float32, ((g * filters + o) * channels + ch) * kw + q),
        load(0, float32, ((i * groups + g) * channels + ch) * width + (c + q)),
        (Store(2, ((i * groups + g) * filters + o) * columns + c, acc(0, float32)),),
    )
    for size_of in ((2, 3, 4, 20, 5, 3), (3, 4, 1, 33, 1, 5), (1, 2, 3, 4, 0, 3)):
        count, g_count, f, w_out, c_in, k = size_of
        x = numbers_of(float32, (count, g_count, c_in, w_out + k - 1), 20)
        w = numbers_of(float32, (g_count, f, c_in, k), 21)
        seen = np.lib.stride_tricks.sliding_window_view(x, k, 3).transpose(0, 1, 3, 2, 4)
        b = np.ascontiguousarray(seen).reshape(count, g_count, w_out, c_in * k)
        a = np.broadcast_to(w.reshape(g_count, f, c_in * k), (count, g_count, f, c_in * k))
        for target in TARGETS:
            found = np.full((count, g_count, f, w_out), 9, np.float32)
            run(kernel, target, (x, w, found), (*size_of, w_out + k - 1), (2,))
            check(found, model(np.ascontiguousarray(a), b, target))


@pytest.mark.parametrize("count, bits", [(4, 32), (8, 32), (16, 32), (2, 64), (4, 64), (8, 64)])
def test_turned_blocks(count: int, bits: int) -> None:
    """The shuffles that turn a block, applied to lane numbers."""

    class Lanes:
        def shuffle(self, a: list, b: list, picks: Sequence[int]) -> list:
            both = a + b
            return [both[p] for p in picks]

    rows = [[(r, c) for c in range(count)] for r in range(count)]
    turned = transpose(Lanes(), rows, bits)  # type: ignore[arg-type]
    assert turned == [[(r, c) for r in range(count)] for c in range(count)]


def test_same_text_twice_and_every_target_compiles() -> None:
    for target in (x86_v4, x86_v3, x86_baseline):
        text = emit_contract(convolution(2), target, "f")
        assert text == emit_contract(convolution(2), target, "f")
        assert object_code(text, target)


# ---------------------------------------------------------------------- larger


@pytest.mark.parametrize("shape", [(1, 257, 515, 900), (1, 1000, 130, 300), (5, 64, 200, 64)])
def test_larger_products_against_float64(shape: tuple[int, int, int, int]) -> None:
    count, m, n, k = shape
    for turned in ((False, False), (True, True)):
        a = numbers_of(float32, (count, k, m) if turned[0] else (count, m, k), 13)
        b = numbers_of(float32, (count, n, k) if turned[1] else (count, k, n), 14)
        found = np.zeros((count, m, n), np.float32)
        run(product(float32, *turned), TARGETS[0], (a, b, found), shape, (2, 3))
        x = a.swapaxes(1, 2) if turned[0] else a
        y = b.swapaxes(1, 2) if turned[1] else b
        exact = x.astype(np.float64) @ y.astype(np.float64)
        assert np.abs(found - exact).max() < 1e-6 * k

"""Convolutions as contractions, machine code against a model, bit for bit."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from rabbet.base.dtypes import float32, int64
from rabbet.codegen.contract_blocks import equal_height
from rabbet.expr.expr import acc, const, load, size, topological, var
from rabbet.kernel.bands import bands
from rabbet.kernel.loops import ContractKernel, Operand, Store
from rabbet.kernel.rewrite import map_expressions
from rabbet.kernel.windows import is_direct
from tests.unit.codegen.products import (
    TARGETS,
    check,
    convolution,
    guarded,
    model,
    number,
    numbers_of,
    patches,
    run,
)

pytestmark = pytest.mark.skipif(not TARGETS, reason="needs an x86-64 processor")


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


def drawn(case: tuple) -> tuple[np.ndarray, np.ndarray, np.ndarray, tuple[int, ...]]:
    """Images, weights, the windows as rows of a matrix, and the kernel's sizes."""
    images, channels, height, width, filters, k, stride, pad = case
    x = numbers_of(float32, (images, channels, height, width), 6)
    w = numbers_of(float32, (filters, channels, *k), 7)
    seen = patches(x, k, stride, pad)
    rows, columns = seen.shape[1:3]
    sizes = (images, filters, rows, columns, channels, *k, height, width, pad)
    return x, w, np.ascontiguousarray(seen).reshape(images, rows * columns, -1), sizes


def check_all_targets(kernel: ContractKernel, case: tuple) -> None:
    """The kernel's convolution beside the model's."""
    x, w, lanes, sizes = drawn(case)
    images, filters, rows, columns = sizes[:4]
    for target in TARGETS:
        found = np.zeros((images, filters, rows, columns), np.float32)
        run(kernel, target, (x, w, found), sizes, (1,))
        wanted = model(w.reshape(1, filters, -1), lanes, target)
        check(found, wanted.reshape(found.shape))


@pytest.mark.parametrize("case", CONVOLUTIONS, ids=str)
def test_convolutions(case: tuple) -> None:
    check_all_targets(convolution(case[6]), case)


MANY = (
    # images, channels, height, width, filters, kernel, stride, padding
    (2, 3, 9, 10, 5, (3, 3), 1, 1),
    (3, 70, 7, 7, 130, (3, 3), 1, 1),
    (2, 3, 33, 41, 65, (7, 7), 2, 3),
    (1, 2, 23, 17, 16, (2, 4), 3, 0),
    (5, 1, 3, 3, 2, (3, 3), 1, 2),
    (1, 2, 70, 33, 20, (5, 1), 1, 2),
    (2, 0, 9, 10, 5, (3, 3), 1, 1),
    # whole images a task, corners of their own, windows larger than the image or than its half
    (2, 40, 14, 14, 17, (3, 3), 1, 1),
    (7, 31, 5, 6, 20, (3, 3), 1, 1),
    (6, 3, 8, 8, 70, (5, 5), 1, 2),
    (9, 4, 2, 2, 70, (3, 3), 1, 1),
    (2, 6, 15, 15, 9, (3, 3), 2, 1),
    (1, 3, 6, 300, 9, (1, 7), 1, 3),
    (2, 3, 12, 12, 9, (9, 9), 1, 4),
)


@pytest.mark.parametrize("case", MANY, ids=str)
def test_windows_are_read_from_bands(case: tuple) -> None:
    check_all_targets(replace(convolution(*case[6:]), lanes=0, banded=True), case)


@pytest.mark.parametrize("channel", (0, 29, 39))
@pytest.mark.parametrize("bad", (np.inf, -np.inf, np.nan))
def test_padding_is_multiplied_with_what_is_not_finite(bad: float, channel: int) -> None:
    case = (2, 40, 14, 14, 70, (3, 3), 1, 1)
    x, w, lanes, sizes = drawn(case)
    for filter_, y, column in ((0, 0, 0), (5, 1, 1), (69, 2, 1)):
        w[filter_, channel, y, column] = bad
    kernel = replace(convolution(*case[6:]), lanes=0, banded=True)
    for target in TARGETS:
        found = np.zeros((2, 70, 14, 14), np.float32)
        run(kernel, target, (x, w, found), sizes, (1,))
        with np.errstate(invalid="ignore"):
            products = lanes[:, None].astype(np.float64) * w.reshape(1, 70, 1, -1)
            wanted = products.sum(axis=-1).reshape(found.shape)
        assert np.isnan(wanted[:, (0, 69)]).any() and np.isfinite(wanted[:, 1]).all()
        np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-4)


def by_pixels(kernel: ContractKernel, is_result: bool, epilogue: bool) -> ContractKernel:
    """The convolution of an image with channels last; the result likewise (`is_result`)."""
    images, filters, rows, columns, channels, _, _, height, width, _ = (size(j) for j in range(10))
    i, o, r, c, ch = (var(j) for j in range(5))
    (valid,) = kernel.b.args[1:]
    y, x = (e.args[0] for e in topological([valid]) if e.op == "lt")
    image = load(0, float32, ((i * height + y) * width + x) * channels + ch, valid)
    out = kernel.stores[0].index
    if is_result:
        out = ((i * rows + r) * columns + c) * filters + o
    value = acc(0, float32)
    if epilogue:
        value = value + value
    return replace(kernel, lanes=0, banded=True, b=image, stores=(Store(2, out, value),))


@pytest.mark.parametrize("epilogue", (False, True), ids=("plain", "epilogue"))
@pytest.mark.parametrize("is_result", (False, True), ids=("to planes", "to pixels"))
@pytest.mark.parametrize("case", (*MANY, (2, 17, 9, 10, 66, (2, 2), 1, 1)), ids=str)
def test_bands_of_an_image_with_channels_last(case: tuple, is_result: bool, epilogue: bool) -> None:
    kernel = by_pixels(convolution(*case[6:]), is_result, epilogue)
    found_bands = bands(kernel)
    assert found_bands is not None and found_bands.by_pixel
    x, w, lanes, sizes = drawn(case)
    images, filters, rows, columns = sizes[:4]
    image = guarded(np.ascontiguousarray(x.transpose(0, 2, 3, 1)))
    shape = (images, rows, columns, filters) if is_result else (images, filters, rows, columns)
    for target in TARGETS:
        found = guarded(np.zeros(shape, np.float32))
        run(kernel, target, (image, w, found), sizes, (1,))
        wanted = model(w.reshape(1, filters, -1), lanes, target)
        wanted = wanted.reshape(images, filters, rows, columns) * np.float32(1 + epilogue)
        check(found, wanted.transpose(0, 2, 3, 1) if is_result else wanted)


FEW = (
    # images, channels, height, width, filters, kernel, stride, padding
    (2, 1, 9, 10, 1, (3, 3), 1, 1),
    (2, 1, 40, 70, 1, (3, 3), 2, 0),
    (1, 2, 13, 600, 1, (3, 5), 1, 2),
    (3, 1, 21, 37, 4, (7, 7), 3, 3),
    (1, 7, 8, 19, 3, (2, 4), 1, 5),
    (2, 1, 6, 7, 1, (1, 1), 2, 0),
    (1, 1, 5, 1, 1, (1, 3), 1, 2),
    # Several vectors of columns side by side, the last time with a border that is wider.
    (2, 1, 9, 57, 1, (3, 3), 1, 1),
    (1, 1, 20, 49, 2, (5, 5), 1, 2),
    (1, 1, 7, 140, 1, (3, 3), 1, 0),
    (1, 1, 6, 40, 1, (3, 3), 1, 20),
)


def of_few_rows(case: tuple) -> ContractKernel:
    """The convolution with filters as m, images as n, and numbers for what is small."""
    channels, filters, k, stride, pad = case[1], *case[4:]
    known = {"m": (filters,), "k": (channels, *k)}
    extents = {name: tuple(const(d, int64) for d in dims) for name, dims in known.items()}
    kernel = replace(convolution(stride, pad), batch=(), n=(size(0), size(2), size(3)), **extents)
    places = {0: 1, 1: 0}
    kernel = map_expressions(
        kernel, lambda e: var(places.get(e.value, e.value)) if e.op == "var" else None
    )
    assert is_direct(kernel)
    return kernel


@pytest.mark.parametrize("case", FEW, ids=str)
def test_windows_of_few_rows_are_not_copied(case: tuple) -> None:
    x, w, lanes, sizes = drawn(case)
    images, filters, rows, columns = sizes[:4]
    kernel = of_few_rows(case)
    for target in TARGETS:
        found = np.zeros((images, filters, rows, columns), np.float32)
        run(kernel, target, (x, w, found), sizes, (1,))
        check(found, model(w.reshape(1, filters, -1), lanes, target).reshape(found.shape))


@pytest.mark.parametrize("apart", (-1, 0, 3))
def test_few_rows_of_images_with_columns_apart(apart: int) -> None:
    """Turned images, mirrored ones and those that are the same in all columns."""
    case = 2, 1, 9, 20, 1, (3, 3), 1, 1
    kernel = of_few_rows(case)
    shape, last = (2, 1, 9, 20), 19 * 3
    index, valid = kernel.b.args
    column = var(3) + var(6) - const(1, int64)
    index = index - column + column * size(10) + last
    kernel = replace(kernel, b=load(0, float32, index, valid))
    assert is_direct(kernel)
    memory = numbers_of(float32, (2 * 9 * 20 + 2 * last,), 6)
    steps = [s * 4 for s in (9 * 20, 9 * 20, 20, apart)]
    x = np.lib.stride_tricks.as_strided(memory[last:], shape, steps)
    _, w, _, sizes = drawn(case)
    lanes = np.ascontiguousarray(patches(x, (3, 3), 1, 1)).reshape(2, 9 * 20, -1)
    for target in TARGETS:
        found = np.zeros(shape, np.float32)
        run(kernel, target, (memory, w, found), (*sizes, apart), (1,))
        check(found, model(w.reshape(1, 1, -1), lanes, target).reshape(shape))


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


MANY_FILTERS = (1, 3, 6, 6, 50, (3, 3), 1, 1)  # blocks of sums that are turned, and a rest


@pytest.mark.parametrize("case", [MANY_FILTERS, *(c for c in CONVOLUTIONS if c[6] == 1)], ids=str)
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


@pytest.mark.parametrize(
    ("lines", "wanted", "height"),
    [
        (28, 6, 7),
        (56, 3, 4),
        (56, 8, 8),
        (112, 3, 4),
        (57, 8, 8),
        (59, 20, 20),
        (7, 7, 7),
        (1, 1, 1),
    ],
)
def test_tasks_of_an_image_have_equal_heights(lines: int, wanted: int, height: int) -> None:
    assert number(equal_height(size(0), size(1)), (lines, wanted)) == height

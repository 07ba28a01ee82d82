"""Whole kernels and their gradients against float64, beside plain float32 (see plain.py).

The op matrix has small samples; here are sizes that take every way a kernel has: long sums, tiles
and their rests, every layout. The root of our mean square error is at most 1.2 times that of NumPy
going op by op in float32, and our largest error at most twice.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest

import rabbet as rb
from rabbet.nn import functional as F
from tests.accuracy import plain
from tests.accuracy.plain import Plain

Function = Callable[..., Any]
Shape = tuple[int, ...]
RMS, LARGEST = 1.2, 2.0
DRAWS = 4
CASES: dict[str, tuple[Function, Function, tuple[Shape, ...]]] = {}


def case(name: str, ours: Function, theirs: Function, *shapes: Shape) -> None:
    """A function of tensors, the same of Plains, and the operands' shapes."""
    CASES[name] = ours, theirs, shapes


def products() -> None:
    """Every layout; shapes of whole tiles, of rests, thin ones, single rows and columns."""
    for m, k, n in (
        *((256, 512, 256), (37, 259, 65), (1, 1000, 300), (300, 1000, 1), (6, 2048, 5)),
        *((3, 7, 500), (128, 3, 128), (1, 4000, 1), (64, 1000, 10)),
    ):
        for left in "NT":
            for right in "NT":

                def product(a: Any, b: Any, left: str = left, right: str = right) -> Any:
                    return (a if left == "N" else a.T) @ (b if right == "N" else b.T)

                a = (m, k) if left == "N" else (k, m)
                b = (k, n) if right == "N" else (n, k)
                case(f"product {m}x{k}x{n} {left}{right}", product, product, a, b)
    case("product of batches", rb.matmul, lambda a, b: a @ b, (3, 4, 40, 70), (3, 4, 70, 50))
    case("linear", F.linear, lambda x, w, b: x @ w.T + b, (50, 300), (70, 300), (70,))


def convolutions() -> None:
    def add(name: str, x: Shape, w: Shape, f: Function = F.conv2d, **attrs: int) -> None:
        ours, theirs = partial(f, **attrs), partial(plain.convolution, **attrs)
        case(f"convolution {name}", ours, theirs, x, w)

    add("1x1", (2, 64, 14, 14), (96, 64, 1, 1))
    add("1x1 of stride 2", (2, 64, 14, 14), (96, 64, 1, 1), stride=2)
    add("3x3", (2, 40, 20, 20), (48, 40, 3, 3), padding=1)
    add("3x3 of stride 2", (2, 40, 21, 21), (48, 40, 3, 3), padding=1, stride=2)
    add("3x3 of few pixels", (2, 128, 7, 7), (64, 128, 3, 3), padding=1)
    add("7x7", (1, 3, 56, 56), (32, 3, 7, 7), padding=3, stride=2)
    add("depthwise", (2, 48, 20, 20), (48, 1, 3, 3), padding=1, groups=48)
    add("in groups", (2, 32, 15, 15), (48, 8, 3, 3), padding=1, groups=4)
    add("with gaps", (2, 16, 25, 25), (24, 16, 3, 3), padding=2, dilation=2)
    add("of a line", (2, 32, 200), (48, 32, 5), F.conv1d, padding=2)
    case(
        "convolution transposed",
        partial(F.conv_transpose2d, stride=2, padding=1),
        partial(plain.convolution_transposed, stride=2, padding=1),
        *((2, 24, 10, 10), (24, 16, 4, 4)),
    )
    add("of a space", (1, 8, 9, 10, 11), (12, 8, 3, 3, 3), F.conv3d, padding=1)


def rows() -> None:
    """Sums, softmax and norms of short and long rows, along them and across."""
    reductions: dict[str, Function] = {
        "sum": lambda x, axis: x.sum(axis, False),
        "mean": lambda x, axis: x.mean(axis, False),
        "logsumexp": lambda x, axis: plain.logsumexp(x, axis).sum(axis, False),
        "var": lambda x, axis: plain.var(x, axis).sum(axis, False),
        "std": lambda x, axis: plain.var(x, axis).sqrt().sum(axis, False),
        "softmax": plain.softmax,
        "cumulative_sum": lambda x, axis: x.accumulate(axis),
        "log_softmax": plain.log_softmax,
    }
    for shape in ((40, 67), (7, 5000), (5000, 7)):
        for axis in (0, 1):
            for name, theirs in reductions.items():
                ours, theirs = partial(getattr(rb, name), axis=axis), partial(theirs, axis=axis)
                if name in ("var", "std"):
                    ours = partial(ours, correction=1)
                case(f"{name} {shape} {axis}", ours, theirs, shape)
        width = shape[1:]
        case(
            f"layer norm {shape}",
            lambda x, w, b, width=width: F.layer_norm(x, width, w, b),
            lambda x, w, b: plain.normalised(x, 1) * w + b,
            *(shape, width, width),
        )
        case(
            f"rms norm {shape}",
            lambda x, w, width=width: F.rms_norm(x, width, w, eps=1e-5),
            lambda x, w: x / ((x * x).mean(1) + 1e-5).sqrt() * w,
            *(shape, width),
        )
    case("sum of all", rb.sum, lambda x: x.sum(keepdims=False), (300, 1000))
    image, channels = (4, 24, 15, 17), (24, 1, 1)
    case(
        "batch norm",
        lambda x, w, b: F.batch_norm(x, None, None, w.reshape(24), b.reshape(24), training=True),
        lambda x, w, b: plain.normalised(x, (0, 2, 3)) * w + b,
        *(image, channels, channels),
    )
    case(
        "group norm",
        lambda x, w, b: F.group_norm(x, 4, w.reshape(24), b.reshape(24)),
        lambda x, w, b: plain.normalised(x.reshape(4, 4, 6 * 15 * 17), 2).reshape(*image) * w + b,
        *(image, channels, channels),
    )


def attentions() -> None:
    ours = F.scaled_dot_product_attention
    for name, q, k in (
        ("short", (2, 3, 33, 16), (2, 3, 33, 16)),
        ("long", (1, 2, 300, 64), (1, 2, 300, 64)),
        ("of one query", (2, 4, 1, 64), (2, 4, 500, 64)),
    ):
        case(f"attention, {name}", ours, plain.attention, q, k, k)
        if q == k:
            causal = partial(ours, is_causal=True), partial(plain.attention, is_causal=True)
            case(f"attention, causal, {name}", *causal, q, k, k)


def losses() -> None:
    """Of 300 rows of 1000 classes, or of as many numbers."""
    shape = (300, 1000)
    labels = np.random.default_rng(9).integers(0, 1000, 300)
    taken = np.arange(300), labels
    case(
        "cross entropy",
        lambda x: F.cross_entropy(x, rb.asarray(labels)),
        lambda x: -plain.log_softmax(x, 1)[taken].mean(keepdims=False),
        shape,
    )
    case(
        "cross entropy, smoothed",
        lambda x: F.cross_entropy(x, rb.asarray(labels), label_smoothing=0.1),
        lambda x: (
            -plain.log_softmax(x, 1)[taken].mean(keepdims=False) * 0.9
            - plain.log_softmax(x, 1).mean(keepdims=False) * 0.1
        ),
        shape,
    )
    case("mse", F.mse_loss, lambda x, y: ((x - y) * (x - y)).mean(keepdims=False), shape, shape)
    case("l1", F.l1_loss, lambda x, y: (x - y).abs().mean(keepdims=False), shape, shape)
    case(
        "kl",
        lambda x, y: F.kl_div(rb.log_softmax(x, axis=1), rb.softmax(y, axis=1)),
        lambda x, y: (
            plain.softmax(y, 1) * (plain.log_softmax(y, 1) - plain.log_softmax(x, 1))
        ).mean(keepdims=False),
        *(shape, shape),
    )


def gathers() -> None:
    """Rows that are added up: the gradient of an embedding, index_add."""
    places = np.random.default_rng(8).integers(0, 20, 3000)
    case("embedding", lambda w: F.embedding(rb.asarray(places), w), lambda w: w[places], (20, 30))


def recurrent_layers() -> None:
    for kind, count in (("RNN", 1), ("LSTM", 4), ("GRU", 3)):

        def ours(x: Any, w: Any, u: Any, a: Any, b: Any, kind: str = kind) -> Any:
            layer = getattr(rb.nn, kind)(24, 48)
            given = dict(zip((n for n, _ in layer.named_parameters()), (w, u, a, b), strict=True))
            return rb.nn.functional_call(layer, given, (x,))[0]

        n = 48 * count
        shapes = (n, 24), (n, 48), (n,), (n,)
        case(kind, ours, getattr(plain, kind.lower()), (60, 1, 24), *shapes)


for declare in (products, convolutions, rows, attentions, losses, gathers, recurrent_layers):
    declare()


def drawn(name: str, seed: int) -> list[np.ndarray]:
    """Normal numbers; except for attention of the size of weights, so that no gate is shut."""
    rng = np.random.default_rng(seed)
    size = np.float32(1.0 if name.startswith("attention") else 0.1)
    return [rng.normal(size=s).astype(np.float32) * size for s in CASES[name][2]]


def start(shape: Shape) -> np.ndarray:
    """What the gradients start from."""
    return np.asarray(np.random.default_rng(5).normal(size=shape), np.float32)


def compiled(name: str, operands: list[np.ndarray]) -> list[np.ndarray]:
    """The result and the gradients of the operands."""
    given = [rb.asarray(a) for a in operands]
    for x in given:
        x.requires_grad = True
    y = CASES[name][0](*given)
    y.backward(rb.asarray(start(y.shape)))
    return [v.numpy() for v in (y.detach(), *(x.grad for x in given))]


def computed(name: str, operands: list[np.ndarray], dtype: Any) -> list[np.ndarray]:
    """The same by the formulas, in a precision."""
    given = [Plain(a.astype(dtype)) for a in operands]
    y = CASES[name][1](*given)
    y.backward(start(y.shape).astype(dtype))
    return [y.value, *(x.grad for x in given)]


def errors(name: str, seed: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Of every result, ours and those of plain float32, in units in the last place.

    The unit is that of the larger of each number and the typical one.
    """
    operands = drawn(name, seed)
    found = []
    for exact, theirs, ours in zip(
        computed(name, operands, np.float64),
        computed(name, operands, np.float32),
        compiled(name, operands),
        strict=True,
    ):
        assert theirs.dtype == ours.dtype == np.float32 and ours.shape == exact.shape
        typical = np.sqrt(np.mean(np.square(exact)))
        unit = np.spacing(np.maximum(abs(exact), typical).astype(np.float32)).astype(np.float64)
        found.append(
            (abs(ours - exact).ravel() / unit.ravel(), abs(theirs - exact).ravel() / unit.ravel())
        )
    return found


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_error_is_that_of_plain_float32(name: str) -> None:
    draws = [errors(name, seed) for seed in range(DRAWS)]
    for number, pairs in enumerate(zip(*draws, strict=True)):
        ours, theirs = (np.concatenate(parts) for parts in zip(*pairs, strict=True))
        got = float(np.sqrt(np.mean(ours**2))), float(ours.max())
        want = float(np.sqrt(np.mean(theirs**2))), float(theirs.max())
        assert got[0] <= RMS * want[0] and got[1] <= LARGEST * want[1], (number, got, want)

"""Contractions of few rows whose other operand is windows of an image: grouped convolutions.

Takes a ContractKernel, gives where its windows lie: each axis of the image is walked by a place
`stride * position + dilation * element + first`, of which position is a loop of n and element a
loop of k. Code for such a kernel reads the image in order and unrolls the window's elements, so
their loops have literal extents (`with_literal_windows`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import cast

from rabbet.base.dtypes import bool_, int64
from rabbet.expr import expr
from rabbet.expr.affine import coefficient
from rabbet.expr.expr import Expr
from rabbet.kernel.access import Arguments
from rabbet.kernel.loops import ContractKernel
from rabbet.kernel.sums import in_pairs

MOST_ROWS = 4  # more rows share a copy of each window: a matrix product
MOST_TAPS = 64  # elements of a window, all channels of a group: their products are unrolled

_LINEAR = ("add", "sub", "mul", "neg")


@dataclass(frozen=True)
class Place:
    """One axis of the image; `source` is its coordinate as the kernel writes it."""

    source: Expr
    position: int | None  # a loop of n
    element: int | None  # a loop of k
    stride: int
    dilation: int
    first: int


def places(kernel: ContractKernel) -> tuple[Place, ...] | None:
    """The axes along which the kernel's `b` moves with n and k, if each moves by itself."""
    before = len(kernel.batch) + len(kernel.m)
    n = range(before, before + len(kernel.n))
    k = range(n.stop, n.stop + len(kernel.k))
    found: list[Place] = []
    for source in _coordinates(kernel.b, {*n, *k}):
        place = _place(source, n, k)
        if place is None:
            return None
        found.append(place)
    used = [v for p in found for v in (p.position, p.element) if v is not None]
    if sorted(used) != [*n, *k] or not n:
        return None
    last = next(p.source for p in found if p.position == n[-1])
    if inside(kernel.b, last) is None:
        return None
    windows = any(p.position is not None and p.element is not None for p in found)
    return tuple(found) if windows or not k else None


@dataclass(frozen=True)
class Inside:
    """Where a load reads memory: at places from every `low` on and before every `high` along one
    axis, where `others` holds for the other axes.
    """

    low: tuple[Expr, ...]
    high: tuple[Expr, ...]
    others: Expr


def inside(value: Expr, place: Expr) -> Inside | None:
    """Where a load (perhaps cast) is inside its image, along the axis with coordinate `place`."""
    load = loaded(value)
    return None if load is None else within(load.args[1:], place)


def within(conditions: Sequence[Expr], place: Expr) -> Inside | None:
    """Where conditions hold, along the axis with coordinate `place`."""
    variables = {e for e in expr.topological([place]) if e.op == "var"}
    low: list[Expr] = []
    high: list[Expr] = []
    others: Expr = expr.const(True, bool_)
    waiting = list(conditions)
    while waiting:
        e = waiting.pop()
        if e.op == "and":
            waiting += e.args
        elif not variables & set(expr.topological([e])):
            others = others & e
        elif e.op == "le" and e.args[1] is place:
            low.append(e.args[0])
        elif e.op == "lt" and e.args[0] is place:
            high.append(e.args[1])
        else:
            return None
    limits = set(expr.topological([*low, *high]))
    return None if variables & limits else Inside(tuple(low), tuple(high), others)


def loaded(value: Expr) -> Expr | None:
    """The load below casts."""
    while value.op == "cast":
        value = value.args[0]
    return value if value.op == "load" else None


def with_literal_windows(kernel: ContractKernel, arguments: Arguments) -> ContractKernel:
    """The kernel with literal extents of m and k where it has few rows and small windows."""
    extents = [[arguments.dim_of(e) for e in loops] for loops in (kernel.m, kernel.k)]
    known = [[d for d in dims if isinstance(d, int) and d > 0] for dims in extents]
    if [len(d) for d in known] != [len(d) for d in extents] or not _are_few(*known):
        return kernel
    if places(kernel) is None:
        return kernel
    m, k = (tuple(expr.const(d, int64) for d in dims) for dims in known)
    return replace(kernel, m=m, k=k)


def literal_extents(loops: tuple[Expr, ...]) -> tuple[int, ...] | None:
    """The extents of some loops, if they are written into the code."""
    if any(e.op != "const" for e in loops):
        return None
    return tuple(cast(int, e.value) for e in loops)


def is_direct(kernel: ContractKernel) -> bool:
    """True where the kernel's code walks the image, and copies no windows."""
    m, k = literal_extents(kernel.m), literal_extents(kernel.k)
    return (
        m is not None
        and k is not None
        and kernel.packed == (False, False)
        and not in_pairs(kernel)
        and _are_few(m, k)
        and places(kernel) is not None
    )


def _are_few(m: Sequence[int], k: Sequence[int]) -> bool:
    return prod(m) <= MOST_ROWS and prod(k) <= MOST_TAPS


def _coordinates(value: Expr, wanted: set[int]) -> list[Expr]:
    """The largest parts of `value` that are sums of some of these variables and numbers."""
    order = expr.topological([value])
    plain: dict[Expr, bool] = {}
    for e in order:
        if e.op == "var":
            plain[e] = e.value in wanted
        elif e.op == "const":
            plain[e] = e.dtype is int64
        else:
            plain[e] = e.op in _LINEAR and e.dtype is int64 and all(plain[a] for a in e.args)
    found: dict[Expr, None] = {}
    for e in order:
        if not plain[e]:
            found.update((a, None) for a in e.args if plain[a] and a.op != "const")
    if plain[value]:
        found[value] = None
    return list(found)


def _place(source: Expr, n: range, k: range) -> Place | None:
    """A coordinate of at most one position and one element, each with a literal step."""
    used = sorted({cast(int, e.value) for e in expr.topological([source]) if e.op == "var"})
    of_n, of_k = [v for v in used if v in n], [v for v in used if v in k]
    if len(of_n) > 1 or len(of_k) > 1:
        return None
    steps = [coefficient(source, v) for v in used]
    if any(s is None or s.op != "const" for s in steps):
        return None
    step = {v: cast(int, s.value) for v, s in zip(used, steps, strict=True) if s is not None}
    zero = expr.const(0, int64)
    (first,) = expr.substitute((source,), lambda e: zero if e.op == "var" else None)
    position, element = (next(iter(v), None) for v in (of_n, of_k))
    stride, dilation = (0 if v is None else step[v] for v in (position, element))
    if first.op != "const" or stride < 0 or (position is not None and not stride):
        return None
    return Place(source, position, element, stride, dilation, cast(int, first.value))

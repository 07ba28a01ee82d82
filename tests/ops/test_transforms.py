"""vmap and forward mode of every op, from the registry, computed by the reference engine."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import rabbet as rb
from rabbet.graph import sample
from rabbet.graph.op import Op
from rabbet.graph.sample import Sample
from tests.equivalence.ways import setting
from tests.ops.test_matrix import DIFFERENTIABLE, OPS, cases, close, promoted, samples

EXAMPLES = 3
STEP = 1e-6
MADE_LATER = {"reduce_blocks"}  # by the compiler, where no transform follows
RECORDED = [op for op in OPS if op.operands and op.name not in MADE_LATER]
OWN_DRAWS = ("key", "offset")  # operands that say where random numbers start: never per example


@pytest.fixture(autouse=True, scope="module")
def reference() -> Iterator[None]:
    """The reference engine, and no program that the other one made."""
    with setting(engine="reference"):
        yield


def called(op: Op, case: Sample) -> Callable[..., tuple[rb.Tensor, ...]]:
    """The op with the sample's attributes, as a function of its flat operands."""
    defaults = {p.name: p.default for p in op.parameters if p.role == "attribute"}
    holes = {p.name: [] if p.role == "list" else None for p in op.operands}
    attrs = op.bind((), holes | defaults | case.attrs)[1]
    form = sample.form(case)

    def function(*operands: rb.Tensor) -> tuple[rb.Tensor, ...]:
        found = operands[0].emit(op, operands, attrs, form)
        return found if isinstance(found, tuple) else (found,)

    return function


def names(op: Op, case: Sample) -> list[str]:
    """The parameter behind each flat operand."""
    found: list[str] = []
    for parameter, code in zip(op.operands, sample.form(case) or [1] * 99, strict=False):
        found += [parameter.name] * (code if code in (0, 1) else max(code - 2, 0))
    return found


def ways(count: int, fixed: list[bool]) -> Iterator[tuple[bool, ...]]:
    """Which operands have examples: all, the first alone, the last alone."""
    free = [not f for f in fixed]
    found = {tuple(free)}
    for one in (0, count - 1):
        found.add(tuple(f and i == one for i, f in enumerate(free)))
    yield from sorted(w for w in found if any(w))


@pytest.mark.parametrize("op", RECORDED, ids=lambda op: op.name)
def test_vmap(op: Op) -> None:
    """Many examples at once are what single calls give, stacked."""
    tried = 0
    for number, case in enumerate(samples(op)):
        swept = any(d.swept for d in sample.draws(case))
        dtype = next((d for d in case.dtypes if d == "float64"), case.dtypes[0])
        dtype = dtype if swept else "float64"
        drawn = [
            promoted(op, sample.arrays(case, dtype, number + 100 * i)) for i in range(EXAMPLES)
        ]
        fixed = [n in OWN_DRAWS for n in names(op, case)] or [False] * len(drawn[0])
        function = called(op, case)
        for way in ways(len(drawn[0]), fixed):
            given = [
                np.stack([d[i] for d in drawn]) if w else drawn[0][i] for i, w in enumerate(way)
            ]
            found = rb.vmap(function, in_axes=tuple(0 if w else None for w in way))(
                *map(rb.asarray, given)
            )
            for e in range(EXAMPLES):
                one = [rb.asarray(x[e] if w else x) for x, w in zip(given, way, strict=True)]
                for f, wanted in zip(found, function(*one), strict=True):
                    what = f"{op.name} {dtype} {case} examples in {way}"
                    close(f.numpy()[e], wanted.numpy(), case, dtype, what)
            tried += 1
    assert tried or all(n in OWN_DRAWS for n in names(op, samples(op)[0]))


class Partial:
    """A function of the operands `wrt` alone, with its floating results."""

    def __init__(
        self, function: Callable[..., tuple[rb.Tensor, ...]], arrays: list[Any], wrt: list[int]
    ) -> None:
        self.function, self.arrays, self.wrt = function, arrays, wrt

    def __call__(self, *xs: rb.Tensor) -> list[rb.Tensor]:
        operands = [rb.asarray(a) for a in self.arrays]
        for i, x in zip(self.wrt, xs, strict=True):
            operands[i] = x
        return [y for y in self.function(*operands) if y.dtype.is_float]


@pytest.mark.parametrize("op", DIFFERENTIABLE, ids=lambda op: op.name)
def test_forward_mode(op: Op) -> None:
    """The derivative along a direction against a central difference in float64."""
    random = np.random.default_rng(0)
    for case, _, arrays in cases(op, "float64"):
        if not case.grad:
            continue
        function = called(op, case)
        wrt = [
            i
            for i, (d, a) in enumerate(zip(sample.draws(case), arrays, strict=True))
            if d.swept and a.dtype.kind == "f"
        ]
        if not wrt:
            continue
        direction = {i: np.asarray(random.uniform(-1, 1, arrays[i].shape)) for i in wrt}

        partial = Partial(function, arrays, wrt)
        primals = tuple(rb.asarray(arrays[i]) for i in wrt)
        tangents = tuple(rb.asarray(direction[i]) for i in wrt)
        value, derivative = rb.jvp(partial, primals, tangents)
        points = [
            [
                y.numpy()
                for y in partial(*(x + step * t for x, t in zip(primals, tangents, strict=True)))
            ]
            for step in (-STEP, STEP, 0.0)
        ]
        for y, d, low, high, here in zip(value, derivative, *points, strict=True):
            slope = (high - low) / (2 * STEP)
            scale = 1 + np.abs(here).max(initial=0) + np.abs(slope).max(initial=0)
            what = f"{op.name} {case}"
            assert y.numpy().tobytes() == here.tobytes(), what
            assert np.abs(d.numpy() - slope).max(initial=0) <= 1e-6 * scale, what

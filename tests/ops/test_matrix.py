"""The op matrix, generated from the registry: every op, sample and dtype."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from rabbet import ops  # noqa: F401  (registers every op)
from rabbet.base.dtypes import dtype_of
from rabbet.base.errors import DTypeError, RabbetError
from rabbet.base.sizes import Dim, SizeScope
from rabbet.base.spec import Spec
from rabbet.graph import sample
from rabbet.graph.interpret import run
from rabbet.graph.op import Op
from rabbet.graph.sample import Sample
from rabbet.graph.value import Builder, Graph, Value, registry
from rabbet.ops.arithmetic import cast_array
from rabbet.transform.decompose import decompose
from rabbet.transform.gradient import gradient

# Control ops hold graphs of their own: tests/unit/export/test_control.py.
OPS = [op for op in registry.values() if op.kind not in ("input", "control")]
DIFFERENTIABLE = [op for op in OPS if op.differentiable]
STEP = 1e-5
HALF_STEPS = {"float16": 2.0**-10, "bfloat16": 2.0**-7}  # one unit in the last place
SPECIAL = [0.0, -0.0, 1.0, -1.0, 0.5, -2.5, 3e38, -1e-40, np.inf, -np.inf, np.nan]

each_op = pytest.mark.parametrize("op", OPS, ids=lambda op: op.name)
each_differentiable = pytest.mark.parametrize("op", DIFFERENTIABLE, ids=lambda op: op.name)


def samples(op: Op) -> list[Sample]:
    """The op's samples; a clear failure where there are none."""
    if op.samples is None:
        pytest.fail(f"{op.name} ({op.module}) has no samples: declare some beside it")
    return list(op.samples())


def single(
    op: Op,
    case: Sample,
    arrays: list[np.ndarray],
    shapes: list[tuple[Dim, ...]] | None = None,
) -> Graph:
    """A graph of one call, for operands of the arrays' shapes or others."""
    builder = Builder()
    inputs = [
        builder.input(Spec(shapes[i] if shapes else a.shape, dtype_of(a.dtype)))
        for i, a in enumerate(arrays)
    ]
    defaults = {p.name: p.default for p in op.parameters if p.role == "attribute"}
    attrs = op.bind((), _placeholders(op) | defaults | case.attrs)[1]
    specs = op.infer_specs([v.spec for v in inputs], attrs, sample.form(case))
    outputs = builder.call(op, tuple(inputs), attrs, sample.form(case), specs)
    return Graph(inputs, list(outputs))


def _placeholders(op: Op) -> dict[str, Any]:
    return {p.name: [] if p.role == "list" else None for p in op.operands}


def cases(op: Op, only: str | None = None) -> Iterator[tuple[Sample, str, list[np.ndarray]]]:
    """Every sample in every dtype it asks for."""
    for number, case in enumerate(samples(op)):
        for dtype in case.dtypes if any(d.swept for d in sample.draws(case)) else ("float64",):
            if only is None or dtype == only:
                yield case, dtype, promoted(op, sample.arrays(case, dtype, number))


def promoted(op: Op, arrays: list[np.ndarray]) -> list[np.ndarray]:
    """The operands as the op gets them, after its promotion."""
    wanted = op.operand_dtypes([Spec(a.shape, dtype_of(a.dtype)) for a in arrays])
    return [cast_array(a, d) for a, d in zip(arrays, wanted, strict=True)]


def close(found: np.ndarray, wanted: np.ndarray, case: Sample, dtype: str, what: str) -> None:
    """Equal for integers and bools; within rounding for floats, NaN and infinities alike."""
    assert found.shape == wanted.shape and found.dtype == wanted.dtype, what
    half = HALF_STEPS.get(wanted.dtype.name)
    if half is not None:
        found, wanted = found.astype(np.float32), wanted.astype(np.float32)
    elif wanted.dtype.kind not in "fc":
        np.testing.assert_array_equal(found, wanted, what)
        return
    relative = (case.tolerance or 1e-5) if wanted.real.dtype == np.float32 else 1e-11
    relative = half or relative
    finite = np.abs(wanted[np.isfinite(wanted)])
    scale = float(finite.max()) if finite.size else 1.0
    np.testing.assert_allclose(found, wanted, relative, relative * min(scale, 1.0), err_msg=what)


def halves(engine: Any) -> tuple[str, ...]:
    """float16 and bfloat16, where the engine decomposes: primitives are lowered in float32."""
    return () if engine.name == "lowered" else sample.HALVES


def derived(engine: Any) -> tuple[str, ...]:
    """Dtypes that are computed in terms of others."""
    return () if engine.name == "lowered" else (*sample.HALVES, *sample.COMPLEX)


@each_op
def test_reference_and_rule_agree(op: Op) -> None:
    """The reference gives the shapes and dtypes the op's rule promises (the interpreter checks)."""
    assert op.reference is not None, f"{op.name} has no reference"
    for case, _, arrays in cases(op):
        graph = single(op, case, arrays)
        run(graph, arrays)


@each_op
def test_engine_agrees(op: Op, engine: Any) -> None:
    """Every engine that takes the op gives what the reference gives."""
    if not engine.takes(op):
        return
    for case, dtype, arrays in cases(op):
        graph = single(op, case, arrays)
        wanted, found = run(graph, arrays), engine.run(graph, arrays)
        for w, f in zip(wanted, found, strict=True):
            close(f, w, case, dtype, f"{op.name} {dtype} {case}")


@each_op
def test_any_dtype_works_or_is_refused(op: Op, engine: Any) -> None:
    """A dtype no sample names is computed right, or refused with an error of ours."""
    case = samples(op)[0]
    if not (engine.takes(op) and op.public) or not any(d.swept for d in sample.draws(case)):
        return
    for dtype in (*sample.ALL, *derived(engine)):
        try:
            arrays = promoted(op, sample.arrays(case, dtype))
            graph = single(op, case, arrays)
        except RabbetError:
            continue
        for f, w in zip(engine.run(graph, arrays), run(graph, arrays), strict=True):
            close(f, w, case, dtype, f"{op.name} {dtype} {case}")


@pytest.mark.parametrize("op", [o for o in OPS if o.kind == "elementwise"], ids=lambda op: op.name)
def test_special_values(op: Op, engine: Any) -> None:
    """Zeros of both signs, subnormals, infinities and NaN go where the reference sends them."""
    if not engine.takes(op):
        return
    for dtype in ("float32", "float64", *halves(engine)):
        with np.errstate(over="ignore"):
            special = cast_array(np.array(SPECIAL), dtype_of(dtype))
        grid = np.meshgrid(*[special] * len(op.operands))
        arrays = [g.reshape(-1) for g in grid]
        case = samples(op)[0]
        try:
            graph = single(op, case, arrays)
        except DTypeError:
            continue
        (found,), (wanted,) = engine.run(graph, arrays), run(graph, arrays)
        close(found, wanted, case, dtype, f"{op.name} {dtype}")


# Ops whose reference says nothing about such values, and why.
FINITE_ONLY = {
    **dict.fromkeys(("cholesky", "eigh", "svd", "solve"), "LAPACK gives up on NaN"),
    **dict.fromkeys(("rfft_along",), "the rest of a signal with NaN is anybody's"),
    **dict.fromkeys(("softsign", "hardswish"), "limits at infinities, the formula gives NaN"),
    **dict.fromkeys(("gelu_slope", "lerp"), "limits at infinities, the formula gives NaN"),
    **dict.fromkeys(("resize", "grid_sample"), "the reference weighs every element, some by 0"),
    **dict.fromkeys(("histc", "quantile", "nanquantile", "zeta"), "NumPy and SciPy refuse them"),
    "attend_gradient": "a sum that is not finite has no slope",
}
ONLY_FIRST = ("conv", "contract", "attend")  # beside weights that are 0 outside their window


def not_finite(op: Op, case: Sample, arrays: list[np.ndarray], seed: int) -> list[np.ndarray]:
    """The operands with a sixth of their numbers replaced by NaN and infinities."""
    random = np.random.default_rng(seed)
    found = []
    for i, (drawn, array) in enumerate(zip(sample.draws(case), arrays, strict=True)):
        if drawn.swept and array.size and not (i and op.name.startswith(ONLY_FIRST)):
            array = array.copy()
            at = random.choice(array.size, max(1, array.size // 6), replace=False)
            array.reshape(-1)[at] = random.choice([np.nan, np.inf, -np.inf], at.size)
        found.append(array)
    return found


@each_op
def test_values_that_are_not_finite(op: Op, engine: Any) -> None:
    """NaN and infinities among other numbers come through every op as through its reference."""
    if not engine.takes(op) or op.name in FINITE_ONLY:
        return
    for seed, (case, dtype, arrays) in enumerate(cases(op, "float32")):
        given = not_finite(op, case, arrays, seed)
        graph = single(op, case, given)
        with np.errstate(all="ignore"):
            wanted, found = run(graph, given), engine.run(graph, given)
        for w, f in zip(wanted, found, strict=True):
            close(f, w, case, dtype, f"{op.name} {dtype} {case}")


class Slope:
    """L = sum of all outputs times fixed weights, and its exact gradient, as graphs."""

    def __init__(self, op: Op, case: Sample, arrays: list[np.ndarray], order: int) -> None:
        self.random = np.random.default_rng(1)
        graph = single(op, case, arrays)
        self.inputs, self.arrays = list(graph.inputs), list(arrays)
        swept = [d.swept for d in sample.draws(case)]
        self.wrt = [v for v, s in zip(graph.inputs, swept, strict=True) if s and v.dtype.is_float]
        outputs = graph.outputs[: len(graph.outputs) - op.residuals]
        self.outputs, self.weights = self.weighted([v for v in outputs if v.dtype.is_float])
        for _ in range(order - 1):
            found = gradient(self.outputs, self.weights, self.wrt)
            self.outputs, self.weights = self.weighted([v for v in found if v is not None])
        self.slope = gradient(self.outputs, self.weights, self.wrt) if self.outputs else []

    def weighted(self, outputs: list[Value]) -> tuple[list[Value], list[Value]]:
        """The outputs, and a new input of random numbers for each."""
        weights = []
        for v in outputs:
            weights.append(v.call.builder.input(v.spec))
            self.inputs.append(weights[-1])
            self.arrays.append(np.asarray(self.random.uniform(0.5, 1.5, v.shape)))
        return outputs, weights

    def along(self, direction: dict[int, np.ndarray], at: float) -> float:
        """L with the inputs moved by `at` along the direction."""
        moved = [
            a + at * direction[id(v)] if id(v) in direction else a
            for v, a in zip(self.inputs, self.arrays, strict=True)
        ]
        known = {id(v): a for v, a in zip(self.inputs, moved, strict=True)}
        found = run(Graph(self.inputs, self.outputs), moved)
        return sum(
            float(np.sum(f * known[id(w)])) for f, w in zip(found, self.weights, strict=True)
        )

    def check(self, what: str, tolerance: float) -> None:
        """The exact slope along one random direction against a central difference."""
        direction = {id(v): self.random.uniform(-1, 1, v.shape) for v in self.wrt}
        pairs = [(v, g) for v, g in zip(self.wrt, self.slope, strict=True) if g is not None]
        found = run(Graph(self.inputs, [g for _, g in pairs]), self.arrays)
        exact = sum(
            float(np.sum(f * direction[id(v)])) for (v, _), f in zip(pairs, found, strict=True)
        )
        rise = (self.along(direction, STEP) - self.along(direction, -STEP)) / (2 * STEP)
        size = 1 + sum(float(np.sum(np.abs(f))) for f in found)
        for (v, g), f in zip(pairs, found, strict=True):
            assert g.shape == v.shape and f.shape == v.shape, what
        assert abs(exact - rise) <= tolerance * size, f"{what}: {exact} is not {rise}"


@pytest.mark.parametrize("order", [1, 2])
@each_differentiable
def test_gradient(op: Op, order: int) -> None:
    """Gradients, and gradients of gradients, against finite differences in float64."""
    checked = False
    for case, dtype, arrays in cases(op, "float64"):
        if not case.grad:
            continue
        slope = Slope(op, case, arrays, order)
        if slope.outputs and slope.wrt:
            slope.check(f"{op.name} {dtype} order {order} {case}", 1e-6 if order == 1 else 1e-5)
            checked = True
    case, _, arrays = next(cases(op, "float64"), next(cases(op)))
    graph = single(op, case, arrays)  # from floats to floats; for complex: test_complex.py
    has_slope = all(any(v.dtype.is_float for v in vs) for vs in (graph.inputs, graph.outputs))
    if order == 1 and has_slope and any(d.swept for s in samples(op) for d in sample.draws(s)):
        assert checked, f"{op.name} is differentiable, but no sample checks its gradient"


@each_op
def test_sizes_may_be_symbols(op: Op) -> None:
    """Every op works where the sizes of its operands are known only when it runs."""
    for case, dtype, arrays in cases(op):
        scope = SizeScope()
        symbols: dict[int, Dim] = {}
        for n in sorted({n for a in arrays for n in a.shape if n > 1}):
            symbols[n] = scope.symbol(f"n{n}", n)
        shapes = [tuple(symbols.get(n, n) for n in a.shape) for a in arrays]
        graph = single(op, case, arrays, shapes)
        what = f"{op.name} {dtype} {case}"
        wanted = run(single(op, case, arrays), arrays)
        for f, w in zip(run(graph, arrays), wanted, strict=True):
            close(f, w, case, dtype, what)
        for f, w in zip(run(decompose(graph)[0], arrays), wanted, strict=True):
            close(f, w, case, dtype, what)

"""The ways to compute a program, and how their results are compared.

Every compiled way must give the same bits as the plainest one, "eager": each op flushed as it is
recorded. The NumPy reference must agree within rounding, unless moving the inputs by ulps, or the
results of the steps, moves the reference as far.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np

import rabbet as rb
from rabbet import recorder
from rabbet.base.config import config
from rabbet.engine import programs
from rabbet.engine.prepare import prepare
from rabbet.graph.value import lookup
from rabbet.tensor import Tensor, flush
from tests.equivalence.programs import (
    Leaf,
    Program,
    Registers,
    array_of,
    last_uses,
    perturbed,
)

SEED = 20


@dataclass
class Result:
    """What a program leaves: outputs, gradients of leaves (None: no path), branches taken."""

    outputs: list[np.ndarray]
    gradients: list[np.ndarray | None]
    decisions: list[bool] = field(default_factory=list)


class Difference(AssertionError):
    """Two ways of computing a program disagree."""


# ---- running ----------------------------------------------------------------------------------


def tensors(leaves: Sequence[Leaf], arrays: Sequence[np.ndarray], gradients: bool) -> list[Tensor]:
    """The leaves as tensors; floating ones collect gradients."""
    return [
        rb.tensor(a, requires_grad=gradients and x.is_float)
        for x, a in zip(leaves, arrays, strict=True)
    ]


def compute(
    program: Program,
    leaves: Sequence[Tensor],
    *,
    decisions: list[bool] | None = None,
    reads: bool = False,
    rounded: Callable[[Tensor], Tensor] | None = None,
) -> tuple[list[Tensor], list[Tensor | None], list[bool]]:
    """Outputs and gradients as tensors, recorded as user code would.

    `rounded`: what is done to the result of each call of an op.
    """
    registers = Registers(leaves, decisions)
    dying = last_uses(program)
    for number, step in enumerate(program.steps):
        value = registers.run(step)
        if rounded is not None and step.kind == "call":
            value = registers.values[-1] = rounded(value)
        if reads and number in program.reads:
            value.numpy()
        del value
        for dead in dying.get(number, ()):
            registers.values[dead] = None
    outputs = [registers.values[n] for n in program.outputs]
    found: list[Tensor | None] = []
    if program.differentiated:
        for leaf in leaves:
            leaf.grad = None
        loss = total([registers.values[n] for n in program.differentiated])
        if loss is not None:
            loss.backward()
        found = [x.grad for x in leaves]
    return [o.detach() for o in outputs], found, registers.decisions


def total(values: list[Tensor]) -> Tensor | None:
    """The values' weighted sum, where they require gradients; else None."""
    result = None
    for number, value in enumerate(values):
        if not value.requires_grad:
            continue
        part = (value * (number + 1.5)).sum().astype(rb.float64)
        result = part if result is None else result + part
    return result


def evaluate(
    program: Program,
    arrays: Sequence[np.ndarray] | None = None,
    *,
    decisions: list[bool] | None = None,
    reads: bool = False,
    rounded: Callable[[Tensor], Tensor] | None = None,
    wrap: Callable[[Any], Any] = lambda f: f,
    calls: int = 1,
) -> Result:
    """Run a program `calls` times from the same start; the results of the last run."""
    if arrays is None:
        arrays = [array_of(x) for x in program.leaves]
    leaves = tensors(program.leaves, arrays, bool(program.differentiated))
    taken: list[bool] = []

    def body(*args: Tensor) -> tuple[list[Tensor], list[Tensor | None]]:
        outputs, found, chosen = compute(
            program, args, decisions=decisions, reads=reads, rounded=rounded
        )
        taken[:] = chosen
        return outputs, found

    run = wrap(body)
    for _ in range(calls):
        rb.manual_seed(SEED)
        outputs, found = run(*leaves)
    return Result(
        [np.array(o.numpy()) for o in outputs],
        [None if g is None else np.array(g.numpy()) for g in found],
        list(taken),
    )


# ---- the ways ---------------------------------------------------------------------------------


@contextmanager
def setting(**values: Any) -> Iterator[None]:
    """Configuration for a while, with no program known yet.

    Programs of single ops stay known from one unfused run to the next: it saves most of the time.
    """
    before = {name: getattr(config, name) for name in values}
    flush()
    programs.families.clear()
    for name, value in values.items():
        setattr(config, name, value)
    known = _singles.setdefault((config.engine, config.target), {})
    if not config.fuse:
        programs.families.update(known)
    try:
        yield
    finally:
        flush()
        if not config.fuse:
            found = programs.families.items()
            known.update((k, f) for k, f in found if k.startswith(SINGLE))
            while len(known) > SINGLES_KEPT:
                del known[next(iter(known))]
        programs.families.clear()
        for name, value in before.items():
            setattr(config, name, value)


SINGLE = b"one"  # how the keys of single ops begin (engine/singly.py)
SINGLES_KEPT = 3000
_singles: dict[tuple[str, str], dict[bytes, Any]] = {}


@contextmanager
def one_by_one() -> Iterator[None]:
    """Every op runs as it is recorded, as with RABBET_DEBUG=eager."""
    _configure(eager=True)
    try:
        yield
    finally:
        _configure(eager=False)


def _configure(*, eager: bool) -> None:
    recorder.configure(
        prepare=prepare, handle=Tensor, flush=flush, cast=lookup("cast"), eager=eager
    )


def eager(program: Program) -> Result:
    """One op at a time: what all others are held against."""
    with setting(fuse=False), one_by_one():
        return evaluate(program)


def first_tier(program: Program) -> Result:
    """Whole segments over per-op kernels."""
    with setting(fuse=False):
        return evaluate(program)


def fused(program: Program) -> Result:
    """Whole segments, compiled at their second sight."""
    with setting():
        return evaluate(program, calls=2)


def fused_with_reads(program: Program) -> Result:
    """The same with values read in the middle."""
    with setting():
        return evaluate(program, reads=True, calls=2)


def jitted(program: Program) -> Result:
    """Recorded once, then replayed."""
    with setting():
        return evaluate(program, wrap=rb.jit, calls=2)


WAYS = {f.__name__: f for f in (first_tier, fused, fused_with_reads, jitted)}


def fused_for(target: str) -> Callable[[Program], Result]:
    """The fused way with machine code for another target."""

    def way(program: Program) -> Result:
        with setting(target=target):
            return evaluate(program, calls=2)

    return way


def reference(
    program: Program, decisions: list[bool], noise: int = 0, *, steps: bool = False
) -> Result:
    """The NumPy reference, on inputs moved by some ulps if `noise` is not 0.

    `steps`: the results of the ops are moved too. Where a step leaves equal elements (a loss that
    is broadcast, say), no noise of the inputs tells what the rounding of the next step does.
    """
    arrays = [perturbed(x, noise) if noise else array_of(x) for x in program.leaves]
    source = np.random.default_rng(noise)

    def moved(x: Tensor) -> Tensor:
        if not rb.isdtype(x.dtype, "real floating"):
            return x
        unit = 4 * rb.finfo(x.dtype).eps
        return x * rb.tensor(1 + source.uniform(-unit, unit, x.shape), dtype=x.dtype)

    with setting(engine="reference"):
        return evaluate(program, arrays, decisions=decisions, rounded=moved if steps else None)


# ---- comparing --------------------------------------------------------------------------------


def same_bits(wanted: Result, found: Result, what: str) -> None:
    """Raise Difference unless all bits agree (any NaN is as good as another)."""
    if wanted.decisions != found.decisions and found.decisions:
        raise Difference(f"{what}: other branches: {found.decisions}, not {wanted.decisions}")
    for kind in ("outputs", "gradients"):
        pairs = zip(getattr(wanted, kind), getattr(found, kind), strict=True)
        for number, (w, f) in enumerate(pairs):
            problem = _bits_differ(w, f)
            if problem:
                raise Difference(f"{what}: {kind} {number}: {problem}")


def _bits_differ(w: np.ndarray | None, f: np.ndarray | None) -> str:
    if w is None or f is None:
        return "" if w is f else f"{f} is not {w}"
    if w.shape != f.shape or w.dtype != f.dtype:
        return f"{f.dtype}{f.shape} is not {w.dtype}{w.shape}"
    if w.dtype.kind == "f":
        w, f = (np.where(np.isnan(x), np.nan, x).astype(w.dtype) for x in (w, f))
    if w.tobytes() == f.tobytes():
        return ""
    bits = f"u{w.dtype.itemsize}"
    w, f = np.ascontiguousarray(w), np.ascontiguousarray(f)
    places = np.argwhere(w.reshape(-1).view(bits) != f.reshape(-1).view(bits))[:, 0]
    at = int(places[0])
    return f"{len(places)} of {w.size} elements, first {at}: {f.flat[at]!r} is not {w.flat[at]!r}"


def near_reference(program: Program, found: Result) -> None:
    """Raise Difference where the result is further from the reference than rounding explains."""
    wanted = reference(program, found.decisions)
    problem, noisy = far(wanted, found, None), []
    for steps in (False, True):
        if not problem:
            return
        noisy += [reference(program, found.decisions, n, steps=steps) for n in range(1, 6)]
        problem = far(wanted, found, noisy)
    if problem:
        raise Difference(f"reference: {problem}")


def far(wanted: Result, found: Result, noisy: list[Result] | None) -> str:
    for kind in ("outputs", "gradients"):
        for number, (w, f) in enumerate(
            zip(getattr(wanted, kind), getattr(found, kind), strict=True)
        ):
            if w is None or f is None:
                if w is not f:
                    return f"{kind} {number}: {f} is not {w}"
                continue
            moved = [getattr(n, kind)[number] for n in noisy or ()]
            problem = _too_far(w, f, moved)
            if problem:
                return f"{kind} {number}: {problem}"
    return ""


def _too_far(w: np.ndarray, f: np.ndarray, moved: list[np.ndarray]) -> str:
    if w.shape != f.shape or w.dtype != f.dtype:
        return f"{f.dtype}{f.shape} is not {w.dtype}{w.shape}"
    if not w.size:
        return ""
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        exact, got = w.astype(np.float64), f.astype(np.float64)
        shift = np.zeros_like(exact)
        for m in moved:
            difference = np.abs(m.astype(np.float64) - exact)
            shift = np.maximum(shift, np.where(np.isnan(difference), np.inf, difference))
        finite = np.abs(exact[np.isfinite(exact)])
        scale = float(finite.max(initial=0.0))
        relative = 2e-5 if w.dtype == np.float32 or w.dtype.kind != "f" else 1e-6
        # float64 results may come from float32 operands, hence the wide tolerance for them
        allowed = (
            relative * (1 + scale) * (0 if w.dtype.kind != "f" and not moved else 1) + 100 * shift
        )
        allowed = allowed + 100 * float(np.max(shift, initial=0.0)) if moved else allowed
        bad = ~(np.abs(got - exact) <= allowed) & ~(
            (got == exact) | (np.isnan(got) & np.isnan(exact))
        )
    if not bad.any():
        return ""
    at = int(np.argwhere(bad.reshape(-1))[0, 0])
    return (
        f"{int(bad.sum())} of {w.size} elements, first {at}: {f.flat[at]!r} is not {w.flat[at]!r}"
    )

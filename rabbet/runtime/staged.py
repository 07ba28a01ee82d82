"""StagedProgram: compiled parts and, between them, the calls of host ops and of control ops.

Values that cross from one stage to the next are whole buffers; a host op gets read-only arrays over
them, and its results are copied into buffers of ours. Nothing here is compiled or kept on disk but
the parts' kernels.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np

from rabbet.base import sizes
from rabbet.base.errors import InternalError, RabbetError
from rabbet.base.shapes import show
from rabbet.base.sizes import SizeScope
from rabbet.base.spec import Spec
from rabbet.graph.interpret import concrete
from rabbet.graph.value import Call, Value, sites_of
from rabbet.runtime import buffers
from rabbet.runtime.errors import IndexFailure


class Runnable(Protocol):
    """What a compiled part is to its stages."""

    ops: list[list[str]]
    sites: list[list[int]]

    def run(self, symbols: tuple[int, ...], inputs: Sequence[Any]) -> list[Any]:
        """The outputs for these symbol values."""
        ...

    def accepts(self, symbols: tuple[int, ...]) -> bool:
        """True where the program may run for these symbol values."""
        ...


@dataclass(frozen=True)
class Stage:
    """One stage: what runs, and where its operands and results lie."""

    work: Runnable | Call
    operands: tuple[int, ...]
    results: tuple[int, ...]
    dead: tuple[int, ...]  # places nobody needs afterwards


class StagedProgram:
    """Runs stages one after the other."""

    def __init__(
        self,
        graph_inputs: Sequence[Value],
        outputs: Sequence[Value],
        works: Sequence[Any],
        scope: SizeScope | None = None,
    ) -> None:
        """`works`: (program or Call, values read, values made) in order; `scope`: of the sizes."""
        self.scope = scope
        self.places: dict[tuple[int, int], int] = {}
        for v in graph_inputs:
            self._place(v)
        self.inputs = len(self.places)
        stages = [
            Stage(work, tuple(map(self._place, read)), tuple(map(self._place, made)), ())
            for work, read, made in works
        ]
        self.outputs = [self._place(v) for v in outputs]
        self.stages = _with_deaths(stages, {*self.outputs, *range(self.inputs)})
        self.ops = [_name(s.work) for s in stages]
        self.sites = [_sites(s.work) for s in stages]

    def _place(self, v: Value) -> int:
        return self.places.setdefault((id(v.call), v.index), len(self.places))

    def accepts(self, symbols: tuple[int, ...]) -> bool:
        """True where every part may run, and what was asked of sizes has the same answers."""
        if self.scope is not None and not self.scope.holds(symbols):
            return False
        return all(s.work.accepts(symbols) for s in self.stages if not isinstance(s.work, Call))

    def run(self, symbols: tuple[int, ...], inputs: Sequence[Any]) -> list[Any]:
        """The outputs; raises IndexFailure, and what host ops raise, with the op's position."""
        return self._run(symbols, inputs, [])

    def run_timed(
        self, symbols: tuple[int, ...], inputs: Sequence[Any], times: list[int]
    ) -> list[Any]:
        """The outputs; nanoseconds of each stage are appended to `times`."""
        return self._run(symbols, inputs, times)

    def profile(self, symbols: tuple[int, ...], inputs: Sequence[Any]) -> list[int]:
        """Nanoseconds of each stage in one run."""
        times: list[int] = []
        self._run(symbols, inputs, times)
        return times

    def _run(self, symbols: tuple[int, ...], inputs: Sequence[Any], times: list[int]) -> list[Any]:
        memory = [*inputs, *[None] * (len(self.places) - self.inputs)]
        for stage in self.stages:
            begin = time.perf_counter_ns()
            given = [memory[o] for o in stage.operands]
            if isinstance(stage.work, Call):
                made = run_host(stage.work, symbols, given)
            else:
                made = stage.work.run(symbols, given)
            times.append(time.perf_counter_ns() - begin)
            for place, buffer in zip(stage.results, made, strict=True):
                memory[place] = buffer
            for place in stage.dead:
                memory[place] = None
        return [memory[o] for o in self.outputs]


def run_host(call: Call, symbols: tuple[int, ...], inputs: Sequence[Any]) -> list[Any]:
    """Buffers of all outputs of a host op, given buffers of its inputs."""
    operands = [
        buffers.to_numpy(b, _shape(v.spec, symbols), v.dtype)
        for b, v in zip(inputs, call.inputs, strict=True)
    ]
    named = call.op.arguments(operands, concrete(call.attrs, list(symbols)), call.form)
    try:
        with np.errstate(all="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)
            found = call.op.lower(*(named[p.name] for p in call.op.parameters))
    except IndexFailure:
        raise
    except RabbetError as error:
        error.position = call.site
        raise
    results = found if isinstance(found, tuple | list) else (found,)
    return [
        buffers.from_numpy(_checked(call.op.name, np.asarray(r), s, symbols), copy=True)
        for r, s in zip(results, call.specs, strict=True)
    ]


def _checked(name: str, found: np.ndarray, spec: Spec, symbols: tuple[int, ...]) -> np.ndarray:
    wanted = _shape(spec, symbols)
    if found.shape != wanted or found.dtype != spec.dtype.numpy:
        raise InternalError(
            f"{name}: the host gives {found.dtype}{show(found.shape)}, "
            f"not {spec.dtype.name}{show(wanted)}"
        )
    return found


def _shape(spec: Spec, symbols: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(sizes.evaluate(d, symbols) for d in spec.shape)


def _name(work: Any) -> list[str]:
    if isinstance(work, Call):
        return [f"{work.op.name} (host)"]
    return [name for ops in work.ops for name in ops]


def _sites(work: Any) -> list[int]:
    if isinstance(work, Call):
        return sites_of([work])
    first = [sites[0] for sites in work.sites[:1] if sites]
    return [*first, *sorted({n for sites in work.sites for n in sites} - {*first})]


def _with_deaths(stages: list[Stage], kept: set[int]) -> list[Stage]:
    last: dict[int, int] = {}
    for number, stage in enumerate(stages):
        for place in (*stage.operands, *stage.results):
            last[place] = number
    return [
        replace(stage, dead=tuple(p for p, n in last.items() if n == number and p not in kept))
        for number, stage in enumerate(stages)
    ]

"""All compiled versions of an entry that a library needs: no compiler is there when it runs.

A plan is valid where its guards hold. Starting from typical sizes, sizes that are often special are
tried, and where no plan so far accepts them another one is compiled.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product

from rabbet.base.errors import BuildError, FormatError, IndexRangeError, RabbetError
from rabbet.base.sizes import SizeScope, holds
from rabbet.base.target import Target
from rabbet.export.graph import Built, build
from rabbet.export.portable import Entry, Portable, guard_holds, make_scope
from rabbet.runtime.assembly import Compiled
from rabbet.runtime.compile import PackPlan, compile_kept, compile_plan

TYPICAL = 8
TRIED = (1, 0, 2, 3, 4, 5, 7, 8, 15, 16, 17, 31, 32, 33, 64, 100, 128, 256, 512, 1000, 4096, 65536)
TRIED_TOGETHER = (1, 2, 8, 64, 1000)
VERSIONS_KEPT = 32


@dataclass(eq=False)
class Compilation:
    """One plan with the numbers of the weights that follow the inputs, and what packs the operands
    that follow those. Weights that are not `read` are only there in panels.
    """

    compiled: Compiled
    scope: SizeScope | None
    weights: list[int]
    packs: list[PackPlan]
    read: set[int]

    def accepts(self, symbols: Sequence[int]) -> bool:
        """True where its guards hold."""
        guards = self.scope.guards.values() if self.scope is not None else ()
        try:
            return all(holds(g.relation, g.expr.evaluate(tuple(symbols))) for g in guards)
        except ZeroDivisionError:
            return False


def guards_hold(entry: Entry, symbols: Sequence[int]) -> bool:
    """True where the entry may be called with these sizes."""
    named = [(n, v) for (n, _), v in zip(entry.symbols, symbols, strict=True)]
    _, dims = make_scope(named)
    return all(guard_holds(r, f, dims) for r, f in entry.guards)


def compile_versions(program: Portable, entry: Entry, target: Target) -> list[Compilation]:
    """Plans for the sizes a library will meet, the most general first.

    Raises BuildError if nothing can be compiled, CompileError where the compiler fails.
    """
    versions: list[Compilation] = []
    failure: RabbetError | None = None
    for symbols in _tried(entry):
        if not guards_hold(entry, symbols) or any(v.accepts(symbols) for v in versions):
            continue
        try:
            built = build(program, entry, symbols)
            versions.append(_compiled(built, len(entry.inputs), target))
        except (FormatError, IndexRangeError) as error:  # the model has no meaning at this size
            failure = failure or error
            continue
        if len(versions) == VERSIONS_KEPT:
            break
    if not versions:
        raise BuildError(f"{entry.name}: there is no size it can be built for: {failure}")
    return versions


def _compiled(built: Built, inputs: int, target: Target) -> Compilation:
    constants = range(inputs, len(built.graph.inputs))
    kept = compile_kept(built.graph, target, constants, scope=built.scope)
    if kept is None:  # it needs several plans, which is an error here
        plan = compile_plan(built.graph, target, scope=built.scope)
        return Compilation(plan, built.scope, built.weights, [], set(built.weights))
    for pack in kept.packs:
        pack.constants = [built.weights[n - inputs] for n in pack.constants]
    read = {w for n, w in zip(constants, built.weights, strict=True) if n in kept.read}
    return Compilation(kept.main, built.scope, built.weights, kept.packs, read)


def _tried(entry: Entry) -> Iterator[list[int]]:
    """Sizes to make sure of: the example and typical ones, then each size special on its own, then
    all.
    """
    example = [v for _, v in entry.symbols]
    typical = [max(v, TYPICAL) for v in example]
    yield typical
    yield example
    if not entry.symbols:
        return
    for value in TRIED:
        yield [value] * len(example)
        for i in range(len(example)):
            for start in (typical, example):
                yield [*start[:i], value, *start[i + 1 :]]
    together = TRIED if len(example) <= 2 else TRIED_TOGETHER
    if len(example) <= 4:
        yield from map(list, product(together, repeat=len(example)))

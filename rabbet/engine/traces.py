"""A recorded call as data: stages, decisions, the end; and the same for the native replay.

`higher/jit.py` writes these records and walks them; `recorder/native/replay.cpp` plays them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from rabbet.base.spec import Spec, intern
from rabbet.base.tree import Structure
from rabbet.recorder import Handle, Replay

Source = tuple[Any, ...]
Target = Any  # a captured Handle, or the number of an argument
# ("argument", i) | ("handle", handle) | ("grad", target) | ("made", stage, output) | ("constant",
# buffer)
# | ("offset", generator, relative, dtype)


@dataclass(eq=False)
class Stage:
    """One segment of a recorded call."""

    program: Any
    symbols: tuple[int, ...]
    inputs: list[Source]
    ops: list[tuple[str, Any]]  # name and site of each op, for errors
    graph: Any = None  # with its scope, until it is known what may be kept of it


@dataclass(eq=False)
class Final:
    """What a call leaves behind."""

    structure: Structure
    results: list[tuple[Any, Any]]  # (source, node as recorded), or (None, plain value)
    assigned: list[tuple[Target, Source, bool, Spec]]  # (handle, its new value, stays a leaf, ...)
    grads: list[tuple[Target, Source | None, Spec]]
    draws: list[tuple[Any, int]]  # (generator, how far it moved)


@dataclass(eq=False)
class Branch:
    """Stages, then either a decision or the end."""

    stages: list[Stage] = field(default_factory=list)
    decision: Source | None = None
    after: dict[bool, Branch] = field(default_factory=dict)
    final: Final | None = None
    replay: Any = None  # the native record of the above; False: some program is run by Python
    kept: Any = None  # see kept.py


def merge(branch: Branch, path: list[tuple[str, Any, Any]], final: Final) -> None:
    """Add one recorded path to the tree; the part already known is left as it is."""
    new = not branch.stages and branch.decision is None and branch.final is None
    for kind, what, outcome in path:
        if kind == "stage":
            if new:
                branch.stages.append(what)
            continue
        if new:
            branch.decision = what
        if outcome not in branch.after:
            branch.after[outcome] = Branch()
            new = True
        else:
            new = False
        branch = branch.after[outcome]
    if branch.final is None:
        branch.final = final


KINDS = {"made": 0, "argument": 1, "handle": 2, "grad": 3, "constant": 4, "offset": 5}


def native(branch: Branch) -> Any:
    """The branch for the recorder (see recorder/native/replay.cpp), or False."""
    if not all(hasattr(stage.program, "native") for stage in branch.stages):
        return False
    final = branch.final
    stages = tuple(
        (
            stage.program.bind(stage.symbols),
            tuple(_encoded(s) for s in stage.inputs),
            _givable(stage, final),
        )
        for stage in branch.stages
    )
    if final is None:
        return Replay(stages, (), (), (), (), False)
    return Replay(
        stages,
        tuple((t, _encoded(s), (spec,), leaf) for t, s, leaf, spec in final.assigned),
        tuple((t, s and _encoded(s), s and (spec,), False) for t, s, spec in final.grads),
        tuple(_encoded_result(s, v) for s, v in final.results),
        tuple(final.draws),
        True,
    )


def _givable(stage: Stage, final: Final | None) -> tuple[bool, ...]:
    """For each input: nobody can see this value after the call. It is the old one of a handle that
    gets another, or was made on the way. Only the last stage before the end may write over it:
    nothing can fail, or decide otherwise, after that.
    """
    if final is None:
        return (False,) * len(stage.inputs)
    ends = [s for _, s, _, _ in final.assigned] + [s for _, s, _ in final.grads if s is not None]
    ends += [s for s, _ in final.results if s is not None]
    seen = set(map(_name, ends))
    targets = [t for t, _, _, _ in final.assigned]
    replaced = {("handle", id(t)) if isinstance(t, Handle) else ("argument", t) for t in targets}
    return tuple(
        (s[0] == "made" or _name(s) in replaced) and _name(s) not in seen for s in stage.inputs
    )


def _name(source: Source) -> tuple[Any, ...]:
    """What tells sources apart."""
    return (source[0], id(source[1]) if source[0] == "handle" else source[1], *source[2:])


def _encoded(source: Source) -> tuple[Any, ...]:
    kind = KINDS[source[0]]
    if source[0] == "offset":
        _, generator, relative, dtype = source
        return (kind, generator, relative, intern((), dtype))
    return (kind, *source[1:])


def _encoded_result(source: Source | None, recorded: Any) -> tuple[Any, Any, Any, bool]:
    if source is None:
        return (None, None, None, False)
    node = recorded._node
    plain = not (node.requires_grad and node.cut)
    return (None, _encoded(source), (node.specs[recorded._index],) if plain else None, False)

"""How a contraction would read an operand where it is: as one load, and in runs of memory?

An operand that is neither is written out once, before: every task reads it, most of them again.
"""

from __future__ import annotations

from rabbet.base.sizes import Dim
from rabbet.expr import expr
from rabbet.expr.affine import coefficient
from rabbet.expr.expr import Expr
from rabbet.graph.value import Call, Value
from rabbet.kernel import access
from rabbet.kernel.access import Arguments

NEAR = (1, 2)  # steps that are read as runs


def is_plain(v: Value) -> bool:
    """True where reading `v` is one load (with padding perhaps), not a computation."""
    return _read(v)[0].op == "load"


def has_runs(call: Call, number: int) -> bool:
    """True where memory runs along the last summed axis or along the last axis that operand
    `number` gives the result; also where copying would make the operand larger (windows).
    """
    v = call.inputs[number]
    found, base = _read(v)
    if found.op != "load" or len(found.args) > 1 or base is None or _is_larger(v, base):
        return True
    a_axes, b_axes, out = (call.attrs[name] for name in ("a_axes", "b_axes", "out_axes"))
    labels = (a_axes, b_axes)[number]
    place = {label: axis for axis, label in enumerate(labels)}
    kept = [label for label in out if label in place]
    summed = [label for label in a_axes if label in place and label not in out]
    last = [axes[-1] for group in (kept, summed) if (axes := _long(v, group, place))]
    return not last or any(_is_near(found.args[0], axis) for axis in last)


def _long(v: Value, labels: list[int], place: dict[int, int]) -> list[int]:
    axes = [place[label] for label in labels]
    return [a for a in axes if not (isinstance(v.shape[a], int) and v.shape[a] == 1)]


def _is_near(index: Expr, axis: int) -> bool:
    step = coefficient(index, axis)
    return step is None or (step.op == "const" and step.value in NEAR)


def _is_larger(v: Value, base: Value) -> bool:
    here: Dim = v.spec.elements
    there: Dim = base.spec.elements
    if isinstance(here, int) and isinstance(there, int):
        return here > there
    return True


def _read(v: Value) -> tuple[Expr, Value | None]:
    """The expression for an element of `v`, and the value it loads (the last one of several)."""
    scratch, loaded = Arguments(), list[Value]()

    def load(x: Value, index: access.Index, valid: Expr | None) -> Expr:
        loaded.append(access.storage(x))
        return access.load_stored(x, index, scratch, valid)

    found = access.read(v, tuple(expr.var(a) for a in range(v.ndim)), scratch, load)
    return found, loaded[-1] if loaded else None

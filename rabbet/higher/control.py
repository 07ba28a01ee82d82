"""cond, switch, while_loop, scan: control flow as functions.

Eager code and `rb.jit` look at the values and run what is to be run, so gradients of every kind
follow from what was recorded. While `rb.export` records there are no values; then its notes
(`Tape.capture.regions`, see export/regions.py) take the functions apart into graphs. Under `vmap`
every example takes its own way: all ways are computed, and `where` chooses.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from rabbet.base import tree
from rabbet.base.errors import DTypeError, RabbetError, ShapeError
from rabbet.base.shapes import show
from rabbet.graph.value import lookup
from rabbet.recorder import current
from rabbet.tensor.create import arange, asarray, zeros
from rabbet.tensor.tensor import Tensor


def cond(
    pred: Any, true_fn: Callable[..., Any], false_fn: Callable[..., Any], *operands: Any
) -> Any:
    """true_fn(*operands) where `pred` (one element) is true, else false_fn(*operands).

    Both give trees of tensors of the same shapes and dtypes. What an exported program and `jit`
    compute depends on the value each time; gradients go through the branch that was taken.
    Raises ShapeError for more than one element.

    >>> x = rb.tensor([1.0, -4.0])
    >>> rb.cond(x.sum() > 0, lambda x: x, lambda x: -x, x)
    tensor([-1.,  4.])
    """
    if not isinstance(pred, Tensor):
        return true_fn(*operands) if pred else false_fn(*operands)
    if _stands_for_many(pred):
        return _selected(_truth(pred), true_fn(*operands), false_fn(*operands))
    regions = _regions()
    if regions is not None:
        return regions.cond(pred, true_fn, false_fn, operands)
    return true_fn(*operands) if bool(pred) else false_fn(*operands)


def switch(index: Any, branches: Sequence[Callable[..., Any]], *operands: Any) -> Any:
    """branches[index](*operands); an index outside is taken as the nearest one.

    >>> rb.switch(rb.tensor(1), [rb.sin, rb.exp, rb.cos], rb.tensor(0.0))
    tensor(1.)
    """
    if not branches:
        raise RabbetError("switch: there must be at least one branch")
    if not isinstance(index, Tensor):
        return branches[min(max(index, 0), len(branches) - 1)](*operands)
    if index.dtype.kind not in "iu" or index.shape != ():
        raise DTypeError(f"switch: the index must be a 0-d integer, not {index.spec}")
    return _switch(index, list(branches), 0, operands)


def _switch(index: Any, branches: list[Callable[..., Any]], low: int, operands: Any) -> Any:
    """One of `branches`, the first of which is number `low`: by halves."""
    if len(branches) == 1:
        return branches[0](*operands)
    half = len(branches) // 2
    return cond(
        index < low + half,
        lambda *xs: _switch(index, branches[:half], low, xs),
        lambda *xs: _switch(index, branches[half:], low + half, xs),
        *operands,
    )


def while_loop(cond_fn: Callable[[Any], Any], body_fn: Callable[[Any], Any], init: Any) -> Any:
    """`init` after as many calls of `body_fn` as `cond_fn` (one element, true) allows.

    `init` is a tree of tensors; `body_fn` takes such a tree and gives one of the same shapes and
    dtypes. Gradients, backward and forward, go through the calls that were made.
    Raises ShapeError, DTypeError where `body_fn` gives something else.

    >>> rb.while_loop(lambda x: x < 100, lambda x: x * 2, rb.tensor(3))
    tensor(192)
    """
    leaves, structure = tree.flatten(init)
    init = tree.unflatten(structure, [_tensor("while_loop", x) for x in leaves])
    regions = _regions()
    if regions is not None and current().interpreter is None:
        return regions.while_loop(cond_fn, body_fn, init)
    state = init
    while True:
        going = cond_fn(state)
        if isinstance(going, Tensor) and _stands_for_many(going):
            return _together(cond_fn, body_fn, state)
        if not going:
            return state
        state = _same_form("while_loop", body_fn(state), state)


def scan(
    f: Callable[[Any, Any], tuple[Any, Any]],
    init: Any,
    xs: Any = None,
    length: int | None = None,
    reverse: bool = False,
) -> tuple[Any, Any]:
    """(carry, ys): carry, y = f(carry, x) for every x along axis 0 of `xs`; ys are all y stacked.

    `xs` is a tree of tensors of equal length, or None with `length`; with `reverse` the last x
    comes first (ys stay in the order of xs). Differentiable backward and forward.
    Raises ShapeError where lengths differ or the carry changes its form.

    >>> rb.scan(lambda total, x: (total + x, total + x), rb.tensor(0.0), rb.tensor([1.0, 2.0, 3.0]))
    (tensor(6.), tensor([1., 3., 6.]))
    """
    leaves, structure = tree.flatten(xs) if xs is not None else ([], tree.Structure(None))
    leaves = [_tensor("scan", x) for x in leaves]
    n = _length(leaves, length)
    start, form = tree.flatten(init)
    carry = tree.unflatten(form, [_tensor("scan", x) for x in start])
    if n == 0:
        raise ShapeError("scan: there is nothing to scan: the length is 0")
    if _regions() is not None:
        return _scan_in_a_loop(f, carry, structure, leaves, n, reverse)
    rows: list[Any] = [None] * n
    for i in reversed(range(n)) if reverse else range(n):
        x = None if xs is None else tree.unflatten(structure, [leaf[i] for leaf in leaves])
        made = f(carry, x)
        if not isinstance(made, tuple) or len(made) != 2:
            raise RabbetError("scan: the function must return (carry, y)")
        carry, rows[i] = _same_form("scan", made[0], carry), made[1]
    return carry, _stacked(rows)


def _scan_in_a_loop(
    f: Callable[[Any, Any], tuple[Any, Any]],
    carry: Any,
    structure: tree.Structure,
    leaves: Sequence[Tensor],
    n: int,
    reverse: bool,
) -> tuple[Any, Any]:
    """For export: the same as a while_loop over the number of the step."""

    def step(number: Any, carry: Any) -> tuple[Any, Any]:
        at = n - 1 - number if reverse else number
        x = tree.unflatten(structure, [leaf[at] for leaf in leaves]) if leaves else None
        made = f(carry, x)
        return _same_form("scan", made[0], carry), made[1]

    def put(rows: Tensor, number: Any, y: Any) -> Any:
        at = n - 1 - number if reverse else number
        places = lookup("reshape")(arange(n), (n, *(1,) * (rows.ndim - 1)))
        return lookup("where")(places == at, y, rows)

    carry, y = step(0, carry)
    ys, form = tree.flatten(y)
    empty = [y if y is None else zeros((n, *y.shape), dtype=y.dtype) for y in ys]
    rows = [r if r is None else put(r, 0, y) for r, y in zip(empty, ys, strict=True)]

    def body(state: Any) -> Any:
        number, carry, rows = state
        carry, y = step(number, carry)
        given = [v for v in tree.flatten(y)[0] if v is not None]
        return number + 1, carry, [put(r, number, v) for r, v in zip(rows, given, strict=True)]

    start = (asarray(1), carry, [r for r in rows if r is not None])
    _, carry, made = while_loop(lambda state: state[0] < n, body, start)
    rest = iter(made)
    return carry, tree.unflatten(form, [None if r is None else next(rest) for r in rows])


def _length(leaves: Sequence[Tensor], length: int | None) -> int:
    for leaf in leaves:
        if leaf.ndim == 0:
            raise ShapeError("scan: xs must have an axis 0 to go along; one is 0-d")
    found = {int(leaf.shape[0]) for leaf in leaves} | ({length} if length is not None else set())
    if len(found) != 1:
        shown = ", ".join(map(str, sorted(found))) or "none given"
        raise ShapeError(f"scan: xs and length must agree on one length: {shown}")
    return found.pop()


def _stacked(rows: Sequence[Any]) -> Any:
    flat = [tree.flatten(row) for row in rows]
    form = flat[0][1]
    if any(other != form for _, other in flat):
        raise ShapeError("scan: y must have the same form each time")
    columns = zip(*(leaves for leaves, _ in flat), strict=True)
    stacked = [
        None if column[0] is None else lookup("stack")([_tensor("scan", y) for y in column], axis=0)
        for column in columns
    ]
    return tree.unflatten(form, stacked)


# ---- under vmap ----------------------------------------------------------------------------------


def _stands_for_many(x: Tensor) -> bool:
    """True where a tensor stands for one of several examples (see vmap.py)."""
    interpreter = current().interpreter
    return interpreter is not None and interpreter.is_batched(x)


def _selected(pred: Any, true: Any, false: Any) -> Any:
    true_leaves, structure = tree.flatten(true)
    false_leaves = tree.flatten(_same_form("cond", false, true))[0]
    chosen = [lookup("where")(pred, a, b) for a, b in zip(true_leaves, false_leaves, strict=True)]
    return tree.unflatten(structure, chosen)


def _together(cond_fn: Callable[[Any], Any], body_fn: Callable[[Any], Any], state: Any) -> Any:
    """All examples at once: those that have ended stay as they are."""
    interpreter = current().interpreter
    while True:
        going = _truth(cond_fn(state))
        if not interpreter.any(going):
            return state
        state = _selected(going, _same_form("while_loop", body_fn(state), state), state)


# ---- parts ---------------------------------------------------------------------------------------


def _regions() -> Any:
    return getattr(current().capture, "regions", None)


def _truth(x: Tensor) -> Any:
    if x.numel() != 1:
        raise ShapeError(
            f"the condition has {x.numel()} elements; one is needed (.any() or .all()?)"
        )
    flat = lookup("reshape")(x, ())
    return flat if flat.dtype.kind == "b" else lookup("not_equal")(flat, 0)


def _tensor(name: str, x: Any) -> Tensor:
    if isinstance(x, Tensor):
        return x
    if isinstance(x, bool | int | float | complex):
        return asarray(x)
    raise DTypeError(f"{name}: tensors are needed, not a {type(x).__name__}")


def _same_form(name: str, found: Any, wanted: Any) -> Any:
    """`found`, checked: the same tree of the same shapes and dtypes as `wanted`."""
    leaves, form = tree.flatten(found)
    like, structure = tree.flatten(wanted)
    if form != structure:
        raise ShapeError(f"{name}: the result has another form than what it stands for")
    leaves = [_tensor(name, x) for x in leaves]
    for x, y in zip(leaves, like, strict=True):
        if x.shape != y.shape or x.dtype is not y.dtype:
            raise ShapeError(
                f"{name}: {y.dtype.name}{show(y.shape)} is needed, not {x.dtype.name}"
                f"{show(x.shape)}"
            )
    return tree.unflatten(form, leaves)

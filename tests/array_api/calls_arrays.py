"""Random calls of functions that make, move, find, sort and reduce elements; of indexing."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import numpy as np

from tests.array_api.arguments import Draw, promotes
from tests.array_api.calls import Call, DType, Maker, applied
from tests.array_api.draws import ALL, COMPLEX, FLOATS, NUMERIC, REAL, REAL_FLOATS, SIGNED, UNSIGNED

# ---- creation ------------------------------------------------------------------------------------


def _size(d: Draw) -> Any:
    shape = d.shape()
    return (
        d.pick(shape, list(shape), d.integer(0, 4)) if d.chance(0.95) else d.pick(-1, (2, -1), 2.5)
    )


def _filled(name: str) -> Maker:
    def made(d: Draw) -> Call:
        dtype = d.pick(*ALL)
        more = d.maybe(dtype=DType(dtype), device=None)
        if name == "full":
            value = d.scalar(dtype)
            return Call(name, (_size(d), value), more if d.boolean() else {})
        return Call(name, (_size(d),), more)

    return made


def _like(name: str) -> Maker:
    def made(d: Draw) -> Call:
        dtype = d.pick(*ALL)
        x = d.array()
        value = (d.scalar(x.dtype.name),) if name == "full_like" else ()
        more = {} if name == "full_like" else {"dtype": DType(dtype)}
        return Call(name, (x, *value), d.maybe(device=None, **more))

    return made


def _arange(d: Draw) -> Call:
    whole = d.boolean()
    number: Callable[[], Any] = (
        (lambda: d.integer(-9, 9)) if whole else (lambda: d.integer(-36, 36) / 4)
    )
    args = [number() for _ in range(d.integer(1, 3))]
    if len(args) == 3 and not args[2]:
        args[2] = 1
    kinds = NUMERIC[:-2] if whole else REAL_FLOATS
    if len(args) > 1 and d.boolean():
        more = {"stop": args[1], **({"step": args[2]} if len(args) > 2 else {})}
        return Call("arange", (args[0],), more)
    kind = d.pick(*kinds)
    if kind in UNSIGNED:
        kind = "int16"
    return Call("arange", tuple(args), d.maybe(dtype=DType(kind)))


def _linspace(d: Draw) -> Call:
    low, high = d.integer(-20, 20) / 2, d.integer(-20, 20)
    ends = (low, high) if d.boolean() else (high, low)
    return Call(
        "linspace",
        (*ends, d.integer(0, 9)),
        d.maybe(dtype=DType(d.pick(*FLOATS)), endpoint=d.boolean()),
    )


def _eye(d: Draw) -> Call:
    columns = d.pick((), (None,), (d.integer(0, 5),))
    return Call(
        "eye", (d.integer(0, 5), *columns), d.maybe(k=d.integer(-6, 6), dtype=DType(d.pick(*ALL)))
    )


def _nested(d: Draw) -> Call:
    """Lists of numbers of one kind or of several."""
    kinds = d.pick("b", "i", "f", "c", "bi", "if", "fc", "bif", "ic", "bifc")
    numbers = {"b": (True, False), "i": (0, 1, -7, 2**31, 2**62), "f": (0.5, -0.0, 1e300, np.nan)}
    numbers["c"] = (1j, 2.5 - 1j, complex(np.nan, 1))

    def made(shape: tuple[int, ...]) -> Any:
        if not shape:
            return d.pick(*numbers[d.pick(*kinds)])
        rows = [made(shape[1:]) for _ in range(shape[0])]
        return rows if d.boolean() else tuple(rows)

    shape = d.shape(0, 3)
    dtype = {"b": "bool", "i": "int64", "f": "float64", "c": "complex128"}[kinds[-1]]
    obj = made(shape)
    return Call(lambda xp, **k: xp.asarray(obj, **k), (), d.maybe(dtype=DType(dtype)))


def _astype(d: Draw) -> Call:
    x = d.array(kind=d.pick("any", "plain"))
    to = d.pick(*(COMPLEX if x.dtype.kind == "c" else ALL))
    if x.dtype.kind in "fc" and np.dtype(to).kind in "iu":
        x = np.where(np.isfinite(x) & (np.abs(x) < 100), np.abs(x), 0).astype(x.dtype)
    return Call("astype", (x, DType(to)), d.maybe(copy=d.boolean(), device=None))


def _tri(name: str) -> Maker:
    return lambda d: Call(
        name, (d.array(shape=d.shape(2 - d.chance(d.wrong))),), d.maybe(k=d.integer(-6, 6))
    )


def _meshgrid(d: Draw) -> Call:
    kind = d.pick(*ALL)
    rows = tuple(d.numbers(kind, d.shape(1, 1)) for _ in range(d.integer(1, 4)))
    return Call("meshgrid", rows, d.maybe(indexing=d.pick("xy", "ij")))


# ---- manipulation --------------------------------------------------------------------------------


def _several(d: Draw, name: str) -> Call:
    count = d.integer(1, 3)
    kinds = d.dtypes(count, ALL)
    shape = d.shape(0 if name == "stack" else 1, 3)
    axis = d.axis(len(shape) + (name == "stack"))
    shapes = [list(shape) for _ in kinds]
    if name == "concat" and d.boolean() and -len(shape) <= axis < len(shape):
        for s in shapes:
            s[axis] = d.integer(0, 3)
    if d.chance(d.wrong):
        shapes[0] = [*shape, 1]
    arrays = [d.numbers(k, tuple(s)) for k, s in zip(kinds, shapes, strict=True)]
    if name == "concat" and d.chance(0.2):
        return Call(name, (arrays,), {"axis": None})
    return Call(name, (tuple(arrays) if d.boolean() else arrays,), d.maybe(axis=axis))


def _reshape(d: Draw) -> Call:
    x = d.array()
    options: list[Any] = [(x.size,), x.shape[::-1], (1, x.size), (*x.shape, 1), (-1,), (-1, 1)]
    options += [(2, -1), (x.size + 1,), (-1, -1), x.shape]
    return Call("reshape", (x, d.pick(*options)), d.maybe(copy=d.pick(None, True)))


def _squeeze(d: Draw) -> Call:
    x = d.array()
    ones = [n for n, size in enumerate(x.shape) if size == 1]
    axis = d.pick(tuple(ones), *ones, *(n - x.ndim for n in ones), d.axes(x.ndim) or ())
    return Call("squeeze", (x, axis))


def _moveaxis(d: Draw) -> Call:
    x = d.array()
    count = d.integer(0, x.ndim)
    moves = [tuple(d.rng.permutation(x.ndim)[:count].tolist()) for _ in range(2)]
    if d.boolean() and x.ndim:
        moves = [d.axis(x.ndim), d.axis(x.ndim)]
    elif d.chance(d.wrong) and x.ndim:
        moves[0] = (*moves[0], 0)
    return Call("moveaxis", (x, *moves))


def _permute(d: Draw) -> Call:
    x = d.array()
    axes = d.rng.permutation(x.ndim).tolist()
    if axes and d.chance(d.wrong):
        axes[0] = d.pick(axes[-1], x.ndim)
    axes = [a - x.ndim if d.chance(0.2) else a for a in axes]
    return Call("permute_dims", (x, tuple(axes)))


def _roll(d: Draw) -> Call:
    x = d.array()
    axis = d.axes(x.ndim) or None
    shift: Any = d.integer(-9, 9)
    if isinstance(axis, tuple):
        shift = tuple(d.integer(-9, 9) for _ in axis) if d.boolean() else shift
    return Call("roll", (x, shift), {"axis": axis})


def _repeat(d: Draw) -> Call:
    x = d.array(shape=d.shape(1, 3))
    axis = d.pick(None, d.axis(x.ndim))
    size = x.size if axis is None or not -x.ndim <= axis < x.ndim else x.shape[axis]
    each = d.rng.integers(0, 4, d.pick(size, size, 1)).astype(d.pick("int64", "int32", "uint8"))
    return Call("repeat", (x, d.pick(d.integer(0, 3), each)), {"axis": axis})


def _tile(d: Draw) -> Call:
    return Call("tile", (d.array(), tuple(d.integer(0, 3) for _ in range(d.integer(0, 5)))))


def _broadcast_to(d: Draw) -> Call:
    one, _ = d.shapes(2)
    try:
        whole = np.broadcast_shapes(one, d.shape(0, 2))
    except ValueError:
        whole = (3, *one)
    return Call("broadcast_to", (d.array(shape=one), whole))


def _broadcast_arrays(d: Draw) -> Call:
    return Call("broadcast_arrays", tuple(d.array(shape=s) for s in d.shapes(d.integer(1, 4))))


def _diff(d: Draw) -> Call:
    x = d.array(NUMERIC, d.shape(1, 3))
    axis = d.axis(x.ndim)
    there = -x.ndim <= axis < x.ndim
    more: dict[str, Any] = {"axis": axis, **d.maybe(n=d.integer(int(not there), 3))}
    for name in ("prepend", "append"):
        if there and d.chance(0.3):
            shape = list(x.shape)
            shape[axis] = d.integer(0, 2)
            more[name] = d.numbers(x.dtype.name, tuple(shape))
    return Call("diff", (x,), more)


def _plain(name: str, least: int = 0) -> Maker:
    return lambda d: Call(name, (d.array(shape=d.shape(least)),))


def _unique(name: str) -> Maker:
    def made(d: Draw) -> Call:
        x = d.array()
        return Call(name, (np.where(np.isnan(x), np.ones((), x.dtype), x),))  # NaNs in any order

    return made


def _on_axis(name: str, names: tuple[str, ...] = ALL, **more: Callable[[Draw], Any]) -> Maker:
    def made(d: Draw) -> Call:
        x = d.array(names, d.shape(1))
        return Call(name, (x,), d.maybe(axis=d.axis(x.ndim), **{k: f(d) for k, f in more.items()}))

    return made


def _expand(d: Draw) -> Call:
    x = d.array()
    return Call("expand_dims", (x, d.axis(x.ndim + 1)))


def _flip(d: Draw) -> Call:
    x = d.array()
    return Call("flip", (x,), d.maybe(axis=d.axes(x.ndim)))


# ---- searching, sorting, sets --------------------------------------------------------------------


def _searchsorted(d: Draw) -> Call:
    kinds = d.dtypes(2, REAL)
    line = d.numbers(kinds[0], d.integer(0, 7))
    x = d.numbers(kinds[1], d.shape(0, 3))
    more = d.maybe(side=d.pick("left", "right"))
    order = np.argsort(line, stable=True)
    if d.boolean():
        return Call(
            "searchsorted", (line, x), {**more, "sorter": order.astype(d.pick("int64", "int32"))}
        )
    return Call("searchsorted", (line[order], x), more)


def _take(d: Draw) -> Call:
    x = d.array(shape=d.shape(1, 3, 1))
    axis = d.axis(x.ndim)
    size = x.shape[axis] if -x.ndim <= axis < x.ndim else 1
    places = d.rng.integers(-size, size, d.shape(1, 1)).astype(d.pick(*SIGNED))
    if x.ndim == 1 and d.boolean():
        return Call("take", (x, places % size))
    return Call("take", (x, places), {"axis": axis})


def _take_along(d: Draw) -> Call:
    x = d.array(shape=d.shape(1, 3, 1))
    axis = d.integer(-x.ndim, x.ndim - 1)
    shape = list(x.shape)
    shape[axis] = d.integer(0, 4)
    places = d.rng.integers(-x.shape[axis], x.shape[axis], tuple(shape))
    return Call("take_along_axis", (x, places.astype(d.pick("int64", "int32"))), {"axis": axis})


def _reduced(name: str, names: tuple[str, ...], **more: Callable[[Draw], Any]) -> Maker:
    def made(d: Draw) -> Call:
        kind = "plain" if name in ("mean", "std", "var") else "any"
        kinds = names
        x = d.array(kinds, d.shape(0, 4), kind)
        if name in ("sum", "prod") and x.dtype.kind in "fc":
            x = d.numbers(x.dtype.name, x.shape, "whole")
        axis = d.axis(x.ndim) if name.startswith("arg") else d.axes(x.ndim)
        return Call(
            name,
            (x,),
            d.maybe(axis=axis, keepdims=d.boolean(), **{k: f(d) for k, f in more.items()}),
        )

    return made


def _summed(name: str) -> Maker:
    def made(d: Draw) -> Call:
        x = d.array(NUMERIC, d.shape(0, 3))
        if x.dtype.kind in "fc":
            x = d.numbers(x.dtype.name, x.shape, "whole")
        kinds = {"i": SIGNED, "u": UNSIGNED, "f": REAL_FLOATS, "c": COMPLEX}.get(x.dtype.kind, ALL)
        more = {"dtype": DType(d.pick(*kinds))} if d.chance(0.3) else {}
        if name.startswith("cumulative"):
            axis = d.pick(None, d.axis(x.ndim)) if x.ndim == 1 else d.axis(x.ndim)
            return Call(name, (x,), {**more, "axis": axis, **d.maybe(include_initial=d.boolean())})
        return Call(name, (x,), {**more, **d.maybe(axis=d.axes(x.ndim), keepdims=d.boolean())})

    return made


# ---- indexing ------------------------------------------------------------------------------------


def key(d: Draw, shape: tuple[int, ...], new: bool = True) -> Any:
    """A key that the standard defines for an array of this shape, seldom one out of range."""
    if d.chance(0.15):
        return d.numbers("bool", shape)
    parts: list[Any] = []
    for size in shape:
        how = d.integer(0, 3)
        if how and (size or how == 1):
            if how == 1 or not size:
                low, high = (d.pick(None, d.integer(-size, size)) for _ in range(2))
                step = d.pick(None, 1, 2, -1, -3)
                if step is not None and step < 0:
                    low = None if low is None else min(low, size - 1)
                parts.append(slice(low, high, step) if size else slice(None))
            else:
                parts.append(d.integer(-size, size - 1) if d.chance(0.97) else size)
        else:
            parts.append(slice(None))
    if d.chance(0.4):
        at = d.integer(0, len(parts))
        upto = d.integer(at, len(parts))
        parts[at:upto] = [...]
    if new and d.chance(0.3):
        parts.insert(d.integer(0, len(parts)), None)
    if len(parts) == 1 and d.boolean():
        return parts[0]
    return tuple(parts)


def _index_arrays(d: Draw) -> tuple[np.ndarray, Any]:
    x = d.array(shape=d.shape(1, 3, 1))
    line = d.shape(0, 2)
    parts: list[Any] = []
    for size in x.shape:
        if d.chance(0.3):
            parts.append(d.integer(-size, size - 1))
        else:
            shape = line if d.boolean() else ()
            parts.append(np.asarray(d.rng.integers(-size, size, shape)))
    return x, tuple(parts)


def _getitem(d: Draw) -> Call:
    if d.chance(0.25):
        x, k = _index_arrays(d)
    else:
        x = d.array()
        k = key(d, x.shape)
    return Call(applied(operator.getitem), (x, k))


def _setitem(d: Draw) -> Call:
    x = d.array()
    k = key(d, x.shape, new=False)
    try:
        part = x[k]
    except IndexError:
        part = np.zeros((), x.dtype)
    shape = d.pick(part.shape, (), part.shape[-1:], (1,) * part.ndim, (*part.shape, 2))
    kinds = [k for k in ALL if promotes(k, x.dtype.name) and np.result_type(k, x.dtype) == x.dtype]
    value: Any = d.numbers(d.pick(*kinds), () if isinstance(k, np.ndarray) else shape)
    if d.chance(0.4):
        value = d.scalar(x.dtype.name)

    def setitem(xp: Any, x: Any, k: Any, value: Any) -> Any:
        x[k] = value
        return x

    return Call(setitem, (x, k, value))


ARRAYS: dict[str, Maker] = {
    **{n: _filled(n) for n in ("zeros", "ones", "full")},
    **{n: _like(n) for n in ("zeros_like", "ones_like", "full_like")},
    **{n: _tri(n) for n in ("tril", "triu")},
    **{n: (lambda d, n=n: _several(d, n)) for n in ("concat", "stack")},
    **{n: _unique(n) for n in ("unique_all", "unique_counts", "unique_inverse", "unique_values")},
    **{n: _reduced(n, ALL) for n in ("all", "any", "count_nonzero")},
    **{n: _reduced(n, REAL) for n in ("max", "min", "argmax", "argmin")},
    **{
        n: _reduced(n, REAL_FLOATS, correction=lambda d: d.pick(0, 1, 0.5, 2))
        for n in ("std", "var")
    },
    "mean": _reduced("mean", FLOATS),
    **{n: _summed(n) for n in ("sum", "prod", "cumulative_sum", "cumulative_prod")},
    **{
        n: _on_axis(n, REAL, descending=Draw.boolean, stable=lambda d: True)
        for n in ("sort", "argsort")
    },
    "arange": _arange,
    "linspace": _linspace,
    "eye": _eye,
    "asarray": _nested,
    "astype": _astype,
    "meshgrid": _meshgrid,
    "reshape": _reshape,
    "squeeze": _squeeze,
    "moveaxis": _moveaxis,
    "permute_dims": _permute,
    "roll": _roll,
    "repeat": _repeat,
    "tile": _tile,
    "broadcast_to": _broadcast_to,
    "broadcast_arrays": _broadcast_arrays,
    "diff": _diff,
    "expand_dims": _expand,
    "flip": _flip,
    "unstack": _on_axis("unstack"),
    "matrix_transpose": _plain("matrix_transpose", 1),
    "nonzero": _plain("nonzero"),
    "searchsorted": _searchsorted,
    "take": _take,
    "take_along_axis": _take_along,
    "getitem": _getitem,
    "setitem": _setitem,
}

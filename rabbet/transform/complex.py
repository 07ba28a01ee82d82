"""Complex numbers become pairs of real ones, so that the kernel compiler never meets them.

While a graph is decomposed, every op on complex Values turns into ops on their parts, put together
again by `complex`; taking apart what was put together gives the parts back. What remains are the
borders: `real` and `imag` of inputs, and `complex` where a result is handed out. `in_reals` says
these in terms of memory, where a complex number is two real ones, side by side.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rabbet.base.dtypes import int64
from rabbet.base.spec import Spec
from rabbet.graph.op import Op
from rabbet.graph.value import Attrs, Builder, Graph, Value, lookup
from rabbet.ops.complex import part_of

Key = tuple[int, int]


# ---- while decomposing -----------------------------------------------------------------------


def in_parts(
    builder: Builder,
    op: Op,
    values: tuple[Value, ...],
    attrs: Attrs,
    form: tuple[int, ...],
    specs: tuple[Spec, ...],
) -> tuple[Value, ...]:
    """The outputs of a primitive on complex numbers, by ops on their parts."""
    if op.kind == "complex":
        return (_border(builder, op, values, attrs, specs[0]),)
    if op.in_parts is not None:
        return (op.in_parts(*op.arrange(values, form), **attrs),)
    make = lookup("complex")
    if op.kind == "source" and not values:
        return (make(*_source(builder, op, attrs, specs[0])),)
    again = [
        builder.apply(op, [_part(builder, v, name) for v in values], _filled(attrs, name), form)
        for name in ("real", "imag")
    ]
    return (make(*again),)


def _border(builder: Builder, op: Op, values: tuple[Value, ...], attrs: Attrs, spec: Spec) -> Value:
    """`real`, `imag` and `complex`; what is taken apart again was never put together."""
    if op.name == "complex":
        wide = [builder.apply(lookup("expand"), (v,), {"shape": spec.shape}, ()) for v in values]
        return builder.call(op, tuple(wide), attrs, (), (spec,))[0]
    (x,) = values
    if x.dtype.kind != "c":
        return x if op.name == "real" else _zeros(builder, spec)
    if x.op.name == "complex":
        return x.call.inputs[op.name == "imag"]
    if x.op.name == "constant":  # of a body: it was never put together
        return _source(builder, x.op, x.call.attrs, x.spec)[op.name == "imag"]
    return builder.call(op, values, attrs, (), (spec,))[0]


def _part(builder: Builder, v: Value, name: str) -> Value:
    if v.dtype.kind != "c":
        return v  # indices
    part: Value = builder.apply(lookup(name), (v,), {}, ())
    return part


def _filled(attrs: Attrs, name: str) -> Attrs:
    """Attributes for one part: what a move fills in is a real number."""
    return attrs | {"fill": 0.0} if name == "imag" and "fill" in attrs else attrs


def _source(builder: Builder, op: Op, attrs: Attrs, spec: Spec) -> list[Value]:
    dtype = part_of(spec.dtype)
    if op.name == "constant":
        number = complex(attrs["value"])
        return [builder.constant(part, dtype) for part in (number.real, number.imag)]
    real = builder.apply(op, (), attrs | {"dtype": dtype}, ())
    return [real, _zeros(builder, spec.with_dtype(dtype))]


def _zeros(builder: Builder, spec: Spec) -> Value:
    none = builder.constant(0.0, spec.dtype)
    found: Value = builder.apply(lookup("full"), (none,), {"shape": spec.shape}, ())
    return found


# ---- the borders -----------------------------------------------------------------------------


def has_complex(values: Sequence[Value]) -> bool:
    """True where any of the values is complex."""
    return any(v.dtype.kind == "c" for v in values)


def in_reals(graph: Graph, builder: Builder) -> tuple[Graph, dict[Key, Value]]:
    """The graph over real numbers, filled into `builder`, and its values by those of `graph`.

    A complex input or output of shape S is a real one of shape (*S, 2): the same bytes.
    """
    made: dict[Key, Value] = {}
    new = Graph()
    for v in graph.inputs:
        made[id(v.call), v.index] = builder.input(_in_memory(v.spec))
        new.inputs.append(made[id(v.call), v.index])
    for call in graph.calls():
        if (id(call), 0) in made:
            continue
        builder.site = call.site
        inputs = tuple(made[id(v.call), v.index] for v in call.inputs)
        if call.op.kind == "complex":
            find = _side_by_side if call.op.name == "complex" else _one_of_two
            made[id(call), 0] = find(call.op.name, inputs)
            continue
        for i, v in enumerate(builder.call(call.op, inputs, call.attrs, call.form, call.specs)):
            made[id(call), i] = v
    new.outputs = [made[id(v.call), v.index] for v in graph.outputs]
    return new, made


def _in_memory(spec: Spec) -> Spec:
    if spec.dtype.kind != "c":
        return spec
    return Spec((*spec.shape, 2), part_of(spec.dtype), spec.device)


def _one_of_two(name: str, inputs: tuple[Any, ...]) -> Value:
    """real, imag: every second number."""
    (x,) = inputs
    at, shape = int(name == "imag"), x.shape[:-1]
    start, stop = (*(0,) * len(shape), at), (*shape, at + 1)
    found: Value = lookup("reshape")(lookup("slice")(x, start, stop, (1,) * x.ndim), shape)
    return found


def _side_by_side(name: str, inputs: tuple[Any, ...]) -> Value:
    """complex: the parts take turns."""
    shape = inputs[0].shape
    first, second = (lookup("reshape")(x, (*shape, 1)) for x in inputs)
    line = (*(1,) * len(shape), 2)
    place = lookup("iota").like(first, line, len(shape), int64)
    found: Value = lookup("where")(lookup("equal")(place, 0), first, second)
    return found

"""Value, Call and Graph: what is to be computed, as an immutable graph.

A Call applies an Op to Values; a Value is one output of a Call. Calls are interned by their
Builder: the same op on the same operands with the same attributes is the same Call, so common
subexpressions need no pass. Random draws differ by their offset operand and are never merged.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from rabbet.base.dtypes import DType
from rabbet.base.errors import InternalError, ShapeError
from rabbet.base.sizes import Dim, SizeExpr
from rabbet.base.spec import Spec

if TYPE_CHECKING:
    from rabbet.graph.op import Op

Attrs = dict[str, Any]


@dataclass(eq=False, slots=True)
class Call:
    """One application of an op. `form` says how inputs fall on the op's parameters (see Op)."""

    op: Op
    inputs: tuple[Value, ...]
    attrs: Attrs
    form: tuple[int, ...]
    specs: tuple[Spec, ...]
    site: object
    builder: Builder
    outputs: tuple[Value, ...] = ()

    def graphs(self) -> list[Graph]:
        """The graphs it holds, in the order of the op's parameters (see ops/control.py)."""
        if self.op.kind != "control":
            return []
        found = (self.attrs.get(p.name) for p in self.op.parameters)
        return [a for a in found if isinstance(a, Graph)]


class Value:
    """One output of a Call: knows its shape and dtype, not its elements."""

    __slots__ = ("call", "index")

    def __init__(self, call: Call, index: int) -> None:
        self.call = call
        self.index = index

    @property
    def spec(self) -> Spec:
        return self.call.specs[self.index]

    @property
    def shape(self) -> tuple[Dim, ...]:
        return self.spec.shape

    @property
    def dtype(self) -> DType:
        return self.spec.dtype

    @property
    def device(self) -> str:
        return self.spec.device

    @property
    def ndim(self) -> int:
        return len(self.spec.shape)

    @property
    def op(self) -> Op:
        return self.call.op

    def emit(self, op: Op, operands: Sequence[Any], attrs: Attrs, form: tuple[int, ...]) -> Any:
        """Apply an op where this value lives: how ops reach Values and Tensors alike."""
        return self.call.builder.apply(op, operands, attrs, form)

    def sibling(self, index: int) -> Value:
        """Another output of the same call, a hidden one too."""
        return self.call.outputs[index]

    def __repr__(self) -> str:
        return f"<{self.call.op.name}#{self.index} {self.spec}>"

    if TYPE_CHECKING:  # what ops/operators.py attaches, which knows the ops

        def __add__(self, other: Any) -> Value: ...
        def __radd__(self, other: Any) -> Value: ...
        def __sub__(self, other: Any) -> Value: ...
        def __rsub__(self, other: Any) -> Value: ...
        def __mul__(self, other: Any) -> Value: ...
        def __rmul__(self, other: Any) -> Value: ...
        def __truediv__(self, other: Any) -> Value: ...
        def __rtruediv__(self, other: Any) -> Value: ...
        def __floordiv__(self, other: Any) -> Value: ...
        def __mod__(self, other: Any) -> Value: ...
        def __pow__(self, other: Any) -> Value: ...
        def __matmul__(self, other: Any) -> Value: ...
        def __and__(self, other: Any) -> Value: ...
        def __or__(self, other: Any) -> Value: ...
        def __lt__(self, other: Any) -> Value: ...
        def __le__(self, other: Any) -> Value: ...
        def __gt__(self, other: Any) -> Value: ...
        def __ge__(self, other: Any) -> Value: ...
        def __neg__(self) -> Value: ...
        def __abs__(self) -> Value: ...
        def __invert__(self) -> Value: ...


class Builder:
    """Makes Calls and interns them. Every graph-to-graph function starts a new one.

    More than `most` Calls are a ShapeError: numbers in a file must not unroll without end.
    """

    def __init__(self, most: int | None = None) -> None:
        self.table: dict[tuple[Any, ...], Call] = {}
        self.most = most
        self.site: object = None
        self.input_count = 0

    def input(self, spec: Spec, number: int | None = None) -> Value:
        """A Value given from outside."""
        if number is None:
            number = self.input_count
        self.input_count = max(self.input_count, number + 1)
        return self.call(INPUT, (), {"number": number}, (), (spec,))[0]

    def apply(self, op: Op, operands: Sequence[Any], attrs: Attrs, form: tuple[int, ...]) -> Any:
        """Promote operands as the op says, infer, and make the Call; the visible outputs."""
        values = self._operands(op, operands)
        specs = op.infer_specs([v.spec for v in values], attrs, form)
        outputs = self.call(op, values, attrs, form, specs)
        visible = len(outputs) - op.residuals
        return outputs[0] if visible == 1 else outputs[:visible]

    def call(
        self,
        op: Op,
        inputs: tuple[Value, ...],
        attrs: Attrs,
        form: tuple[int, ...],
        specs: tuple[Spec, ...],
        site: object = None,
    ) -> tuple[Value, ...]:
        """The outputs of the one Call with these parts."""
        key: tuple[Any, ...]
        if op is INPUT:
            key = (op.name, attrs["number"])
        else:
            key = (op.name, tuple([(id(v.call), v.index) for v in inputs]), attrs_key(attrs), form)
        found = self.table.get(key)
        if found is None:
            if self.most is not None and len(self.table) >= self.most:
                raise ShapeError(f"{op.name}: its sizes unroll into more than {self.most} ops")
            where = self.site if site is None else site
            found = Call(op, inputs, attrs, form, specs, where, self)
            found.outputs = tuple([Value(found, i) for i in range(len(specs))])
            self.table[key] = found
        return found.outputs

    def constant(self, number: complex, dtype: DType) -> Value:
        """A 0-d literal."""
        constant = lookup("constant")
        attrs = {"value": number, "dtype": dtype}
        return self.call(constant, (), attrs, (), constant.infer_specs([], attrs, ()))[0]

    def _operands(self, op: Op, operands: Sequence[Any]) -> tuple[Value, ...]:
        kinds = [o.spec if isinstance(o, Value) else o for o in operands]
        wanted = op.operand_dtypes(kinds)
        values = []
        for operand, dtype in zip(operands, wanted, strict=True):
            if not isinstance(operand, Value):
                values.append(self.constant(operand, dtype))
            elif operand.dtype is not dtype:
                cast = lookup("cast")
                values.append(self.apply(cast, (operand,), {"dtype": dtype}, ()))
            else:
                values.append(operand)
        return tuple(values)


@dataclass(eq=False)
class Graph:
    """A closed set of Values: inputs in order, outputs in order."""

    inputs: list[Value] = field(default_factory=list)
    outputs: list[Value] = field(default_factory=list)

    def calls(self) -> list[Call]:
        """Every Call the outputs need, operands first, each once; inputs included where used."""
        return topological(v.call for v in self.outputs)

    def inner(self) -> list[Graph]:
        """The graphs that calls of this one hold (see ops/control.py)."""
        return [g for c in self.calls() for g in c.graphs()]


def topological(roots: Iterable[Call]) -> list[Call]:
    """Calls below `roots`, operands first, without recursion."""
    done: dict[int, Call] = {}
    stack: list[tuple[Call, bool]] = [(c, False) for c in reversed(list(roots))]
    while stack:
        call, ready = stack.pop()
        if id(call) in done:
            continue
        if ready:
            done[id(call)] = call
        else:
            stack.append((call, True))
            stack.extend((v.call, False) for v in reversed(call.inputs) if id(v.call) not in done)
    return list(done.values())


def attrs_key(attrs: Attrs) -> tuple[Any, ...]:
    """A hashable form of attributes that tells 1, 1.0, True, 0.0 and -0.0 apart."""
    return tuple([(name, _attr_key(attrs[name])) for name in sorted(attrs)])


def _attr_key(value: object) -> object:
    if isinstance(value, tuple):
        if all([type(v) is int for v in value]):  # sizes and axes, nearly always
            return ("ints", value)
        return tuple(_attr_key(v) for v in value)
    if isinstance(value, SizeExpr):
        return ("size", value.key)
    if isinstance(value, float):
        return ("f", value.hex())
    if isinstance(value, complex):
        return ("c", value.real.hex(), value.imag.hex())
    if isinstance(value, DType):
        return ("d", value.name)
    if isinstance(value, Graph):
        return ("graph", id(value))  # the call that has this key keeps it alive
    if value is None or isinstance(value, bool | int | str):
        return (type(value).__name__, value)
    raise InternalError(f"an attribute of type {type(value).__name__} has no key")


registry: dict[str, Op] = {}


def lookup(name: str) -> Op:
    """The op of this name; KeyError if no module declared it."""
    return registry[name]


INPUT: Op = None  # type: ignore[assignment]  # set by graph/op.py, which defines the record


def sites_of(calls: Sequence[Call]) -> list[int]:
    """The positions of the recorded ops that these calls are parts of, each once: first the one
    that an error points to, the others in order.
    """
    failing = [c for c in calls if c.op.kind in ("gather", "scatter")]
    named = [c.site for c in (*failing[:1], *calls) if isinstance(c.site, int)]
    return [*named[:1], *sorted({*named[1:]} - {*named[:1]})]

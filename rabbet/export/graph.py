"""An Entry as a Graph for given sizes, with everything checked that the ops have to say.

This is where a file that is well-formed but wrong is refused: operands that do not exist,
attributes an op does not have, shapes that its rule does not give.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rabbet.base import sizes
from rabbet.base.errors import FormatError, RabbetError
from rabbet.base.sizes import Dim, SizeScope
from rabbet.base.spec import Spec
from rabbet.export import layout
from rabbet.export.portable import (
    Body,
    Entry,
    Number,
    OpCall,
    Operand,
    Portable,
    Ref,
    Size,
    SizedDType,
    Weight,
    make_scope,
    show_form,
    to_dim,
)
from rabbet.export.types import fits
from rabbet.export.verify import is_size, verify
from rabbet.graph.op import Op
from rabbet.graph.value import Builder, Graph, Value, registry

SIZE_LIMIT = 1 << 62
HELD = "Graph"  # the annotation of what a body is given for


@dataclass(eq=False)
class Built:
    """The Graph of an entry: its inputs are the entry's, then the weights numbered in `weights`."""

    graph: Graph
    scope: SizeScope | None
    weights: list[int]
    values: list[tuple[Value, ...]]  # per call of the entry


def check(program: Portable, weights_bytes: int) -> None:
    """Everything a reader must check beyond the text itself; FormatError."""
    offsets, total = layout.pack_weights([w.n_bytes for w in program.weights])
    for weight, offset in zip(program.weights, offsets, strict=True):
        if weight.offset != offset:
            raise FormatError(
                f"weight {weight.name!r}: it starts at {weight.offset}, not at {offset}"
            )
    if total != weights_bytes:
        raise FormatError(f"the weights take {total} bytes, the header says {weights_bytes}")
    for entry in program.entries:
        _check_symbols(entry)
        build(program, entry, [example for _, example in entry.symbols])


def used_weights(entry: Entry) -> list[int]:
    """The numbers of the weights an entry uses, in the order of its graph's inputs."""
    operands = [o for call in entry.calls for o in call.operands] + entry.results
    return list(
        dict.fromkeys(o.number for o in operands if isinstance(o, Ref) and o.kind == "weight")
    )


def _check_symbols(entry: Entry) -> None:
    names = {name for name, _ in entry.symbols}
    defined = set()
    for given in entry.inputs:
        for form in given.spec.shape:
            if isinstance(form, tuple) or isinstance(form, str) and form not in names:
                raise FormatError(f"input {given.name!r}: its sizes must be numbers or symbols")
            defined |= {form} if isinstance(form, str) else set()
    for name in sorted(names - defined):
        raise FormatError(f"symbol {name!r}: no input has this size")


def build(
    program: Portable, entry: Entry, symbols: Sequence[int], *, static: bool = False
) -> Built:
    """The Graph of `entry`; `symbols` are the sizes at hand, by which questions about sizes are
    answered.

    With `static` every size is a number and the graph is for these sizes alone. Raises FormatError;
    ShapeError is not raised: shapes that do not fit are an error of the file.
    """
    named = [(n, v) for (n, _), v in zip(entry.symbols, symbols, strict=True)]
    scope, dims = (None, dict(named)) if static else make_scope(named)
    return _Build(program.weights, dims).run(entry, scope)


class _Build:
    """Builds one graph: that of an entry, or (without weights) of a body."""

    def __init__(self, weights: Sequence[Weight], dims: dict[str, Any]) -> None:
        self.known_weights = weights
        self.dims = dims
        self.builder = Builder()
        self.builder.site = -1
        self.inputs: list[Value] = []
        self.weights: dict[int, Value] = {}
        self.values: list[tuple[Value, ...]] = []

    def run(self, entry: Entry, scope: SizeScope | None) -> Built:
        """The graph of an entry."""
        for given in entry.inputs:
            spec = self.spec(f"input {given.name!r}", given.spec)
            self.inputs.append(self.builder.input(spec))
        for _, form in entry.guards:
            self.dim("guard", form)
        for number, call in enumerate(entry.calls):
            self.values.append(self.call(f"call {number} ({call.op})", number, call))
        graph = Graph()
        for output, operand in zip(entry.outputs, entry.results, strict=True):
            where = f"output {output.name!r}"
            value = self.operand(where, operand)
            self.compare(where, value.spec, output.spec)
            graph.outputs.append(value)
        graph.inputs = [*self.inputs, *self.weights.values()]
        try:
            verify(graph)
        except RecursionError:
            raise FormatError("the graph nests too deeply") from None
        except Exception as error:
            # As in `call`: bodies of ops may fail in any way on such arguments.
            raise FormatError(_reason(error)) from None
        return Built(graph, scope, list(self.weights), self.values)

    def body(self, where: str, body: Body) -> Graph:
        """The graph of a body: nothing from outside but sizes."""
        inner = _Build((), self.dims)
        inner.inputs = [
            inner.builder.input(inner.spec(f"{where}: input {i}", s))
            for i, s in enumerate(body.inputs)
        ]
        for number, call in enumerate(body.calls):
            at = f"{where}: call {number} ({call.op})"
            inner.values.append(inner.call(at, number, call))
        outputs = [inner.operand(f"{where}: result {i}", o) for i, o in enumerate(body.results)]
        return Graph(inner.inputs, outputs)

    def call(self, where: str, number: int, call: OpCall) -> tuple[Value, ...]:
        """The results of one call, by its op's own rules."""
        op = registry.get(call.op)
        if op is None or op.kind == "input":
            raise FormatError(f"{where}: this Rabbet has no such op")
        if call.since > op.since:
            raise FormatError(
                f"{where}: the file uses version {call.since} of this op; there is {op.since} here"
            )
        values = tuple(
            self.operand(f"{where}: operand {i}", o) for i, o in enumerate(call.operands)
        )
        _check_form(where, op, call.form, len(values))
        attrs = self.attributes(where, op, call.attributes)
        attrs |= self.bodies(where, op, call.bodies)
        try:
            specs = self.infer(op, values, attrs, call.form)
        except FormatError as error:
            raise FormatError(f"{where}: {error}") from None
        except RecursionError:
            raise FormatError(f"{where}: its attributes nest too deeply") from None
        except Exception as error:
            # Rules may fail in any way on arguments no user function would let through.
            raise FormatError(f"{where}: {_reason(error)}") from None
        if len(specs) != len(call.results):
            raise FormatError(f"{where}: {len(call.results)} results, the op gives {len(specs)}")
        for spec, stated in zip(specs, call.results, strict=True):
            self.check_size(where, spec)
            self.compare(where, spec, stated)
        return self.builder.call(op, values, attrs, call.form, specs, site=number)

    def infer(
        self, op: Op, values: tuple[Value, ...], attrs: dict[str, Any], form: tuple[int, ...]
    ) -> tuple[Spec, ...]:
        """Specs of the results; operands must have been promoted already."""
        given = [v.spec for v in values]
        for i, (spec, dtype) in enumerate(zip(given, op.operand_dtypes(given), strict=True)):
            if spec.dtype is not dtype:
                raise FormatError(f"operand {i} is {spec.dtype.name}, not {dtype.name}")
        return op.infer_specs(given, attrs, form)

    def operand(self, where: str, operand: Operand) -> Value:
        """The Value an operand stands for."""
        if isinstance(operand, Number):
            if not operand.dtype.computed:
                raise FormatError(f"{where}: there are no literals of {operand.dtype.name}")
            return self.builder.constant(operand.value, operand.dtype)
        known = {
            "input": len(self.inputs),
            "weight": len(self.known_weights),
            "call": len(self.values),
        }
        if operand.number >= known[operand.kind]:
            raise FormatError(f"{where}: there is no {operand.kind} {operand.number} before it")
        if operand.kind == "weight":
            return self.weight(operand)
        if operand.kind == "input":
            return self.inputs[operand.number]
        outputs = self.values[operand.number]
        if operand.output >= len(outputs):
            raise FormatError(f"{where}: call {operand.number} has no result {operand.output}")
        return outputs[operand.output]

    def weight(self, ref: Ref) -> Value:
        """The graph input of a weight, made at its first use."""
        if ref.number not in self.weights:
            weight = self.known_weights[ref.number]
            number = len(self.inputs) + len(self.weights)
            self.weights[ref.number] = self.builder.input(Spec(weight.shape, weight.dtype), number)
        return self.weights[ref.number]

    def attributes(self, where: str, op: Op, given: dict[str, Any]) -> dict[str, Any]:
        """Attributes with their sizes as Dims; exactly those the op has."""
        wanted = [p for p in op.parameters if p.role == "attribute" and p.annotation != HELD]
        names = {p.name for p in wanted}
        if set(given) != names:
            odd = sorted(set(given) ^ names)[0]
            state = "has no attribute" if odd in given else "lacks the attribute"
            raise FormatError(f"{where}: {state} {odd!r}")
        for parameter in wanted:
            name, annotation = parameter.name, parameter.annotation
            if not fits(given[name], annotation, is_size=name in op.sizes):
                raise FormatError(f"{where}: {name}: {given[name]!r:.60} is no {annotation}")
        return {k: self.sizes_in(f"{where}: {k}", v) for k, v in given.items()}

    def bodies(self, where: str, op: Op, given: tuple[Body, ...]) -> dict[str, Graph]:
        """The graphs that a control op holds, by parameter."""
        names = [p.name for p in op.parameters if p.annotation == HELD]
        if len(names) != len(given):
            raise FormatError(f"{where}: {len(given)} bodies; the op has {len(names)}")
        return {n: self.body(f"{where}: {n}", b) for n, b in zip(names, given, strict=True)}

    def sizes_in(self, where: str, value: Any) -> Any:
        """An attribute's value with Size records replaced."""
        if isinstance(value, tuple):
            return tuple(self.sizes_in(where, v) for v in value)
        return self.dim(where, value.form) if isinstance(value, Size) else value

    def dim(self, where: str, form: Any) -> Dim:
        """A size form's meaning here, in range."""
        try:
            dim = to_dim(form, self.dims)
        except FormatError as error:
            raise FormatError(f"{where}: {error}") from None
        if abs(self.value(where, dim)) > SIZE_LIMIT:
            raise FormatError(f"{where}: the size {show_form(form)} overflows")
        return dim

    def value(self, where: str, dim: Dim) -> int:
        """What a size is at the sizes at hand."""
        try:
            return sizes.hint(dim)
        except ZeroDivisionError:
            raise FormatError(f"{where}: the size {dim} divides by zero") from None

    def spec(self, where: str, stated: SizedDType) -> Spec:
        """A stated dtype and shape as a Spec."""
        spec = Spec(tuple(self.dim(where, d) for d in stated.shape), stated.dtype)
        self.check_size(where, spec)
        return spec

    def check_size(self, where: str, spec: Spec) -> None:
        """Refuse ranks and sizes that no memory holds, long before anything is allocated."""
        if len(spec.shape) > layout.MAX_RANK:
            raise FormatError(
                f"{where}: {len(spec.shape)} axes; at most {layout.MAX_RANK} are allowed"
            )
        elements = 1
        for dim in spec.shape:
            if not is_size(dim):
                raise FormatError(f"{where}: {dim!r:.60} is no size")
            size = self.value(where, dim)
            if size < 0:
                raise FormatError(f"{where}: the size {dim} is negative")
            elements *= size
        if elements > layout.MAX_ELEMENTS:
            raise FormatError(
                f"{where}: {elements} elements; at most {layout.MAX_ELEMENTS} are allowed"
            )

    def compare(self, where: str, found: Spec, stated: SizedDType) -> None:
        """What the rules give must be what the file says."""
        wanted = tuple(self.value(where, self.dim(where, d)) for d in stated.shape)
        shape = tuple(self.value(where, d) for d in found.shape)
        if wanted != shape or found.dtype is not stated.dtype:
            raise FormatError(
                f"{where}: the file says {stated.dtype.name}{list(wanted)}, the op gives "
                f"{found.dtype.name}{list(shape)}"
            )


def _reason(error: Exception) -> str:
    return str(error) if isinstance(error, RabbetError) else f"{type(error).__name__}: {error}"


def _check_form(where: str, op: Op, form: tuple[int, ...], count: int) -> None:
    """The operands fall on the op's parameters."""
    if op.plain:
        if form or count != len(op.operands):
            raise FormatError(f"{where}: {count} operands; the op takes {len(op.operands)}")
        return
    if len(form) != len(op.operands):
        raise FormatError(f"{where}: its form has {len(form)} items, not {len(op.operands)}")
    total = 0
    for code, parameter in zip(form, op.operands, strict=True):
        allowed = {"operand": code == 1, "optional": code in (-1, 1), "list": code >= 2}
        if not allowed[parameter.role]:
            raise FormatError(
                f"{where}: the form {code} does not fit the operand {parameter.name!r}"
            )
        total += max(code, 0) if code < 2 else code - 2
    if total != count:
        raise FormatError(f"{where}: {count} operands, its form counts {total}")

"""Several recordings of one call, at different sizes, as one Entry whose sizes are expressions of
symbols.

With a single recording there are no symbols and every size is a number: the same way for both.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NoReturn

import numpy as np

from rabbet.base import sizes
from rabbet.base.errors import ExportError, RabbetError
from rabbet.base.shapes import show
from rabbet.base.sizes import Dim, SizeScope
from rabbet.base.spec import Spec
from rabbet.base.tree import LEAF
from rabbet.engine import site
from rabbet.export.fit import fit
from rabbet.export.portable import (
    Body,
    Entry,
    Named,
    Number,
    OpCall,
    Operand,
    Ref,
    Size,
    SizedDType,
    Weight,
    form_of,
)
from rabbet.export.record import Recording
from rabbet.export.regions import Recorded
from rabbet.export.varying import as_call
from rabbet.graph import encode
from rabbet.recorder import Node
from rabbet.runtime import buffers

Key = tuple[Any, int]  # a Node from outside or a Recorded, and which of its outputs


@dataclass(eq=False)
class Sighting:
    """One recording: the symbols' values it was made with, and which leaf is which input."""

    symbols: tuple[int, ...]
    recording: Recording
    inputs: dict[Key, int]  # leaf -> number of the input

    def __post_init__(self) -> None:
        self.positions = {id(n): p for p, n in enumerate(self.recording.ops)}


@dataclass(eq=False)
class Collected:
    """Weights as they are met: tensors of the model by name, other tensors from outside as
    constants.
    """

    names: dict[Key, tuple[str, str]]  # leaf -> (name, role)
    found: list[tuple[str, str, Node, int]] = field(default_factory=list)
    numbers: dict[Key, int] = field(default_factory=dict)

    def number(self, node: Node, index: int) -> int:
        """The number of this weight, given at its first use."""
        key = (node, index)
        if key not in self.numbers:
            constants = sum(role == "constant" for _, role, _, _ in self.found)
            name, role = self.names.get(key, (f"constant_{constants}", "constant"))
            self.numbers[key] = len(self.found)
            self.found.append((name, role, node, index))
        return self.numbers[key]

    def constants(self) -> dict[int, np.ndarray]:
        """The values of those that are constants."""
        return {
            number: array_of(node, index, "")
            for number, (_, role, node, index) in enumerate(self.found)
            if role == "constant"
        }

    def records(self) -> list[Weight]:
        """The weights as the file describes them, without places."""
        specs = [(n, r, node.specs[index]) for n, r, node, index in self.found]
        return [Weight(n, r, s.dtype, s.shape, 0, s.nbytes) for n, r, s in specs]


@dataclass(eq=False)
class Unifier:
    """Walks all recordings in step; `specs[p]` are the symbolic Specs of node p's outputs."""

    sightings: Sequence[Sighting]
    scope: SizeScope
    symbols: list[Dim]
    inputs: list[Spec]
    weights: Collected
    specs: list[tuple[Spec, ...]] = field(default_factory=list)
    calls: list[OpCall] = field(default_factory=list)

    def run(self) -> None:
        """Make a call of every node that a result needs; ExportError where recordings differ."""
        first = self.sightings[0].recording
        needed = _needed(first, self.sightings[0].positions)
        self.numbers: dict[int, int] = {}
        lists = [s.recording.ops for s in self.sightings]
        for position, nodes in enumerate(_together(self, lists)):
            self.check_same(position, nodes)
            self.specs.append(())
            if position not in needed:
                continue
            call, self.specs[position] = self._call(position, nodes)
            self.numbers[position] = len(self.calls)
            self.calls.append(call)

    def check_same(self, position: int, nodes: Sequence[Recorded]) -> None:
        """The same op with the same attributes in every recording."""
        codes = [n.op.name.encode() + encode.structure_code(n.op, n.attrs, n.form) for n in nodes]
        for other, code in enumerate(codes):
            if code != codes[0]:
                self.differ(nodes[0], nodes[other], other)

    def differ(self, node: Recorded | None, other_node: Recorded | None, other: int) -> NoReturn:
        """Say where the two recordings part."""
        at = [self._at(0), self._at(other)]
        what = [
            f"{n.op.name} ({site.describe(n.site)})" if n is not None else "nothing more"
            for n in (node, other_node)
        ]
        raise ExportError(
            f"export: the computation depends on a dynamic size: {at[0]} it records {what[0]}, "
            f"{at[1]} {what[1]}; only sizes may change, not the ops"
        )

    def _at(self, sighting: int) -> str:
        values = self.sightings[sighting].symbols
        return "with " + ", ".join(
            f"{n}={v}" for n, v in zip(self.scope.names, values, strict=True)
        )

    def _call(self, position: int, nodes: Sequence[Recorded]) -> tuple[OpCall, tuple[Spec, ...]]:
        node = nodes[0]
        operands, specs = [], []
        for k in range(len(node.inputs)):
            operand, spec = self.operand([n.inputs[k] for n in nodes], node)
            operands.append(operand)
            specs.append(spec)
        attrs = dict(node.attrs)
        for name in sorted(node.op.sizes & attrs.keys()):
            attrs[name] = self._attribute([n.attrs[name] for n in nodes], specs, node, name)
        bodies: tuple[Body, ...] = ()
        try:
            if node.bodies:
                bodies, found = self._bodies(nodes, specs)
            else:
                found = node.op.infer_specs(specs, attrs, node.form)
        except RabbetError as error:
            raise ExportError(f"export: {error}\n  at {site.describe(node.site)}") from None
        for sighting, n in zip(self.sightings, nodes, strict=True):
            for spec, seen in zip(found, n.specs, strict=True):
                if tuple(sizes.evaluate(d, sighting.symbols) for d in spec.shape) != seen.shape:
                    raise ExportError(
                        f"export: the shape {show(seen.shape)} of {node.op.name} is no "
                        f"expression of the dynamic sizes\n  at {site.describe(node.site)}"
                    )
        call = OpCall(
            op=node.op.name,
            since=node.op.since,
            operands=tuple(operands),
            form=node.form,
            attributes={name: _wrap(value) for name, value in attrs.items()},
            results=tuple(sized(s) for s in found),
            layer=node.layer,
            bodies=bodies,
        )
        return call, found

    def _bodies(
        self, nodes: Sequence[Recorded], specs: Sequence[Spec]
    ) -> tuple[tuple[Body, ...], tuple[Spec, ...]]:
        """The graphs inside a control op, and the Specs of what it gives."""
        node, bodies, made = nodes[0], [], []
        given = list(specs[node.conditions :])
        for k in range(len(node.bodies)):
            inner = [
                Sighting(
                    s.symbols,
                    Recording(n.bodies[k].ops, n.bodies[k].results, LEAF, []),
                    {key: i for i, key in enumerate(n.bodies[k].inputs)},
                )
                for s, n in zip(self.sightings, nodes, strict=True)
            ]
            unifier = Unifier(inner, self.scope, self.symbols, given, Collected({}))
            unifier.run()
            count = range(len(inner[0].recording.results))
            found = [unifier.operand([s.recording.results[r] for s in inner], node) for r in count]
            operands = tuple(operand for operand, _ in found)
            made.append(tuple(spec for _, spec in found))
            bodies.append(Body(tuple(sized(s) for s in given), tuple(unifier.calls), operands))
        return tuple(bodies), made[-1]

    def _attribute(self, values: list[Any], specs: list[Spec], node: Recorded, name: str) -> Any:
        """A size attribute, each size as an expression that fits all recordings."""
        if isinstance(values[0], tuple):
            return tuple(
                self._attribute(list(each), specs, node, name) for each in zip(*values, strict=True)
            )
        if not isinstance(values[0], int) or isinstance(values[0], bool):
            return values[0]
        dim = self._fit(values, [s.shape for s in specs])
        if dim is None:
            seen = ", ".join(f"{v} {self._at(i)}" for i, v in enumerate(values))
            raise ExportError(
                f"export: {name} of {node.op.name} is no expression of the dynamic sizes: {seen}"
                f"\n  at {site.describe(node.site)}"
            )
        return dim

    # ---- operands and results ------------------------------------------------------------------

    def operand(self, keys: Sequence[Key], user: Recorded | None) -> tuple[Operand, Spec]:
        """What these operands (one per recording) are, and their Spec."""
        refs = [self._ref(s, k) for s, k in zip(self.sightings, keys, strict=True)]
        node, index = keys[0]
        if any(r != refs[0] for r in refs):
            self.differ(user, user, next(i for i, r in enumerate(refs) if r != refs[0]))
        kind, number = refs[0]
        if kind == "call":
            return Ref("call", self.numbers[number], index), self.specs[number][index]
        if kind == "input":
            return Ref("input", number), self.inputs[number]
        if kind == "weight":
            return Ref("weight", self.weights.number(node, index)), node.specs[index]
        return self._constant(keys, user)

    def _ref(self, sighting: Sighting, key: Key) -> tuple[str, Any]:
        node, index = key
        if id(node) in sighting.positions:
            return "call", sighting.positions[id(node)]
        if key in sighting.inputs:
            return "input", sighting.inputs[key]
        if key in self.weights.names:
            return "weight", self.weights.names[key][0]
        return "constant", None

    def _constant(self, keys: Sequence[Key], user: Recorded | None) -> tuple[Operand, Spec]:
        """A tensor or number from outside: it must not depend on the dynamic sizes."""
        node, index = keys[0]
        where = f"\n  at {site.describe(user.site)}" if user is not None else ""
        if node.offset is not None:
            raise ExportError(
                "export: the result depends on random numbers; export in evaluation mode "
                f"(training=False), or pass them as an argument{where}"
            )
        spec = node.specs[index]
        arrays = [array_of(n, i, where) for n, i in keys]
        for other, array in enumerate(arrays[1:], 1):
            if array.shape != arrays[0].shape or array.tobytes() != arrays[0].tobytes():
                return self._varying(arrays, spec, other, where)
        if spec.shape == () and spec.dtype.computed:
            return Number(arrays[0].item(), spec.dtype), spec
        return Ref("weight", self.weights.number(node, index)), spec

    def _varying(
        self, arrays: list[np.ndarray], spec: Spec, other: int, where: str
    ) -> tuple[Operand, Spec]:
        """A number or range that Python made from a dynamic size."""
        found = as_call(arrays, spec.dtype, lambda values: self._fit(values, []))
        if found is None:
            raise ExportError(
                f"export: a constant depends on the dynamic sizes ({_show(arrays[0])} "
                f"{self._at(0)}, {_show(arrays[other])} {self._at(other)}); compute it with "
                f"ops on tensors{where}"
            )
        call, dim = found
        self.calls.append(call)
        shape = (dim,) if spec.shape else ()
        return Ref("call", len(self.calls) - 1), spec.with_shape(shape)

    def _fit(self, values: list[int], shapes: list[tuple[Dim, ...]]) -> Dim | None:
        return fit(values, [s.symbols for s in self.sightings], self.symbols, shapes)


def array_of(node: Node, index: int, where: str) -> np.ndarray:
    """The value of a leaf; `where` goes into the error for a number too large."""
    spec = node.specs[index]
    if node.number is not None:
        try:
            return np.array(node.number).astype(spec.dtype.numpy, casting="unsafe")
        except (OverflowError, ValueError) as error:
            raise ExportError(f"export: the number {node.number}: {error}{where}") from None
    return buffers.to_numpy(node.buffers[index], spec.shape, spec.dtype)


def _show(array: np.ndarray) -> str:
    return str(array.item()) if array.size == 1 else f"shape {show(array.shape)}"


def _wrap(value: Any) -> Any:
    """Symbolic sizes of an attribute as Size records."""
    if isinstance(value, tuple):
        return tuple(_wrap(v) for v in value)
    return Size(form_of(value)) if isinstance(value, sizes.SizeExpr) else value


def sized(spec: Spec) -> SizedDType:
    """A Spec with its sizes as forms."""
    return SizedDType(spec.dtype, tuple(form_of(d) for d in spec.shape))


def _needed(recording: Recording, positions: dict[int, int]) -> set[int]:
    """Positions of the nodes that the results are computed from."""
    nodes = recording.ops
    found = {
        positions[id(r[0])]
        for r in recording.results
        if isinstance(r, tuple) and id(r[0]) in positions
    }
    for position in range(len(nodes) - 1, -1, -1):
        if position in found:
            found |= {positions[id(n)] for n, _ in nodes[position].inputs if id(n) in positions}
    return found


def _together(unifier: Unifier, lists: list[list[Recorded]]) -> list[tuple[Recorded, ...]]:
    """The recordings' nodes side by side; ExportError where one is shorter."""
    shortest = min(len(nodes) for nodes in lists)
    together = list(zip(*(nodes[:shortest] for nodes in lists), strict=True))
    for other, nodes in enumerate(lists):
        if len(nodes) != len(lists[0]):
            for position, row in enumerate(together):
                unifier.check_same(position, row)
            rest = [row[shortest] if len(row) > shortest else None for row in (lists[0], nodes)]
            unifier.differ(rest[0], rest[1], other)
    return together


def unify(
    name: str,
    sightings: Sequence[Sighting],
    symbol_names: Sequence[str],
    inputs: Sequence[tuple[str, Callable[[list[Dim]], Spec]]],
    outputs: Sequence[str],
    weights: Collected,
) -> Entry:
    """One Entry for all sightings; the first one's sizes are the examples in the file.

    `inputs` are names with a function from the symbols to the Spec. Raises ExportError.
    """
    scope = SizeScope()
    hints = sightings[0].symbols
    symbols: list[Dim] = [
        scope.symbol(n, h) for n, h in zip(symbol_names, sightings[-1].symbols, strict=True)
    ]
    specs = [make(symbols) for _, make in inputs]
    unifier = Unifier(sightings, scope, symbols, specs, weights)
    unifier.run()
    entry = Entry(name, list(zip(symbol_names, hints, strict=True)))
    entry.inputs = [Named(n, sized(s)) for (n, _), s in zip(inputs, specs, strict=True)]
    entry.calls = unifier.calls
    for number, output in enumerate(outputs):
        operand, spec = unifier.operand([s.recording.results[number] for s in sightings], None)
        entry.outputs.append(Named(output, sized(spec)))
        entry.results.append(operand)
    return entry

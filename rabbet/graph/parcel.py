"""Recorded ops as plain lines: the graph they make, here or in another process of this
installation.

Writing lines down is cheap; making a graph of them infers and interns. As bytes, ops travel by name
and operands by number, so a graph of any depth fits. What is made here is read by a process of our
own alone: files have a format that trusts nobody.
"""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from typing import Any, NamedTuple

from rabbet.base.sizes import Dim, SizeScope
from rabbet.base.spec import Spec
from rabbet.graph import encode
from rabbet.graph.value import Builder, Graph, Value, registry


class Line(NamedTuple):
    """One op; an operand is an output of an earlier line, or (-1 - n, 0): the n-th input."""

    op: Any
    operands: tuple[tuple[int, int], ...]
    attrs: dict[str, Any]
    form: tuple[int, ...]
    specs: tuple[Spec, ...]


class Written(NamedTuple):
    """Lines and the Specs of their inputs, at the sizes of the recording."""

    lines: list[Line]
    inputs: list[Spec]

    def graph(self, dims: Sequence[Dim], outputs: Sequence[tuple[int, int]]) -> Graph:
        """The graph with the given sizes, as the recording's key counts them: of each input where
        it is first used, then of the op's attributes. Call sites are the numbers of lines.
        """
        rest = list(dims)
        builder = Builder()
        builder.site = -1
        graph = Graph()
        values: list[tuple[Value, ...]] = []
        is_static = all(isinstance(d, int) for d in dims)
        for number, (op, operands, attrs, form, specs) in enumerate(self.lines):
            for line, _ in operands:
                if line < 0 and -1 - line == len(graph.inputs):
                    spec = self.inputs[-1 - line]
                    shape = tuple(rest.pop(0) for _ in spec.shape)
                    graph.inputs.append(builder.input(Spec(shape, spec.dtype, spec.device)))
            given = tuple(graph.inputs[-1 - n] if n < 0 else values[n][i] for n, i in operands)
            attrs = dict(attrs)
            for name in sorted(op.sizes & attrs.keys()):
                attrs[name] = encode.fill_sizes(attrs[name], rest)
            if not is_static:
                specs = op.infer_specs([v.spec for v in given], attrs, form)
            values.append(builder.call(op, given, attrs, form, specs, site=number))
        graph.outputs = [values[n][i] for n, i in outputs]
        return graph


def write(nodes: Sequence[Any]) -> Written:
    """The lines of recorded nodes."""
    places = {id(node): number for number, node in enumerate(nodes)}
    found: dict[tuple[int, int], tuple[int, int]] = {}
    inputs: list[Spec] = []
    lines: list[Line] = []
    for node in nodes:
        operands: list[tuple[int, int]] = []
        for source, index in node.inputs:
            number = places.get(id(source))
            if number is not None:
                operands.append((number, index))
                continue
            key = (id(source), index)
            if key not in found:
                found[key] = (-1 - len(inputs), 0)
                inputs.append(source.specs[index])
            operands.append(found[key])
        lines.append(Line(node.op, tuple(operands), node.attrs, node.form, node.specs))
    return Written(lines, inputs)


def pack(
    written: Written,
    dims: Sequence[Dim],
    outputs: Sequence[tuple[int, int]],
    scope: SizeScope | None,
) -> bytes | None:
    """What `Written.graph` takes as bytes, with the scope of its sizes; None where an op is known
    to this process alone, or holds graphs.
    """
    ops = {id(line.op): line.op for line in written.lines}.values()
    if any(op.kind == "control" or registry.get(op.name) is not op for op in ops):
        return None
    plain = [(op.name, *rest) for op, *rest in written.lines]
    return pickle.dumps((plain, written.inputs, dims, outputs, scope), pickle.HIGHEST_PROTOCOL)


def unpack(data: bytes) -> tuple[Graph, SizeScope | None]:
    """The graph and the scope of its sizes."""
    plain, inputs, dims, outputs, scope = pickle.loads(data)
    lines = [Line(registry[name], *rest) for name, *rest in plain]
    return Written(lines, inputs).graph(dims, outputs), scope

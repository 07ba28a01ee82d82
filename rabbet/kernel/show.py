"""Kernels as canonical pseudo-code: two kernels are the same if and only if their texts are.

The text is the key of compiled code and what golden tests compare. Shared or deep expressions get
a name (`t3 := ...`) where they are first needed; dtypes follow from the operands, literals and
conversions.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import cast

from rabbet.expr.expr import Expr, topological
from rabbet.kernel.loops import (
    AttentionGradientKernel,
    AttentionKernel,
    ContractKernel,
    Kernel,
    Operand,
    PackKernel,
    RecurrentKernel,
    RowKernel,
    ScatterKernel,
    SortKernel,
    Store,
)
from rabbet.kernel.rewrite import expressions

_INFIX = {
    **{"add": "+", "sub": "-", "mul": "*", "div": "/", "floordiv": "//", "mod": "%"},
    **{"eq": "==", "ne": "!=", "lt": "<", "le": "<=", "and": "&", "or": "|", "xor": "^"},
    **{"shl": "<<", "shr": ">>"},
}
_DEPTH = 6  # expressions nested deeper than this are named


def show(kernel: Kernel) -> str:
    """The kernel's pseudo-code, complete.

    >>> print(show(kernel))  # doctest: +SKIP
    rows along
      in0: float32 in
      ...
    """
    match kernel:
        case RowKernel():
            return _rows(kernel)
        case ContractKernel():
            return _contract(kernel)
        case AttentionKernel() | AttentionGradientKernel():
            return _attention(kernel)
        case RecurrentKernel():
            return _recurrent(kernel)
        case PackKernel():
            return _pack(kernel)
        case SortKernel():
            return _sort(kernel)
    return _scatter(kernel)


def kernel_name(kernel: Kernel) -> str:
    """A symbol name made from the kernel's text: equal kernels, equal names."""
    return "rb_" + hashlib.sha256(show(kernel).encode()).hexdigest()[:24]


class _Printer:
    """Lines of text, and the names of expressions printed so far."""

    def __init__(self, roots: Iterable[Expr]) -> None:
        self.lines: list[str] = []
        self._named: set[Expr] = set()
        self._names: dict[Expr, str] = {}
        self._choose(list(roots))

    def _choose(self, roots: list[Expr]) -> None:
        """Decide what gets a name: used twice, or deep."""
        order = topological(roots)
        uses = dict.fromkeys(order, 0)
        depth: dict[Expr, int] = {}
        for root in roots:
            uses[root] += 1
        for e in order:
            for a in set(e.args):
                uses[a] += 1
            depth[e] = 1 + max((depth[a] for a in e.args), default=-1)
            if e.args and depth[e] > _DEPTH:
                self._named.add(e)
                depth[e] = 0
        self._named |= {e for e in order if uses[e] > 1 and e.args}

    def line(self, indent: int, text: str) -> None:
        """One line; two spaces for each level."""
        self.lines.append("  " * indent + text)

    def spell(self, e: Expr, indent: int) -> str:
        """The expression; lines for the names it needs are printed first."""
        for part in topological([e]):
            if part in self._named and part not in self._names:
                text = self._text(part)
                self._names[part] = f"t{len(self._names)}"
                self.line(indent, f"{self._names[part]} := {text}")
        return self._names.get(e) or self._text(e)

    def _text(self, e: Expr) -> str:
        args = [self._names.get(a) or self._text(a) for a in e.args]
        match e.op:
            case "const":
                return f"{e.value!r}:{e.dtype.name}"
            case "var" | "size" | "acc":
                return f"{e.op[0]}{e.value}"
            case "load":
                operand, fill = cast("tuple[int, float]", e.value)
                guard = f" if {args[1]} else {fill!r}" if len(args) > 1 else ""
                return f"in{operand}[{args[0]}{guard}]"
            case "cast":
                return f"{e.dtype.name}({args[0]})"
            case "bitcast":
                return f"bitcast({args[0]}, {e.dtype.name})"
        if e.op in _INFIX:
            return f"({args[0]} {_INFIX[e.op]} {args[1]})"
        return f"{e.op}({', '.join(args)})"

    def head(self, title: str, operands: tuple[Operand, ...]) -> None:
        """The first lines: what the kernel is, and its operands."""
        self.line(0, title)
        for number, operand in enumerate(operands):
            self.line(1, f"in{number}: {operand.dtype.name} {operand.mode}")

    def loops(self, first: int, extents: tuple[Expr, ...], label: str, indent: int) -> int:
        """One line per loop; gives the indent inside them."""
        for number, extent in enumerate(extents, first):
            self.line(indent, f"for v{number} < {self.spell(extent, indent)}:  # {label}")
            indent += 1
        return indent

    def stores(self, stores: tuple[Store, ...], indent: int) -> None:
        """One line per store."""
        for s in stores:
            value, index = self.spell(s.value, indent), self.spell(s.index, indent)
            self.line(indent, f"in{s.operand}[{index}] = {value}")

    def checks(self, checks: tuple[tuple[Expr, Expr], ...], indent: int) -> None:
        """One line per check."""
        for index, extent in checks:
            self.line(indent, f"check {self.spell(index, indent)} in {self.spell(extent, indent)}")

    def text(self) -> str:
        """All lines."""
        return "\n".join(self.lines) + "\n"


def _store_roots(stores: tuple[Store, ...]) -> list[Expr]:
    return [e for s in stores for e in (s.value, s.index)]


def _rows(kernel: RowKernel) -> str:
    sweeps = kernel.sweeps
    roots = [*kernel.outer, *kernel.inner, *(e for c in kernel.checks for e in c)]
    roots += [] if kernel.block is None else [kernel.block]
    for sweep in sweeps:
        roots += [r.value for r in sweep.reductions]
        roots += [r.key for r in sweep.reductions if r.key is not None]
        roots += _store_roots(sweep.stores)
    out = _Printer(roots + _store_roots(kernel.finish))
    out.head(f"rows {'across' if kernel.across else 'along'}", kernel.operands)
    indent = out.loops(0, kernel.outer, "outer", 1)
    if kernel.block is not None:
        size, first = out.spell(kernel.block, indent), len(kernel.outer)
        out.line(indent, f"v0 is v{first} // {size}")
    out.checks(kernel.checks, indent)
    number = 0
    for sweep in sweeps:
        out.line(indent, "sweep")
        inside = out.loops(len(kernel.outer), kernel.inner, "inner", indent + 1)
        for reduction in sweep.reductions:
            value = out.spell(reduction.value, inside)
            key = "" if reduction.key is None else f", {out.spell(reduction.key, inside)}"
            out.line(inside, f"a{number} = {reduction.combine}({value}{key})")
            number += 1
        out.stores(sweep.stores, inside)
    if kernel.finish:
        out.line(indent, "finish")
        out.stores(kernel.finish, indent)
    return out.text()


def _contract(kernel: ContractKernel) -> str:
    loops = (kernel.batch, kernel.m, kernel.n, kernel.k)
    roots = [e for extents in loops for e in extents] + [kernel.a, kernel.b]
    out = _Printer(roots + _store_roots(kernel.stores))
    out.head("contract", kernel.operands)
    indent, first = 1, 0
    for label, extents in zip(("batch", "m", "n", "k"), loops, strict=True):
        indent = out.loops(first, extents, label, indent)
        first += len(extents)
    a, b = out.spell(kernel.a, indent), out.spell(kernel.b, indent)
    out.line(indent, f"a0 = contract({a}, {b}){_panels_said(kernel)}")
    out.line(1, "finish")
    out.stores(kernel.stores, 1)
    return out.text()


def _panels_said(kernel: ContractKernel) -> str:
    names = [name for name, packed in zip("ab", kernel.packed, strict=True) if packed]
    lanes = "" if kernel.lanes < 0 else f"  # lanes of {'ab'[kernel.lanes]}"
    bands = ", bands of b" if kernel.banded else ""
    tile = ", tile {} x {}".format(*kernel.tile) if any(kernel.tile) else ""
    return lanes + bands + tile + (f", panels of {' and '.join(names)}" if names else "")


def _pack(kernel: PackKernel) -> str:
    loops = (kernel.batch, kernel.across, kernel.k)
    out = _Printer([*(e for extents in loops for e in extents), kernel.value])
    out.head(f"pack panels of {kernel.width}", kernel.operands)
    indent, first = 1, 0
    for label, extents in zip(("batch", "across", "k"), loops, strict=True):
        indent = out.loops(first, extents, label, indent)
        first += len(extents)
    out.line(indent, out.spell(kernel.value, indent))
    return out.text()


def _scatter(kernel: ScatterKernel) -> str:
    loops = (kernel.outer, kernel.updates, kernel.inner)
    roots = [e for extents in loops for e in extents] + [kernel.index, kernel.value]
    out = _Printer([*roots, *(e for c in kernel.checks for e in c)])
    out.head(f"scatter into in{kernel.out}", kernel.operands)
    indent, first = 1, 0
    for label, extents in zip(("outer", "updates", "inner"), loops, strict=True):
        indent = out.loops(first, extents, label, indent)
        first += len(extents)
    out.checks(kernel.checks, indent)
    index, value = out.spell(kernel.index, indent), out.spell(kernel.value, indent)
    out.line(indent, f"in{kernel.out}[{index}] {kernel.combine}= {value}")
    return out.text()


def _attention(kernel: AttentionKernel | AttentionGradientKernel) -> str:
    s = kernel.scores
    out = _Printer(expressions(kernel))
    is_gradient = isinstance(kernel, AttentionGradientKernel)
    seen = " causal" if s.causal else ""
    out.head(f"attention{' gradient' if is_gradient else ''}{seen}", kernel.operands)
    indent = out.loops(0, s.batch, "batch", 1)
    extents = (s.heads, s.queries, s.keys, s.features, s.values)
    labels = ("head", "query", "key", "feature", "value")
    for number, (label, extent) in enumerate(zip(labels, extents, strict=True), len(s.batch)):
        indent = out.loops(number, (extent,), label, indent)
    named = {"query": s.query, "key": s.key, "score": s.score, "value": kernel.value}
    if isinstance(kernel, AttentionGradientKernel):
        named |= {"gradient": kernel.gradient, "total": kernel.total, "drop": kernel.drop}
    for name, e in named.items():
        out.line(1, f"{name} = {out.spell(e, 1)}")
    kinds = ("query", "key", "value") if is_gradient else ("", "row")
    for kind in kinds:
        stores = getattr(kernel, f"{kind}_stores" if kind else "stores")
        out.line(1, f"finish {kind}".rstrip())
        out.stores(stores, 1)
    return out.text()


def _sort(kernel: SortKernel) -> str:
    out = _Printer([*kernel.outer, *kernel.line, kernel.index, kernel.key])
    out.head(f"sort into in{kernel.out}{', wide' if kernel.wide else ''}", kernel.operands)
    indent = out.loops(0, kernel.outer, "outer", 1)
    indent = out.loops(len(kernel.outer), kernel.line, "line", indent)
    index, key = out.spell(kernel.index, indent), out.spell(kernel.key, indent)
    out.line(indent, f"in{kernel.out}[{index}] = sorted by {key}")
    return out.text()


def _recurrent(kernel: RecurrentKernel) -> str:
    out = _Printer(expressions(kernel))
    out.head(f"recurrent {kernel.sources} -> {kernel.targets}", kernel.operands)
    extents = (kernel.batch, kernel.steps, kernel.units)
    for number, (label, extent) in enumerate(zip(("batch", "step", "unit"), extents, strict=True)):
        out.loops(number, (extent,), label, 1)
    if kernel.weight is not None:
        out.line(1, f"weight = {out.spell(kernel.weight, 1)}")
    for number, (source, distance) in enumerate(kernel.shifts):
        first = kernel.targets + len(kernel.start)
        out.line(1, f"acc({first + number}) = carried {source} of unit - {distance}")
    for name, values in (("start", kernel.start), ("carried", kernel.carried)):
        for e in values:
            out.line(1, f"{name} {out.spell(e, 1)}")
    out.stores(kernel.stores, 1)
    out.line(1, "finish")
    out.stores(kernel.finish, 1)
    return out.text()

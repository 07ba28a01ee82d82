"""A small typed builder of LLVM text.

Takes operations one after the other, gives the text of a module. A value is its spelling and its
LLVM type; pointers are opaque; mutable variables are stack slots in the entry block, which LLVM
turns into registers. Nothing here knows expressions or kernels.
"""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import NamedTuple

from rabbet.base.errors import InternalError
from rabbet.base.target import Target
from rabbet.codegen import bundle

_VECTOR = re.compile(r"<(\d+) x (\w+)>$")


class Value(NamedTuple):
    """An LLVM value: `%v3`, `7` or `splat (i64 7)`, and its type."""

    text: str
    type: str


def vector_of(element: str, lanes: int) -> str:
    """`<lanes x element>`; one lane is the scalar type."""
    return element if lanes == 1 else f"<{lanes} x {element}>"


def lanes_of(kind: str) -> int:
    """Number of lanes of a type, 1 for a scalar."""
    match = _VECTOR.match(kind)
    return int(match[1]) if match else 1


def element_of(kind: str) -> str:
    """The scalar type of a type."""
    match = _VECTOR.match(kind)
    return match[2] if match else kind


def bits_of(kind: str) -> int:
    """Bits of one lane of a type (8 for an i1 in memory is not this: i1 is 1)."""
    element = element_of(kind)
    return {"float": 32, "double": 64, "ptr": 64}.get(element) or int(element[1:])


def literal(number: float | int | bool, kind: str) -> Value:
    """A constant of a scalar or vector type; floats are spelled by their bits."""
    element = element_of(kind)
    if element in ("float", "double"):
        value = float(number)
        if element == "float":
            value = _to_float32(value)
        text = f"0x{struct.unpack('<Q', struct.pack('<d', value))[0]:016X}"
    elif element == "i1":
        text = "true" if number else "false"
    else:
        text = str(int(number))
    return Value(text if element == kind else f"splat ({element} {text})", kind)


def may_be_nan(value: Value) -> bool:
    """Whether a float is not a literal number."""
    if value.text.startswith("%"):
        return True
    (number,) = struct.unpack("<d", struct.pack("<Q", int(value.text.strip(")").split()[-1], 16)))
    return math.isnan(number)


def _to_float32(value: float) -> float:
    try:
        return float(struct.unpack("<f", struct.pack("<f", value))[0])
    except OverflowError:  # rounds to infinity
        return float("inf") if value > 0 else float("-inf")


def i64(number: int) -> Value:
    """A 64-bit integer constant."""
    return Value(str(number), "i64")


class Module:
    """One LLVM module for one target: functions, constants, and the intrinsics they use.

    `parts`: shared modules whose functions this one calls. A shared module depends on no kernel,
    calls nothing outside, and is complete before anybody asks for its text.
    """

    def __init__(self, target: Target, *, shared: bool = False) -> None:
        self.target = target
        self.shared = shared
        self.parts: list[Module] = []
        self.functions: list[Function] = []
        self.declarations: dict[str, str] = {}
        self.constants: dict[str, str] = {}

    def function(self, name: str, parameters: Sequence[tuple[str, str]]) -> Function:
        """A void function; parameters are (type with attributes, name)."""
        made = Function(self, name, parameters)
        self.functions.append(made)
        return made

    def constant(self, kind: str, body: str, align: int = 64) -> Value:
        """Address of a private constant; equal ones are shared."""
        text = f"private unnamed_addr constant {kind} {body}, align {align}"
        name = self.constants.setdefault(text, f"@c{len(self.constants)}")
        return Value(name, "ptr")

    @cached_property
    def part(self) -> bundle.PartText:
        """A shared module under names that nothing else has."""
        return bundle.named(self._own_text(), [f.name for f in self.functions])

    def text(self) -> str:
        """The whole module, with its parts behind."""
        own = self._own_text()
        parts = [m.part for m in self.parts]
        for part in parts:
            own = bundle.renamed(own, part.plain, part.names)
        return bundle.joined_text(own, parts)

    def _own_text(self) -> str:
        target = self.target
        lines = [f'target triple = "{target.triple}"', ""]
        lines += [f"{name} = {text}" for text, name in self.constants.items()]
        for function in self.functions:
            lines += ["", *function.lines()]
        lines += ["", *self.declarations.values()]
        lines += [f.declaration() for part in self.parts for f in part.functions]
        lines.append("")
        lines.append(
            f'attributes #0 = {{ nounwind "no-builtins" "target-cpu"="{target.cpu}" '
            f'"target-features"="{target.features}" "prefer-vector-width"="{target.vector_bits}" }}'
        )
        lines.append("!0 = !{i32 1}")  # what !nontemporal refers to
        return "\n".join(lines) + "\n"


class Variable:
    """A mutable stack slot of one type."""

    def __init__(self, fn: Function, kind: str) -> None:
        self._fn = fn
        self.type = kind
        self.pointer = fn.allocate(kind)

    def get(self) -> Value:
        """The present value."""
        return self._fn.do(self.type, f"load {self.type}, ptr {self.pointer.text}")

    def set(self, value: Value) -> None:
        """Replace the value."""
        if value.type != self.type:
            raise InternalError(f"variable of {self.type} set to {value.type}")
        self._fn.emit(f"store {value.type} {value.text}, ptr {self.pointer.text}")


class Function:
    """A function being written: instructions go to the end of the current block."""

    def __init__(self, module: Module, name: str, parameters: Sequence[tuple[str, str]]) -> None:
        self.module = module
        self.name = name
        self._parameters = parameters
        self._entry: list[str] = []
        self._lines: list[str] = []
        self._count = 0
        self.block = "start"
        self.parameters = {n: Value(f"%{n}", k.split()[0]) for k, n in parameters}

    # ------------------------------------------------------------------ text

    def lines(self) -> list[str]:
        """The function's text, closed with `ret void`."""
        arguments = ", ".join(f"{kind} %{name}" for kind, name in self._parameters)
        return [
            f"define void @{self.name}({arguments}) #0 {{",
            "entry:",
            *self._entry,
            "  br label %start",
            "start:",
            *self._lines,
            "  ret void",
            "}",
        ]

    def declaration(self) -> str:
        """What a module says that calls this function of another one."""
        kinds = ", ".join(kind.split()[0] for kind, _ in self._parameters)
        return f"declare void @{self.name}({kinds})"

    def emit(self, text: str) -> None:
        """An instruction without a result."""
        self._lines.append(f"  {text}")

    def do(self, kind: str, text: str) -> Value:
        """An instruction with a result of type `kind`."""
        name = self._fresh("v")
        self._lines.append(f"  {name} = {text}")
        return Value(name, kind)

    def entry(self, kind: str, text: str) -> Value:
        """An instruction in the entry block, before everything else."""
        name = self._fresh("e")
        self._entry.append(f"  {name} = {text}")
        return Value(name, kind)

    def allocate(self, kind: str, align: int = 64) -> Value:
        """A stack slot (address)."""
        return self.entry("ptr", f"alloca {kind}, align {align}")

    def variable(self, kind: str, initial: Value | None = None) -> Variable:
        """A mutable variable, set here to `initial`."""
        made = Variable(self, kind)
        if initial is not None:
            made.set(initial)
        return made

    def _fresh(self, prefix: str) -> str:
        self._count += 1
        return f"%{prefix}{self._count}"

    # ------------------------------------------------------------------ blocks

    def label(self, name: str) -> None:
        """Begin a block."""
        self._lines.append(f"{name}:")
        self.block = name

    def fresh_label(self, prefix: str) -> str:
        """A block name nobody has."""
        self._count += 1
        return f"{prefix}{self._count}"

    def jump(self, label: str) -> None:
        """End the block."""
        self.emit(f"br label %{label}")

    def branch(self, condition: Value, yes: str, no: str) -> None:
        """End the block two ways."""
        self.emit(f"br i1 {condition.text}, label %{yes}, label %{no}")

    @contextmanager
    def loop(self, begin: Value, end: Value, step: int | Value = 1) -> Iterator[Value]:
        """`for i in range(begin, end, step)` with a positive step; gives i."""
        body, done = self.fresh_label("body"), self.fresh_label("done")
        before = self.block
        self.branch(self.icmp("slt", begin, end), body, done)
        self.label(body)
        name, following = self._fresh("i"), self._fresh("n")
        position = len(self._lines)
        self._lines.append("")
        counter = Value(name, "i64")
        yield counter
        by = step.text if isinstance(step, Value) else str(step)
        self.emit(f"{following} = add nsw i64 {name}, {by}")
        self._lines[position] = (
            f"  {name} = phi i64 [ {begin.text}, %{before} ], [ {following}, %{self.block} ]"
        )
        self.branch(self.icmp("slt", Value(following, "i64"), end), body, done)
        self.label(done)

    @contextmanager
    def when(self, condition: Value) -> Iterator[None]:
        """The instructions inside run only where the (scalar) condition holds."""
        yes, done = self.fresh_label("yes"), self.fresh_label("done")
        self.branch(condition, yes, done)
        self.label(yes)
        yield
        self.jump(done)
        self.label(done)

    # ------------------------------------------------------------------ arithmetic

    def binary(self, opcode: str, a: Value, b: Value) -> Value:
        """`opcode a, b`, for instance fadd, mul, and."""
        if a.type != b.type:
            raise InternalError(f"{opcode}: {a.type} and {b.type} differ")
        return self.do(a.type, f"{opcode} {a.type} {a.text}, {b.text}")

    def add(self, a: Value, b: Value | int) -> Value:
        """Integer addition (wraps); zero and two constants are folded."""
        b = literal(b, a.type) if isinstance(b, int) else b
        if _is_number(a) and _is_number(b):
            return i64(int(a.text) + int(b.text)) if a.type == "i64" else self.binary("add", a, b)
        if b.text == "0":
            return a
        return b if a.text == "0" else self.binary("add", a, b)

    def sub(self, a: Value, b: Value | int) -> Value:
        """Integer subtraction (wraps)."""
        b = literal(b, a.type) if isinstance(b, int) else b
        return a if b.text == "0" else self.binary("sub", a, b)

    def mul(self, a: Value, b: Value | int) -> Value:
        """Integer multiplication (wraps)."""
        b = literal(b, a.type) if isinstance(b, int) else b
        if b.text == "1" or a.text == "0":
            return a
        return b if a.text == "1" or b.text == "0" else self.binary("mul", a, b)

    def icmp(self, predicate: str, a: Value, b: Value | int) -> Value:
        """Integer comparison: eq ne slt sle sgt sge ult ule ugt uge."""
        b = literal(b, a.type) if isinstance(b, int) else b
        kind = vector_of("i1", lanes_of(a.type))
        return self.do(kind, f"icmp {predicate} {a.type} {a.text}, {b.text}")

    def fcmp(self, predicate: str, a: Value, b: Value) -> Value:
        """Float comparison: oeq une olt ole uno ..."""
        kind = vector_of("i1", lanes_of(a.type))
        return self.do(kind, f"fcmp {predicate} {a.type} {a.text}, {b.text}")

    def select(self, condition: Value, a: Value, b: Value) -> Value:
        """a where the condition (scalar or per lane) holds, else b."""
        if a.type != b.type:
            raise InternalError(f"select: {a.type} and {b.type} differ")
        kind = condition.type
        return self.do(
            a.type, f"select {kind} {condition.text}, {a.type} {a.text}, {b.type} {b.text}"
        )

    def convert(self, opcode: str, a: Value, element: str) -> Value:
        """zext, sext, trunc, sitofp, fpext, bitcast ... to another element type, lane by lane."""
        kind = vector_of(element, lanes_of(a.type))
        return a if kind == a.type else self.do(kind, f"{opcode} {a.type} {a.text} to {kind}")

    def intrinsic(self, name: str, kind: str, *arguments: Value) -> Value:
        """Call `@llvm.name` (with its overload suffixes) for a result of type `kind`."""
        types = ", ".join(a.type for a in arguments)
        given = ", ".join(f"{a.type} {a.text}" for a in arguments)
        self.module.declarations[name] = f"declare {kind} @llvm.{name}({types})"
        if kind == "void":
            self.emit(f"call void @llvm.{name}({given})")
            return Value("", "void")
        return self.do(kind, f"call {kind} @llvm.{name}({given})")

    # ------------------------------------------------------------------ vectors

    def splat(self, a: Value, lanes: int) -> Value:
        """The scalar in every lane."""
        if lanes == 1:
            return a
        kind = vector_of(a.type, lanes)
        if not a.text.startswith("%") and a.type != "ptr":
            return Value(f"splat ({a.type} {a.text})", kind)
        first = self.do(kind, f"insertelement {kind} poison, {a.type} {a.text}, i64 0")
        zeros = f"<{lanes} x i32> zeroinitializer"
        return self.do(kind, f"shufflevector {kind} {first.text}, {kind} poison, {zeros}")

    def iota(self, lanes: int, element: str = "i64", step: int = 1) -> Value:
        """<0, step, 2 * step, ...>."""
        if lanes == 1:
            return Value("0", element)
        body = ", ".join(f"{element} {i * step}" for i in range(lanes))
        return Value(f"<{body}>", vector_of(element, lanes))

    def shuffle(self, a: Value, b: Value | None, picks: Sequence[int]) -> Value:
        """Lanes of a then b by number."""
        mask = ", ".join(f"i32 {p}" for p in picks)
        kind = vector_of(element_of(a.type), len(picks))
        if len(picks) == 1:
            return self.extract(a, picks[0])
        other = b.text if b is not None else "poison"
        return self.do(
            kind,
            f"shufflevector {a.type} {a.text}, {a.type} {other}, <{len(picks)} x i32> <{mask}>",
        )

    def extract(self, a: Value, lane: int | Value) -> Value:
        """One lane."""
        number = lane.text if isinstance(lane, Value) else str(lane)
        if lanes_of(a.type) == 1:
            return a
        return self.do(element_of(a.type), f"extractelement {a.type} {a.text}, i64 {number}")

    def any_lane(self, mask: Value) -> Value:
        """i1: does any lane hold."""
        lanes = lanes_of(mask.type)
        return mask if lanes == 1 else self.intrinsic(f"vector.reduce.or.v{lanes}i1", "i1", mask)

    # ------------------------------------------------------------------ memory

    def address(self, base: Value, index: Value, element: str) -> Value:
        """&base[index]; a vector of indices gives a vector of addresses."""
        lanes = lanes_of(index.type)
        return self.do(
            vector_of("ptr", lanes),
            f"getelementptr {element}, ptr {base.text}, {index.type} {index.text}",
        )

    def load(self, kind: str, pointer: Value, align: int | None = None) -> Value:
        """Read a scalar or a vector of consecutive elements (aligned to the element by default)."""
        align = align or bits_of(kind) // 8
        return self.do(kind, f"load {kind}, ptr {pointer.text}, align {align}")

    def store(self, value: Value, pointer: Value, align: int | None = None) -> None:
        """Write a scalar or a vector of consecutive elements."""
        align = align or bits_of(value.type) // 8
        self.emit(f"store {value.type} {value.text}, ptr {pointer.text}, align {align}")

    def stream(self, value: Value, pointer: Value) -> None:
        """Write a vector past the caches, to an address that is a multiple of its size (or 64)."""
        align = min(64, bits_of(value.type) * lanes_of(value.type) // 8)
        given = f"{value.type} {value.text}, ptr {pointer.text}, align {align}"
        self.emit(f"store {given}, !nontemporal !0")

    def masked_load(self, kind: str, pointer: Value, mask: Value, other: Value) -> Value:
        """Consecutive elements where the mask holds, `other` (and no access) elsewhere."""
        suffix = type_suffix(kind)
        arguments = (_aligned(pointer, kind), mask, other)
        return self._memory_intrinsic(f"masked.load.{suffix}.p0", kind, "ptr", *arguments)

    def masked_store(self, value: Value, pointer: Value, mask: Value) -> None:
        """Write consecutive elements where the mask holds."""
        suffix = type_suffix(value.type)
        arguments = (value, _aligned(pointer, value.type), mask)
        self._memory_intrinsic(f"masked.store.{suffix}.p0", "void", "ptr", *arguments)

    def gather(self, kind: str, pointers: Value, mask: Value, other: Value) -> Value:
        """One element per address where the mask holds, `other` elsewhere."""
        lanes = lanes_of(kind)
        name = f"masked.gather.{type_suffix(kind)}.v{lanes}p0"
        return self._memory_intrinsic(
            name, kind, pointers.type, _aligned(pointers, kind), mask, other
        )

    def scatter(self, value: Value, pointers: Value, mask: Value) -> None:
        """Write one element per address where the mask holds, in lane order."""
        lanes = lanes_of(value.type)
        name = f"masked.scatter.{type_suffix(value.type)}.v{lanes}p0"
        arguments = (value, _aligned(pointers, value.type), mask)
        self._memory_intrinsic(name, "void", pointers.type, *arguments)

    def _memory_intrinsic(self, name: str, kind: str, pointer: str, *arguments: Value) -> Value:
        bare = ", ".join(pointer if a.type.startswith(pointer) else a.type for a in arguments)
        given = ", ".join(f"{a.type} {a.text}" for a in arguments)
        self.module.declarations[name] = f"declare {kind} @llvm.{name}({bare})"
        if kind == "void":
            self.emit(f"call void @llvm.{name}({given})")
            return Value("", "void")
        return self.do(kind, f"call {kind} @llvm.{name}({given})")


def _aligned(pointer: Value, kind: str) -> Value:
    """The pointer argument of a masked access: aligned to one element, no more."""
    return Value(pointer.text, f"{pointer.type} align {bits_of(kind) // 8}")


def _is_number(value: Value) -> bool:
    return value.text.lstrip("-").isdigit()


def type_suffix(kind: str) -> str:
    """The spelling of a type in an intrinsic's name: v16f32, i64, p0."""
    element, lanes = element_of(kind), lanes_of(kind)
    short = {"float": "f32", "double": "f64", "ptr": "p0"}.get(element, element)
    return short if lanes == 1 else f"v{lanes}{short}"

"""What a program file says, as plain records: the writer and the reader meet here.

Sizes are *size forms*: an int, a symbol's name, or a tuple (operation, form, form, ...). They stand
on their own; `to_dim` gives one a meaning within a SizeScope, `form_of` takes it out again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from rabbet.base.dtypes import DType
from rabbet.base.errors import FormatError
from rabbet.base.sizes import Atom, Dim, SizeExpr, SizeScope, hint, holds
from rabbet.base.sizes import maximum as max_dim

SizeForm: TypeAlias = Any  # int | str | tuple[str, SizeForm, ...]
OPERATIONS = {"floordiv": "//", "mod": "%", "max": "max", "min": "min"}
MAX_TERMS = 64  # of one size, multiplied out


@dataclass(frozen=True)
class SizedDType:
    """A dtype and a shape of size forms."""

    dtype: DType
    shape: tuple[SizeForm, ...]


@dataclass(frozen=True)
class Named:
    """An input or output: its name, dtype and shape."""

    name: str
    spec: SizedDType


@dataclass(frozen=True)
class Weight:
    """Data in the file. `role` is parameter, buffer or constant; `offset` counts from the weights'
    start.
    """

    name: str
    role: str
    dtype: DType
    shape: tuple[int, ...]
    offset: int
    n_bytes: int


@dataclass(frozen=True)
class Number:
    """A literal operand."""

    value: bool | int | float | complex
    dtype: DType


@dataclass(frozen=True)
class Ref:
    """An operand: kind is input, weight or call; `output` counts the results of a call."""

    kind: str
    number: int
    output: int = 0


Operand: TypeAlias = Number | Ref


@dataclass(frozen=True)
class Body:
    """A graph inside a call: its operands are its own inputs, earlier calls in it, and literals."""

    inputs: tuple[SizedDType, ...]
    calls: tuple[OpCall, ...]
    results: tuple[Operand, ...]


@dataclass(frozen=True)
class OpCall:
    """One call of an op at the user's level; `attributes` hold size forms wrapped in Size, `bodies`
    the graphs of a control op in the order of its parameters.
    """

    op: str
    since: int
    operands: tuple[Operand, ...]
    form: tuple[int, ...]
    attributes: dict[str, Any]
    results: tuple[SizedDType, ...]
    layer: str = ""
    bodies: tuple[Body, ...] = ()


@dataclass(frozen=True)
class Size:
    """A symbolic size inside an attribute."""

    form: SizeForm


@dataclass
class Entry:
    """One function of a program: what goes in, what is called, what comes out."""

    name: str
    symbols: list[tuple[str, int]] = field(default_factory=list)  # name, example value
    inputs: list[Named] = field(default_factory=list)
    calls: list[OpCall] = field(default_factory=list)
    outputs: list[Named] = field(default_factory=list)
    results: list[Operand] = field(default_factory=list)  # what each output is
    structure: Any = None  # outputs as a tree: a number, or ("list" | "tuple" | "dict", ...)
    guards: list[tuple[str, SizeForm]] = field(default_factory=list)


@dataclass
class Portable:
    """Everything a program file holds but the bytes of its weights."""

    weights: list[Weight] = field(default_factory=list)
    entries: list[Entry] = field(default_factory=list)
    producer: str = ""
    weights_sha256: str = ""


def all_calls(calls: Sequence[OpCall]) -> Iterator[OpCall]:
    """The calls and those inside them."""
    for call in calls:
        yield call
        for body in call.bodies:
            yield from all_calls(body.calls)


# ---- sizes --------------------------------------------------------------------------------------


def form_of(dim: Dim) -> SizeForm:
    """The size form of a Dim."""
    if isinstance(dim, int):
        return dim
    terms = []
    for monomial, coefficient in dim.terms.items():
        factors = [_atom_form(dim.scope, atom) for atom in monomial]
        if coefficient != 1 or not factors:
            factors.insert(0, coefficient)
        terms.append(factors[0] if len(factors) == 1 else ("*", *factors))
    return terms[0] if len(terms) == 1 else ("+", *terms)


def _atom_form(scope: SizeScope, atom: Atom) -> SizeForm:
    if atom[0] == "symbol":
        return scope.names[atom[1]]
    return (OPERATIONS[atom[0]], form_of(atom[1]), form_of(atom[2]))


def to_dim(form: SizeForm, symbols: dict[str, Dim]) -> Dim:
    """The Dim of a size form; FormatError: unknown symbol, division by zero, too many terms."""
    if isinstance(form, int):
        return form
    if isinstance(form, str):
        if form not in symbols:
            raise FormatError(f"a size uses the symbol {form!r}, which no input defines")
        return symbols[form]
    operation, first, *rest = form
    total = to_dim(first, symbols)
    for part in rest:
        try:
            total = _COMBINE[operation](total, to_dim(part, symbols))
        except ZeroDivisionError:
            raise FormatError("a size divides by zero") from None
        if isinstance(total, SizeExpr) and len(total.terms) > MAX_TERMS:
            raise FormatError(f"a size has more than {MAX_TERMS} terms")
    return total


def _minimum(a: Dim, b: Dim) -> Dim:
    return -max_dim(-a, -b)


_COMBINE: dict[str, Callable[[Any, Any], Dim]] = {
    "+": lambda a, b: a + b,
    "*": lambda a, b: a * b,
    "//": lambda a, b: a // b,
    "%": lambda a, b: a % b,
    "max": max_dim,
    "min": _minimum,
}


def show_form(form: SizeForm) -> str:
    """A size form as people write it: `2*batch + 3`."""
    if not isinstance(form, tuple):
        return str(form)
    operation, *parts = form
    shown = [show_form(p) for p in parts]
    if operation in ("max", "min"):
        return f"{operation}({', '.join(shown)})"
    if operation == "+":
        return " + ".join(shown).replace("+ -", "- ")
    wrapped = [
        f"({s})" if isinstance(p, tuple) and p[0] != "*" else s
        for p, s in zip(parts, shown, strict=True)
    ]
    return operation.join(wrapped) if operation == "*" else f" {operation} ".join(wrapped)


def make_scope(symbols: Sequence[tuple[str, int]]) -> tuple[SizeScope | None, dict[str, Dim]]:
    """A scope with these symbols, their values as hints; None where there are none."""
    if not symbols:
        return None, {}
    scope = SizeScope()
    return scope, {name: scope.symbol(name, hint) for name, hint in symbols}


def guard_holds(relation: str, form: SizeForm, symbols: dict[str, Dim]) -> bool:
    """True where a guard holds for the hints of `symbols`; one that divides by zero does not."""
    try:
        return holds(relation, hint(to_dim(form, symbols)))
    except ZeroDivisionError:
        return False

"""Sizes that may be unknown until a program runs: `Dim = int | SizeExpr`.

A SizeExpr is an integer polynomial over symbols and over opaque atoms (floor division, remainder,
max, min). Every symbol has a hint, its value in the recording at hand. A question that the
polynomial's form cannot answer (`n == 1`, `n < 16`, `n % 8 == 0`) is answered by the hint and
written down as a guard: the program built on the answer may run only where the guard holds
(SEMANTICS 10).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, TypeAlias, Union

from rabbet.base.errors import InternalError

Dim: TypeAlias = Union[int, "SizeExpr"]
Atom: TypeAlias = tuple  # ("symbol", number) or (operation, left Dim, right Dim)
Monomial: TypeAlias = tuple[Atom, ...]


class Guard(NamedTuple):
    """`expr relation 0` must hold; relation is one of ==, !=, <, >=."""

    relation: str
    expr: SizeExpr


@dataclass(eq=False)
class SizeScope:
    """The symbols of one program: their names, hints, and the guards asked so far."""

    names: list[str] = field(default_factory=list)
    hints: list[int] = field(default_factory=list)
    guards: dict[tuple[str, object], Guard] = field(default_factory=dict)

    def symbol(self, name: str, hint: int) -> SizeExpr:
        """A new unknown size."""
        self.names.append(name)
        self.hints.append(hint)
        return SizeExpr(self, {(("symbol", len(self.names) - 1),): 1})

    def decide(self, relation: str, expr: SizeExpr) -> bool:
        """Answer `expr relation 0` by the hint and remember the answer."""
        truth = holds(relation, expr.hint)
        held = relation if truth else {"==": "!=", "!=": "==", "<": ">=", ">=": "<"}[relation]
        self.guards.setdefault((held, expr.key), Guard(held, expr))
        return truth

    def holds(self, symbols: tuple[int, ...]) -> bool:
        """True where every answer given so far is also the answer for these sizes."""
        guards = self.guards.values()
        return all(holds(g.relation, g.expr.evaluate(symbols)) for g in guards)


def holds(relation: str, value: int) -> bool:
    """True where `value relation 0`."""
    return {"==": value == 0, "!=": value != 0, "<": value < 0, ">=": value >= 0}[relation]


class SizeExpr:
    """A size known only when the program is bound; behaves like an int (see the module's text)."""

    __slots__ = ("key", "scope", "terms")

    def __init__(self, scope: SizeScope, terms: dict[Monomial, int]) -> None:
        self.scope = scope
        self.terms = terms
        self.key = tuple(sorted((_monomial_key(m), c) for m, c in terms.items()))

    @property
    def hint(self) -> int:
        """The value in the recording at hand."""
        return self.evaluate(self.scope.hints)

    @property
    def symbol(self) -> int | None:
        """The number of the symbol that this is by itself; None for any other expression."""
        if len(self.terms) == 1:
            ((monomial, coefficient),) = self.terms.items()
            if coefficient == 1 and len(monomial) == 1 and monomial[0][0] == "symbol":
                return int(monomial[0][1])
        return None

    def evaluate(self, symbols: list[int] | tuple[int, ...]) -> int:
        """The value where symbol number i is `symbols[i]`."""
        total = 0
        for monomial, coefficient in self.terms.items():
            product = coefficient
            for atom in monomial:
                product *= _evaluate_atom(atom, symbols)
            total += product
        return total

    def __add__(self, other: Dim) -> Dim:
        terms = dict(self.terms)
        for monomial, coefficient in _terms(other).items():
            terms[monomial] = terms.get(monomial, 0) + coefficient
        return _make(self.scope, terms)

    __radd__ = __add__

    def __neg__(self) -> Dim:
        return _make(self.scope, {m: -c for m, c in self.terms.items()})

    def __sub__(self, other: Dim) -> Dim:
        return self + (-other)

    def __rsub__(self, other: Dim) -> Dim:
        return -self + other

    def __mul__(self, other: Dim) -> Dim:
        terms: dict[Monomial, int] = {}
        for m1, c1 in self.terms.items():
            for m2, c2 in _terms(other).items():
                monomial = tuple(sorted(m1 + m2, key=_atom_key))
                terms[monomial] = terms.get(monomial, 0) + c1 * c2
        return _make(self.scope, terms)

    __rmul__ = __mul__

    def __floordiv__(self, other: Dim) -> Dim:
        exact = _divide_exactly(self, other)
        return exact if exact is not None else _opaque(self.scope, "floordiv", self, other)

    def __rfloordiv__(self, other: Dim) -> Dim:
        return _opaque(self.scope, "floordiv", other, self)

    def __mod__(self, other: Dim) -> Dim:
        if _divide_exactly(self, other) is not None:
            return 0
        return _opaque(self.scope, "mod", self, other)

    def __rmod__(self, other: Dim) -> Dim:
        return _opaque(self.scope, "mod", other, self)

    def __eq__(self, other: object) -> bool:
        return self._ask("==", other) if isinstance(other, int | SizeExpr) else False

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __lt__(self, other: Dim) -> bool:
        return self._ask("<", other)

    def __ge__(self, other: Dim) -> bool:
        return not self._ask("<", other)

    def __gt__(self, other: Dim) -> bool:
        difference = other - self  # self > other  <=>  other - self < 0
        return difference < 0

    def __le__(self, other: Dim) -> bool:
        return not self > other

    def __bool__(self) -> bool:
        return not self == 0

    def __hash__(self) -> int:
        return hash(self.key)

    def _ask(self, relation: str, other: Dim) -> bool:
        difference = self - other
        if isinstance(difference, int):
            return difference == 0 if relation == "==" else difference < 0
        return self.scope.decide(relation, difference)

    def __index__(self) -> int:
        raise InternalError(f"the symbolic size {self} was used as a plain number")

    def __repr__(self) -> str:
        parts = []
        for monomial, coefficient in self.terms.items():
            factors = [_show_atom(self.scope, a) for a in monomial]
            if coefficient != 1 or not factors:
                factors.insert(0, str(coefficient))
            parts.append("*".join(factors))
        return " + ".join(parts)


def hint(dim: Dim) -> int:
    """The value of a size in the recording at hand."""
    return dim if isinstance(dim, int) else dim.hint


def same(a: Dim, b: Dim) -> bool:
    """True where the two are equal by form; never asks a guard."""
    if isinstance(a, int) or isinstance(b, int):
        return isinstance(a, int) and isinstance(b, int) and a == b
    return a.key == b.key


def equal(a: Dim, b: Dim) -> bool:
    """True where the two are equal; asks a guard where their forms do not tell."""
    return same(a, b) or a == b


def evaluate(dim: Dim, symbols: list[int] | tuple[int, ...]) -> int:
    """The value of a size for given symbol values."""
    return dim if isinstance(dim, int) else dim.evaluate(symbols)


def maximum(a: Dim, b: Dim) -> Dim:
    """max(a, b) without asking which."""
    if isinstance(a, int) and isinstance(b, int):
        return max(a, b)
    scope = a.scope if isinstance(a, SizeExpr) else b.scope  # type: ignore[union-attr]
    return a if same(a, b) else _opaque(scope, "max", a, b)


def product(dims: tuple[Dim, ...] | list[Dim]) -> Dim:
    """The product of sizes; 1 for none."""
    result: Dim = 1
    for dim in dims:
        result = result * dim
    return result


def total(dims: Sequence[Dim]) -> Dim:
    """The sum of sizes; 0 for none."""
    terms: dict[Monomial, int] = {}
    for dim in dims:
        for monomial, coefficient in _terms(dim).items():
            terms[monomial] = terms.get(monomial, 0) + coefficient
    scope = next((d.scope for d in dims if isinstance(d, SizeExpr)), None)
    return _make(scope, terms) if scope is not None else terms.get((), 0)


def _terms(dim: Dim) -> dict[Monomial, int]:
    return dim.terms if isinstance(dim, SizeExpr) else {(): int(dim)}


def _make(scope: SizeScope, terms: dict[Monomial, int]) -> Dim:
    terms = {m: c for m, c in terms.items() if c}
    if not terms:
        return 0
    if len(terms) == 1 and () in terms:
        return terms[()]
    return SizeExpr(scope, terms)


def _opaque(scope: SizeScope, operation: str, left: Dim, right: Dim) -> Dim:
    return SizeExpr(scope, {((operation, left, right),): 1})


def _divide_exactly(dividend: SizeExpr, divisor: Dim) -> Dim | None:
    """dividend / divisor where every term divides; None where the form does not show it."""
    divisors = _terms(divisor)
    if len(divisors) != 1:
        if isinstance(divisor, SizeExpr) and divisor.key == dividend.key:
            return 1
        return None
    ((monomial, coefficient),) = divisors.items()
    if coefficient == 0:
        return None
    terms: dict[Monomial, int] = {}
    for m, c in dividend.terms.items():
        rest = list(m)
        for atom in monomial:
            key = _atom_key(atom)
            match = next((i for i, a in enumerate(rest) if _atom_key(a) == key), None)
            if match is None:
                return None
            del rest[match]
        if c % coefficient:
            return None
        terms[tuple(rest)] = c // coefficient
    return _make(dividend.scope, terms)


def _atom_key(atom: Atom) -> tuple:
    if atom[0] == "symbol":
        return ("symbol", (), atom[1], ())
    return (atom[0], (), -1, (_dim_key(atom[1]), _dim_key(atom[2])))


def _monomial_key(monomial: Monomial) -> tuple:
    return tuple(_atom_key(a) for a in monomial)


def _dim_key(dim: Dim) -> tuple:
    return ((((), dim),)) if isinstance(dim, int) else dim.key


def _evaluate_atom(atom: Atom, symbols: list[int] | tuple[int, ...]) -> int:
    if atom[0] == "symbol":
        return symbols[atom[1]]
    left, right = evaluate(atom[1], symbols), evaluate(atom[2], symbols)
    match atom[0]:
        case "floordiv":
            return left // right
        case "mod":
            return left % right
        case "max":
            return max(left, right)
        case _:
            return min(left, right)


def _show_atom(scope: SizeScope, atom: Atom) -> str:
    if atom[0] == "symbol":
        return scope.names[atom[1]]
    return f"{atom[0]}({atom[1]}, {atom[2]})"

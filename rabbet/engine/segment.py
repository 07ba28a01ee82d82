"""A recorded segment as a Graph, and its sizes as a pattern of symbols."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from rabbet.base import sizes as base_sizes
from rabbet.base.sizes import Dim, SizeExpr, SizeScope
from rabbet.engine.singly import Single
from rabbet.graph import encode, parcel
from rabbet.graph.value import Graph
from rabbet.recorder import Segment

Output = tuple[int, int]  # (position of the node in its segment, output index)
POSITION = "p"  # how the names of symbols that say where begin


@dataclass(eq=False, slots=True)
class Compared:
    """What sizes are compared with: numbers with their places, and symbols met again with both
    places. It is all that is needed of the pattern of a program that is ready.
    """

    numbers: list[tuple[int, int]]
    again: list[tuple[int, int]]
    defined_at: list[int]  # the place of each symbol
    extents: list[int]  # the places where 0 and 1 do not fit

    @classmethod
    def of(cls, plain: Sequence[int | str]) -> Compared:
        """Of the general pattern that `plain` tells of (see `Pattern.plain`)."""
        first: dict[str, int] = {}
        made = cls([], [], [], [])
        for at, size in enumerate(plain):
            if isinstance(size, int):
                made.numbers.append((at, size))
            elif size in first:
                made.again.append((at, first[size]))
            else:
                first[size] = at
                made.defined_at.append(at)
                if not size.startswith(POSITION):
                    made.extents.append(at)
        return made

    def match(self, sizes: Sequence[int]) -> tuple[int, ...] | None:
        """The symbols' values for these sizes, or None where the pattern does not fit."""
        for at, number in self.numbers:
            if sizes[at] != number:
                return None
        for at, before in self.again:
            if sizes[at] != sizes[before]:
                return None
        for at in self.extents:
            if sizes[at] in (0, 1):
                return None
        return tuple([sizes[at] for at in self.defined_at])


@dataclass(eq=False)
class Pattern:
    """The sizes of a segment with what was seen to change as symbols.

    `dims[i]` is the i-th size of the segment's key; symbol s is the size at `defined_at[s]`. In a
    general pattern it is neither 0 nor 1, unless it is a position (`Op.positions`), as its name
    tells.
    """

    dims: list[Dim]
    scope: SizeScope | None = None
    defined_at: list[int] = field(default_factory=list)
    is_general: bool = False
    # What `match` compares, found when it is first asked, and places of other expressions.
    _compared: Compared | None = None
    _others: list[int] = field(default_factory=list)

    def plain(self) -> tuple[int | str, ...]:
        """Numbers as they are, expressions as text: equal ones, equal patterns."""
        return tuple(d if isinstance(d, int) else repr(d) for d in self.dims)

    def match(self, sizes: Sequence[int]) -> tuple[int, ...] | None:
        """The symbols' values for these sizes, or None where the pattern does not fit."""
        if self.scope is None:
            return () if self.dims == [*sizes] else None
        if self._compared is None:
            self._sort()
            assert self._compared is not None, "sorted now"
        symbols = self._compared.match(sizes)
        if symbols is None or not self._others:
            return symbols
        for at in self._others:
            if base_sizes.evaluate(self.dims[at], symbols) != sizes[at]:
                return None
        return symbols

    def _sort(self) -> None:
        """Say what is to be compared."""
        assert self.scope is not None, "it has symbols"
        self._compared = Compared([], [], self.defined_at, [])
        if self.is_general:
            names = zip(self.scope.names, self.defined_at, strict=True)
            self._compared.extents += [at for n, at in names if not n.startswith(POSITION)]
        for at, dim in enumerate(self.dims):
            if isinstance(dim, int):
                self._compared.numbers.append((at, dim))
            elif (symbol := dim.symbol) is None:
                self._others.append(at)
            elif at != self.defined_at[symbol]:
                self._compared.again.append((at, self.defined_at[symbol]))

    def describe(self) -> tuple[object, ...]:
        """The pattern in plain data: equal descriptions, equal programs."""
        hints = tuple(self.scope.hints) if self.scope else ()
        return self.plain(), hints


def find_pattern(sightings: Sequence[tuple[int, ...]]) -> Pattern:
    """One pattern for all sightings (the last gives the hints): constant sizes stay numbers; sizes
    that changed become symbols, multiples of a symbol or a symbol plus a constant where all
    sightings agree.
    """
    columns = list(zip(*sightings, strict=True))
    if all(len(set(c)) == 1 for c in columns):
        return Pattern(list(sightings[-1]))
    scope = SizeScope()
    pattern = Pattern([], scope)
    bases: list[tuple[tuple[int, ...], Dim]] = []
    for position, column in enumerate(columns):
        if len(set(column)) == 1:
            pattern.dims.append(column[0])
            continue
        dim = next((d for b, s in bases if (d := _related(column, b, s)) is not None), None)
        if dim is None:
            dim = scope.symbol(f"n{len(scope.names)}", column[-1])
            pattern.defined_at.append(position)
            bases.append((column, dim))
        pattern.dims.append(dim)
    return pattern


def _related(column: tuple[int, ...], base: tuple[int, ...], symbol: Dim) -> Dim | None:
    """`column` as k * symbol or symbol + c, if one k or c fits every sighting."""
    if base[0] and column[0] % base[0] == 0:
        k = column[0] // base[0]
        if k and all(c == k * b for c, b in zip(column, base, strict=True)):
            return k * symbol
    offsets = {c - b for c, b in zip(column, base, strict=True)}
    return symbol + offsets.pop() if len(offsets) == 1 else None


def general_pattern(single: Single) -> Pattern:
    """All sizes of one op as symbols: one symbol where its rule wants sizes to be equal, several
    where they only happen to be.

    0 and 1 are not like other sizes, so they stay, unless they say where. Nothing can be said of
    symbols where an operand has no elements: then all sizes stay.
    """
    sizes, positions = single.sizes, _positions(single)
    if any(0 in node.specs[index].shape for node, index in single.leaves):
        return Pattern([*sizes])
    first = [
        None if size in (0, 1) and at not in positions else at for at, size in enumerate(sizes)
    ]
    while True:
        pattern = _symbols_at(sizes, first, positions)
        if pattern.scope is None:
            return pattern
        graph_of(single, pattern.dims, [])
        guards = [*pattern.scope.guards.values()]
        pattern.scope.guards.clear()
        equal = [g.expr for g in guards if g.relation == "=="]
        if not any([_unite(expr, pattern.defined_at, first) for expr in equal]):
            return pattern


def _positions(single: Single) -> frozenset[int]:
    """Where the sizes lie that say where."""
    (node,) = single.nodes
    found: list[int] = []
    at = len(single.sizes) - len(node.prepared.sizes)
    for name in sorted(node.op.sizes & node.attrs.keys()):
        end = at + len(encode.sizes_in(node.attrs[name]))
        if name in node.op.positions:
            found += range(at, end)
        at = end
    return frozenset(found)


def _symbols_at(
    sizes: Sequence[int], first: Sequence[int | None], positions: Collection[int]
) -> Pattern:
    """The size at i is the symbol whose first place is `first[i]`; None: it is a number."""
    scope, symbols = SizeScope(), dict[int, Dim]()
    pattern = Pattern([], scope, is_general=True)
    for at, size in enumerate(sizes):
        place = first[at]
        if place is None:
            pattern.dims.append(size)
            continue
        if place not in symbols:
            kind = POSITION if place in positions else "n"
            symbols[place] = scope.symbol(f"{kind}{len(symbols)}", size)
            pattern.defined_at.append(at)
        pattern.dims.append(symbols[place])
    return pattern if symbols else Pattern([*sizes])


def _unite(expr: SizeExpr, places: Sequence[int], first: list[int | None]) -> bool:
    """Where `expr == 0` says that two symbols are equal, or what one is, write so into `first`."""
    found = [(m, c) for m, c in expr.terms.items() if m]
    if any(len(m) != 1 or m[0][0] != "symbol" for m, _ in found) or len(found) > 2:
        return False
    if len(found) == 2 and (() in expr.terms or found[0][1] != -found[1][1]):
        return False
    equal = [place for m, _ in found if (place := first[places[m[0][1]]]) is not None]
    if len(equal) < len(found):  # it has become a number
        return False
    keep, *others = sorted(equal)
    for at, place in enumerate(first):
        if len(found) == 1 and place == keep:
            first[at] = None
        elif place in others:
            first[at] = keep
    return True


def graph_of(segment: Segment | Single, dims: Sequence[Dim], outputs: Sequence[Output]) -> Graph:
    """The Graph of a segment with the given sizes; inputs are its leaves, Call sites node
    positions.
    """
    return parcel.write(segment.nodes).graph(dims, outputs)

"""Numbers seen at several sizes, as one expression of symbols.

The candidates are the symbols, the sizes of the op's operands, and products of neighbouring ones
(what reshapes make); a number is one of those, times or plus a constant, or a floor division of
one. All sightings must agree, and there are more of them than such an expression has constants.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rabbet.base import sizes
from rabbet.base.sizes import Dim

MAX_DIVISOR = 64


def fit(
    values: Sequence[int],
    sightings: Sequence[tuple[int, ...]],
    symbols: Sequence[Dim],
    shapes: Sequence[tuple[Dim, ...]],
) -> Dim | None:
    """The expression whose value at sighting i is values[i]; None if none of these forms fits."""
    if all(v == values[0] for v in values):
        return values[0]
    columns: list[tuple[Dim, tuple[int, ...]]] = []
    for dim in _candidates(symbols, shapes):
        column = tuple(sizes.evaluate(dim, s) for s in sightings)
        if column == tuple(values):
            return dim
        if all(column != known for _, known in columns):
            columns.append((dim, column))
    for relate in (_multiple, _affine, _quotient):
        for dim, column in columns:
            found = relate(values, dim, column)
            if found is not None:
                return found
    return None


def _candidates(symbols: Sequence[Dim], shapes: Sequence[tuple[Dim, ...]]) -> Iterator[Dim]:
    yield from symbols
    for shape in shapes:
        for start in range(len(shape)):
            for stop in range(start + 1, len(shape) + 1):
                product = sizes.product(shape[start:stop])
                if not isinstance(product, int):
                    yield product
    for i, a in enumerate(symbols):
        for b in symbols[i:]:
            yield a * b


def _multiple(values: Sequence[int], dim: Dim, column: tuple[int, ...]) -> Dim | None:
    if column[0] == 0 or values[0] % column[0]:
        return None
    k = values[0] // column[0]
    return k * dim if k and all(k * c == v for c, v in zip(column, values, strict=True)) else None


def _affine(values: Sequence[int], dim: Dim, column: tuple[int, ...]) -> Dim | None:
    """a * dim + b."""
    run = column[1] - column[0]
    if run == 0 or (values[1] - values[0]) % run:
        return None
    a = (values[1] - values[0]) // run
    b = values[0] - a * column[0]
    fits = a and all(a * c + b == v for c, v in zip(column, values, strict=True))
    return a * dim + b if fits else None


def _quotient(values: Sequence[int], dim: Dim, column: tuple[int, ...]) -> Dim | None:
    """(dim + b) // k, with the b nearest to zero."""
    for k in range(2, MAX_DIVISOR + 1):
        # k*v <= c + b <= k*v + k - 1 for every sighting
        low = max(k * v - c for v, c in zip(values, column, strict=True))
        high = min(k * v + k - 1 - c for v, c in zip(values, column, strict=True))
        if low <= high:
            b = min(max(0, low), high)
            return (dim + b) // k
    return None

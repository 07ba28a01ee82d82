"""Bands of a result and of the image that their windows see, in contractions of a few rows with
windows of an image (`contract_direct`): where elements of windows lie, and how large bands are.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from math import prod
from typing import TypeAlias

from rabbet.base.dtypes import int64
from rabbet.base.target import Target
from rabbet.codegen.contract_axes import Loop, Loops
from rabbet.codegen.contract_blocks import larger, smaller
from rabbet.codegen.ir import Value
from rabbet.expr.affine import coefficient
from rabbet.expr.expr import Expr, const
from rabbet.expr.scalars import expand_all
from rabbet.kernel.loops import ContractKernel
from rabbet.kernel.windows import Place, literal_extents, loaded, places

COLUMNS = 512  # of a band, at most
ROWS = 4  # of a band that go through registers together
VECTORS = 4  # of a row, where there is one row


@dataclass(frozen=True)
class Tap:
    """Where the element of a window lies in the band: plane, row, residue and column, of the
    window whose first element lies at 0.
    """

    plane: int
    row: int
    residue: int
    column: int


Line: TypeAlias = tuple[int, int, int]  # plane, row, residue


class Image:
    """The band's part of the image: planes of rows of columns, each row by residues."""

    def __init__(self, kernel: ContractKernel) -> None:
        self.batch, self.m, self.n, self.k = loops_of(kernel)
        found = places(kernel)
        assert found is not None
        at = {p.position: p for p in found if p.position is not None}
        self.columns = at[self.n[-1].variable]
        self.rows = at[self.n[-2].variable] if len(self.n) > 1 else None
        self.planes = [p for p in found if p not in (self.columns, self.rows)]
        self.elements = dict(
            zip((loop.variable for loop in self.k), literal_extents(kernel.k) or (), strict=True)
        )
        counts = [range(self.elements[loop.variable]) for loop in self.k]
        self.points = [
            dict(zip(self.elements, numbers, strict=True)) for numbers in product(*counts)
        ]
        self.taps = [self._tap(point) for point in self.points]
        self.residues = sorted({tap.residue for tap in self.taps})

        load = loaded(expand_all(kernel.b))
        assert load is not None
        # Does memory go one element on from one column of the result to the next?
        self.follows = coefficient(load.args[0], self.n[-1].variable) is const(1, int64)

    def reach(self, place: Place | None) -> int:
        """How far the last element of a window is from the first, in memory's order."""
        if place is None or place.element is None:
            return 0
        return abs(place.dilation) * (self.elements[place.element] - 1)

    def first(self, place: Place) -> int:
        """The coordinate of window 0's first element, in memory's order."""
        return place.first + (-self.reach(place) if place.dilation < 0 else 0)

    def widest(self, residue: int) -> int:
        """The last column that window 0 has of a residue."""
        return max(tap.column for tap in self.taps if tap.residue == residue)

    def _offset(self, place: Place | None, point: dict[int, int]) -> int:
        if place is None or place.element is None:
            return 0
        lowest = -self.reach(place) if place.dilation < 0 else 0
        return place.dilation * point[place.element] - lowest

    def _tap(self, point: dict[int, int]) -> Tap:
        plane = 0
        for place in self.planes:
            plane = plane * (self.reach(place) + 1) + self._offset(place, point)
        column, residue = divmod(self._offset(self.columns, point), self.columns.stride)
        return Tap(plane, self._offset(self.rows, point), residue, column)


def loops_of(kernel: ContractKernel) -> list[Loops]:
    groups: list[Loops] = []
    number = 0
    for extents in (kernel.batch, kernel.m, kernel.n, kernel.k):
        groups.append(tuple(Loop(number + i, e) for i, e in enumerate(extents)))
        number += len(extents)
    return groups


@dataclass(frozen=True)
class Cut:
    """Sizes of the bands, over size(n)."""

    height: Expr  # rows of the result in a band, at most
    width: Expr
    row_bands: Expr
    column_bands: Expr
    pitch: Expr  # elements from one residue to the next
    band_rows: Expr  # rows of the image in a band
    scratch: Expr  # elements
    tasks: Expr


def cut(image: Image, target: Target, bits: int) -> Cut:
    lanes, one = target.lanes(bits), const(1, int64)
    columns = larger(image.n[-1].extent, one)
    rows = larger(image.n[-2].extent, one) if image.rows is not None else one
    widest = max(image.widest(r) for r in image.residues)
    column_bands = (columns + (COLUMNS - 1)) // COLUMNS
    width = (columns + column_bands - 1) // column_bands
    pitch = (width + (widest + lanes - 1)) // lanes * lanes
    planes = prod(image.reach(p) + 1 for p in image.planes)
    stride, reach = (image.rows.stride if image.rows else 1), image.reach(image.rows)
    fits = const(target.l1_bytes * 8 // bits // 2, int64) // (
        pitch * (len(image.residues) * planes)
    )
    height = (larger(fits, const(reach + ROWS * stride, int64)) - reach) // stride
    row_bands = (rows + height - 1) // height
    height = (rows + row_bands - 1) // row_bands
    band_rows = (height - 1) * stride + (reach + 1)
    scratch = band_rows * pitch * (planes * len(image.residues)) + VECTORS * lanes
    others = [loop.extent for loop in (*image.batch, *image.n[:-2])]
    tasks = row_bands * column_bands
    for extent in (*others, *(smaller(loop.extent, one) for loop in image.n[-2:])):
        tasks = tasks * extent
    return Cut(height, width, row_bands, column_bands, pitch, band_rows, scratch, tasks)


@dataclass(frozen=True)
class Band:
    """Values of one task: its variables, where its rows and columns begin and how many it has."""

    at: dict[int, Value]
    row: Value
    rows: Value
    column: Value
    columns: Value

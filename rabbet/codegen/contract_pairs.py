"""Copying a bfloat16 operand of a contraction in pairs of k, side by side for each column.

Some rows of k are copied plainly into a small place first, whatever the operand looks like in
memory; then two rows at a time are laced together.
"""

from __future__ import annotations

from collections.abc import Sequence

from rabbet.base.dtypes import bfloat16
from rabbet.codegen.contract_axes import Loops, Roles, View
from rabbet.codegen.contract_loops import Part, call, minimum
from rabbet.codegen.contract_pack import PARAMETERS, Packer, batch_parameters
from rabbet.codegen.ir import Function, Module, Value, i64, literal
from rabbet.kernel.loops import Operand

TOGETHER = 32  # rows of k that are copied before they are laced; even
BYTES = 4  # of a pair


class PairPacker:
    """As a Packer, for rows of k (from an even one on); `target` gets rows of pairs, `step` apart.

    Columns are copied in whole vectors of pairs, at most `width` of them.
    """

    dtype = bfloat16

    def __init__(
        self,
        module: Module,
        name: str,
        operands: Sequence[Operand],
        batch: Loops,
        view: View,
        width: int,
    ) -> None:
        plain = Packer(module, f"{name}_plain", operands, bfloat16, batch, view)
        self.view, self.table, self.lanes = view, plain.table, module.target.lanes(8 * BYTES)
        self.part = part = Part(module, name, operands, (*batch_parameters(batch), *PARAMETERS))
        fn, rows, columns = part.fn, part["rows"], part["columns"]
        together = [part[f"batch{loop.variable}"] for loop in batch]
        room = _up(width, plain.lanes)
        place, step = fn.allocate(f"[{TOGETHER * room} x i16]"), i64(2 * room)
        wide = fn.binary("and", fn.add(columns, plain.lanes - 1), i64(-plain.lanes))
        wide = minimum(fn, wide, i64(room))
        with fn.loop(i64(0), rows, TOGETHER) as begin:
            some = minimum(fn, i64(TOGETHER), fn.sub(rows, begin))
            table = part["table"]
            if view.kind == "runs":  # it describes rows
                table = fn.address(table, begin, "i64")
            matrix = (fn.add(part["row"], begin), some, part["column"], columns)
            call(fn, plain.part, *together, *matrix, place, step, wide, table, part["capacity"])
            target = fn.address(part["target"], fn.mul(_half(fn, begin), part["step"]), "i8")
            self._lace(place, step, some, target)

    def _lace(self, place: Value, step: Value, rows: Value, target: Value) -> None:
        fn, part, lanes = self.part.fn, self.part, self.lanes
        halves, words = f"<{lanes} x i16>", f"<{lanes} x i32>"
        with fn.when(fn.icmp("ne", fn.binary("and", rows, i64(1)), 0)):
            last = fn.address(place, fn.mul(rows, step), "i8")
            with fn.loop(i64(0), part["columns"], lanes) as c:
                fn.store(literal(0, halves), fn.address(last, c, "i16"))
        with fn.loop(i64(0), rows, 2) as row:
            upper = fn.address(place, fn.mul(row, step), "i8")
            lower = fn.address(upper, step, "i8")
            to = fn.address(target, fn.mul(_half(fn, row), part["step"]), "i8")
            with fn.loop(i64(0), part["columns"], lanes) as c:
                x, y = (fn.load(halves, fn.address(p, c, "i16")) for p in (upper, lower))
                second = fn.binary("shl", fn.convert("zext", y, "i32"), literal(16, words))
                both = fn.binary("or", fn.convert("zext", x, "i32"), second)
                fn.store(both, fn.address(to, c, "i32"))


def _up(number: int, unit: int) -> int:
    return -(-number // unit) * unit


def _half(fn: Function, k: Value) -> Value:
    return fn.do("i64", f"lshr i64 {k.text}, 1")


def packer(
    module: Module, name: str, operands: Sequence[Operand], r: Roles, seen: View, width: int
) -> Packer | PairPacker:
    """What copies one operand: rows along k (width 0) hold pairs as they are."""
    if r.pairs and width:
        return PairPacker(module, name, operands, r.batch, seen, width)
    return Packer(module, name, operands, bfloat16 if r.pairs else r.dtype, r.batch, seen)

"""Index checks: the first index out of range is written into the thread's status record."""

from __future__ import annotations

from rabbet.codegen.emit import Emitter
from rabbet.codegen.ir import Value, i64, lanes_of
from rabbet.expr.expr import Expr

INDEX_FAILURE = 1  # status[0]
_TRUE = Value("true", "i1")


def emit_check(em: Emitter, index: Expr, extent: Expr, element: Expr) -> None:
    """If an index of this point (or these lanes) is < 0 or >= extent, and nothing is recorded yet:
    status[0] = 1, status[2] = number of the element, status[3] = the index, status[4] = extent."""
    fn = em.fn
    indices, bounds, numbers = em.value(index), em.value(extent), em.value(element)
    bad = fn.icmp("uge", indices, bounds)  # negative ones are huge when read as unsigned
    if em.mask is not None:
        bad = fn.binary("and", bad, em.mask)
    status = fn.parameters["status"]
    with fn.when(fn.any_lane(bad)):
        unset = fn.icmp("eq", fn.load("i64", status), 0)
        with fn.when(unset):
            lanes = lanes_of(bad.type)
            lane = i64(0)
            if lanes > 1:
                bits = fn.do(f"i{lanes}", f"bitcast {bad.type} {bad.text} to i{lanes}")
                first = fn.intrinsic(f"cttz.i{lanes}", f"i{lanes}", bits, _TRUE)
                lane = fn.convert("zext", first, "i64")
            fn.store(i64(INDEX_FAILURE), status)
            fn.store(fn.extract(numbers, lane), fn.address(status, i64(2), "i64"))
            fn.store(fn.extract(indices, lane), fn.address(status, i64(3), "i64"))
            fn.store(fn.extract(bounds, lane), fn.address(status, i64(4), "i64"))

"""How kernels walk: task numbers to loop variables, and a range in vectors with a tail."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager

from rabbet.base.dtypes import int64
from rabbet.base.errors import InternalError
from rabbet.base.target import Target
from rabbet.codegen.emit import Emitter
from rabbet.codegen.ir import Function, Value, i64
from rabbet.codegen.operations import has_masks
from rabbet.expr.expr import Expr, const, topological
from rabbet.expr.scalars import PRIMITIVE, expand_all

EXPANDED_WEIGHT = 20  # operations of an exp, a log, ...


def product(extents: Iterable[Expr]) -> Expr:
    """The product of extents (1 for none)."""
    result = const(1, int64)
    for extent in extents:
        result = result * extent
    return result


def operations(roots: Iterable[Expr]) -> int:
    """How many scalar operations and loads the expressions take."""
    expanded = [expand_all(r) for r in roots]
    return sum(e.op not in ("const", "var", "size", "acc") for e in topological(expanded))


def weight(roots: Iterable[Expr]) -> int:
    """About how many scalar operations and loads the expressions take, without expanding them."""
    cost = 0
    for e in topological(roots):
        if e.op not in ("const", "var", "size", "acc"):
            cost += 1 if e.op in PRIMITIVE or e.op == "load" else EXPANDED_WEIGHT
    return cost


def lanes_for(values: Iterable[Expr], target: Target) -> int:
    """Elements per vector: a register of the widest computed type, taken as 8 to 32 bits wide.

    Indices that are computed lane by lane take 64-bit registers, so they count as wide.
    """
    widest = 8
    seen: set[Expr] = set()
    stack = list(values)
    while stack:
        e = stack.pop()
        if e in seen:
            continue
        seen.add(e)
        widest = max(widest, e.dtype.bits)
        if e.op == "load":
            widest = max(widest, 32 if _is_computed(e.args) else 8)
        else:
            stack.extend(e.args)
    return target.vector_bits // min(widest, 32)


def _is_computed(arguments: tuple[Expr, ...]) -> bool:
    """Is an index more than sums of products, or is there a predicate?"""
    plain = ("add", "sub", "mul", "const", "var", "size")
    return len(arguments) > 1 or any(e.op not in plain for e in topological(arguments))


@contextmanager
def tasks(
    fn: Function, begin: Value, end: Value, extents: Sequence[Value]
) -> Iterator[dict[int, Value]]:
    """For each task of [begin, end): the loop variables 0, 1, ... it stands for, row-major.

    They are found by division once, and counted on from then on.
    """
    if len(extents) < 2:
        with fn.loop(begin, end) as task:
            yield {0: task} if extents else {}
        return
    with fn.when(fn.icmp("slt", begin, end)):
        rest, first = begin, {}
        for number in range(len(extents) - 1, 0, -1):
            first[number] = fn.binary("urem", rest, extents[number])
            rest = fn.binary("udiv", rest, extents[number])
        first[0] = rest
        counters = [fn.variable("i64", first[number]) for number in range(len(extents))]
        with fn.loop(begin, end):
            now = [counter.get() for counter in counters]
            yield dict(enumerate(now))
            carry = i64(1)
            for counter, value, extent in reversed(list(zip(counters, now, extents, strict=True))):
                following = fn.add(value, carry)
                full = fn.icmp("eq", following, extent)
                counter.set(fn.select(full, i64(0), following))
                carry = fn.convert("zext", full, "i64")


def vectors(
    em: Emitter,
    variable: int,
    begin: Value,
    end: Value,
    step: tuple[int, int],
    work: Callable[[list[Emitter], Value], None],
) -> None:
    """work(emitters, first index) over all of [begin, end) along `variable`.

    step: vectors at a time, and their lanes. What is left goes one vector at a time under a mask;
    on machines without masks by whole vectors, then one element at a time.
    """
    fn, (unroll, lanes) = em.fn, step
    if (unroll * lanes).bit_count() != 1:
        raise InternalError(f"steps of {unroll} * {lanes} elements")
    at = begin
    for count, width, is_masked in _phases(unroll, lanes, em.frame.target):
        stop = end
        if not is_masked and count * width > 1:
            whole = fn.binary("and", fn.sub(end, at), i64(-count * width))
            stop = fn.add(at, whole)
        with fn.loop(at, stop, count * width) as i:
            mask = tail_mask(fn, fn.sub(end, i), width) if is_masked else None
            starts = [fn.add(i, u * width) for u in range(count)]
            ems = [em.inner({variable: s}, lanes=width, vector=variable, mask=mask) for s in starts]
            work(ems, i)
        at = stop


def _phases(unroll: int, lanes: int, target: Target) -> list[tuple[int, int, bool]]:
    """(vectors per step, lanes, under a mask?) one after the other until all elements are done."""
    if lanes * unroll == 1:
        return [(1, 1, False)]
    phases = [(unroll, lanes, False)]
    if unroll >= 8:  # too many to leave to one vector at a time
        phases.append((unroll // 4, lanes, False))
    if unroll > 1:  # masks are slower than whole vectors, above all in gathers and stores
        phases.append((1, lanes, False))
    return [*phases, (1, lanes, True) if has_masks(target) and lanes > 1 else (1, 1, False)]


def tail_mask(fn: Function, rest: Value, lanes: int) -> Value:
    """Lane j counts if j < rest."""
    small = fn.intrinsic("smin.i64", "i64", rest, i64(lanes))
    short = fn.splat(fn.convert("trunc", small, "i32"), lanes)
    return fn.icmp("slt", fn.iota(lanes, "i32"), short)

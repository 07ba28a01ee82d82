"""Accumulators: identities, the combination of two partial results, and the fixed tree over lanes.

A partial result is a list of values: one, or for argmax and argmin the best value and its key.
"""

from __future__ import annotations

import math

from rabbet.base.dtypes import DType, bool_, int64
from rabbet.codegen.ir import Function, Value, lanes_of, literal, type_suffix
from rabbet.codegen.operations import memory_type, register_type, row
from rabbet.kernel.loops import LANES, Reduction

_ROWS = {"sum": "add", "prod": "mul", "max": "max", "min": "min"}
NO_KEY = 2**63 - 1  # key of "nothing seen yet"; every real key is smaller


def parts(reduction: Reduction) -> list[DType]:
    """The dtypes a partial result is made of."""
    value = reduction.value.dtype
    return [value] if reduction.key is None else [value, int64]


def identities(reduction: Reduction) -> list[float]:
    """The partial result of nothing."""
    dtype = reduction.value.dtype
    match reduction.combine:
        case "sum":
            return [0]
        case "prod":
            return [1]
        case "max":
            return [lowest(dtype)]
        case "min":
            return [highest(dtype)]
        case "argmax":
            return [lowest(dtype), NO_KEY]
    return [highest(dtype), NO_KEY]


def lowest(dtype: DType) -> float:
    """The smallest value of a dtype (-inf for floats)."""
    if dtype.is_float:
        return -math.inf
    return -(1 << (dtype.bits - 1)) if dtype.kind == "i" else 0


def highest(dtype: DType) -> float:
    """The largest value of a dtype (inf for floats)."""
    if dtype.is_float:
        return math.inf
    if dtype is bool_:
        return 1
    return (1 << (dtype.bits - (dtype.kind == "i"))) - 1


def combine(fn: Function, reduction: Reduction, a: list[Value], b: list[Value]) -> list[Value]:
    """The partial result of a's elements and b's; `a` came first."""
    dtype = reduction.value.dtype
    if reduction.key is None:
        return [row(fn, _ROWS[reduction.combine], dtype, [a[0], b[0]], dtype)]
    wins = _wins(fn, reduction, a, b)
    return [fn.select(wins, new, old) for old, new in zip(a, b, strict=True)]


def _wins(fn: Function, reduction: Reduction, a: list[Value], b: list[Value]) -> Value:
    """Does (value, key) b beat a: the first NaN, else the best value, else the smaller key."""
    dtype = reduction.value.dtype
    (old, old_key), (new, new_key) = a, b
    pair = [old, new] if reduction.combine == "argmax" else [new, old]
    better = row(fn, "lt", bool_, pair, dtype)
    tie = row(fn, "eq", bool_, [old, new], dtype)
    if dtype.is_float:
        old_nan, new_nan = fn.fcmp("uno", old, old), fn.fcmp("uno", new, new)
        tie = fn.binary("or", tie, fn.binary("and", old_nan, new_nan))
        first_nan = fn.binary("and", new_nan, _negated(fn, old_nan))
        better = fn.binary("or", better, first_nan)
    earlier = fn.icmp("slt", new_key, old_key)
    return fn.binary("or", better, fn.binary("and", tie, earlier))


def _negated(fn: Function, a: Value) -> Value:
    return fn.binary("xor", a, literal(True, a.type))


def masked(fn: Function, mask: Value | None, new: list[Value], old: list[Value]) -> list[Value]:
    """The new partial result in the lanes that count, the old one elsewhere."""
    if mask is None:
        return new
    return [fn.select(mask, n, o) for n, o in zip(new, old, strict=True)]


def tree(fn: Function, reduction: Reduction, lanes: list[Value]) -> list[Value]:
    """All lanes combined: lane j with lane j + 32, then 16, 8, 4, 2, 1. Gives scalars."""
    while lanes_of(lanes[0].type) > 1:
        half = lanes_of(lanes[0].type) // 2
        low = [fn.shuffle(v, None, range(half)) for v in lanes]
        high = [fn.shuffle(v, None, range(half, 2 * half)) for v in lanes]
        lanes = combine(fn, reduction, low, high)
    return lanes


class LaneRegisters:
    """The LANES partial results of one reduction, as vectors of some lanes each."""

    def __init__(self, fn: Function, reduction: Reduction, lanes: int) -> None:
        self._fn = fn
        self.reduction = reduction
        kinds = [register_type(d, lanes) for d in parts(reduction)]
        self._slots = [
            [
                fn.variable(kind, literal(v, kind))
                for kind, v in zip(kinds, identities(reduction), strict=True)
            ]
            for _ in range(LANES // lanes)
        ]

    def get(self, number: int) -> list[Value]:
        """The partial results in vector `number`."""
        return [slot.get() for slot in self._slots[number]]

    def add(self, number: int, new: list[Value], mask: Value | None) -> None:
        """Take a vector of elements, where they count, into vector `number`."""
        old = [slot.get() for slot in self._slots[number]]
        taken = masked(self._fn, mask, combine(self._fn, self.reduction, old, new), old)
        for slot, value in zip(self._slots[number], taken, strict=True):
            slot.set(value)

    def result(self) -> Value:
        """All lanes combined, in the order of `tree`."""
        vectors = [self.get(n) for n in range(len(self._slots))]
        while len(vectors) > 1:
            half = len(vectors) // 2
            vectors = [
                combine(self._fn, self.reduction, vectors[n], vectors[n + half])
                for n in range(half)
            ]
        return tree(self._fn, self.reduction, vectors[0])[-1]


class ExtremeRegisters(LaneRegisters):
    """Those of the largest or smallest float, from three extremes of its bits as integers.

    The order of floats, NaN and zeros included, takes six instructions one after the other; these
    take one each. The largest signed integer is the largest float if any has no sign, else the
    smallest unsigned one is; the largest unsigned one is the smallest float if any has a sign,
    else the smallest unsigned one is. NaN are beyond the infinities on either side.
    """

    _NAMES = ("smax", "umax", "umin")

    def __init__(self, fn: Function, reduction: Reduction, lanes: int) -> None:
        self._fn = fn
        self.reduction = reduction
        self._integer = f"i{reduction.value.dtype.bits}"
        start = self._bits(literal(identities(reduction)[0], self._kind(lanes)))
        self._slots = [
            [fn.variable(start.type, start) for _ in self._NAMES] for _ in range(LANES // lanes)
        ]

    def _kind(self, lanes: int) -> str:
        return register_type(self.reduction.value.dtype, lanes)

    def _bits(self, value: Value) -> Value:
        return self._fn.convert("bitcast", value, self._integer)

    def _extreme(self, name: str, a: Value, b: Value) -> Value:
        return self._fn.intrinsic(f"{name}.{type_suffix(a.type)}", a.type, a, b)

    def add(self, number: int, new: list[Value], mask: Value | None) -> None:
        bits = self._bits(new[0])
        for slot, name in zip(self._slots[number], self._NAMES, strict=True):
            old = slot.get()
            best = self._extreme(name, old, bits)
            slot.set(best if mask is None else self._fn.select(mask, best, old))

    def result(self) -> Value:
        high, most, least = (
            self._of_all(name, [slots[n].get() for slots in self._slots])
            for n, name in enumerate(self._NAMES)
        )
        fn, zero = self._fn, literal(0, high.type)
        if self.reduction.combine == "max":
            bits = fn.select(fn.icmp("slt", high, zero), least, high)
        else:
            bits = fn.select(fn.icmp("slt", most, zero), most, least)
        infinity, minus = (self._bits(literal(v, self._kind(1))) for v in (math.inf, -math.inf))
        is_nan = fn.binary("or", fn.icmp("sgt", high, infinity), fn.icmp("ugt", most, minus))
        value = fn.convert("bitcast", bits, register_type(self.reduction.value.dtype))
        return fn.select(is_nan, literal(math.nan, value.type), value)

    def _of_all(self, name: str, vectors: list[Value]) -> Value:
        """The extreme of all lanes of some vectors."""
        fn = self._fn
        while len(vectors) > 1:
            half = len(vectors) // 2
            pairs = zip(vectors[:half], vectors[half:], strict=True)
            vectors = [self._extreme(name, a, b) for a, b in pairs]
        (found,) = vectors
        while (lanes := lanes_of(found.type)) > 1:
            low = fn.shuffle(found, None, range(lanes // 2))
            high = fn.shuffle(found, None, range(lanes // 2, lanes))
            found = self._extreme(name, low, high)
        return found


def lane_registers(fn: Function, reduction: Reduction, lanes: int) -> LaneRegisters:
    """The registers of a reduction."""
    is_extreme = reduction.combine in ("max", "min") and reduction.value.dtype.is_float
    return (ExtremeRegisters if is_extreme else LaneRegisters)(fn, reduction, lanes)


class LaneMemory:
    """The partial results of one reduction, LANES or more, on the stack, for some at a time."""

    def __init__(self, fn: Function, reduction: Reduction, count: int = LANES) -> None:
        self._fn = fn
        self.reduction = reduction
        self._dtypes = parts(reduction)
        self._slots = [fn.allocate(memory_type(d, count)) for d in self._dtypes]

    def result(self) -> Value:
        """The lanes combined by the fixed tree."""
        return tree(self._fn, self.reduction, self.get(Value("0", "i64"), LANES))[-1]

    def clear(self) -> None:
        """Back to nothing seen."""
        start = Value("0", "i64")
        for slot, dtype, value in zip(
            self._slots, self._dtypes, identities(self.reduction), strict=True
        ):
            self._fn.store(literal(value, memory_type(dtype, LANES)), self._at(slot, dtype, start))

    def get(self, lane: Value, lanes: int) -> list[Value]:
        """`lanes` partial results from number `lane` on."""
        found = []
        for slot, dtype in zip(self._slots, self._dtypes, strict=True):
            value = self._fn.load(memory_type(dtype, lanes), self._at(slot, dtype, lane))
            if dtype is bool_:
                value = self._fn.convert("trunc", value, register_type(dtype))
            found.append(value)
        return found

    def set(self, lane: Value, values: list[Value]) -> None:
        """Write partial results from number `lane` on."""
        for slot, dtype, value in zip(self._slots, self._dtypes, values, strict=True):
            if dtype is bool_:
                value = self._fn.convert("zext", value, memory_type(dtype))
            self._fn.store(value, self._at(slot, dtype, lane))

    def _at(self, slot: Value, dtype: DType, lane: Value) -> Value:
        return self._fn.address(slot, lane, memory_type(dtype))

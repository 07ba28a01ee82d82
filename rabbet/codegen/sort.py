"""SortKernel -> LLVM text: the positions of a line's points by ascending key.

A point becomes a record, its key above its position, so that no two records are equal and every
method gives the stable order. Short lines are ranked: a record's place is how many are smaller.
Long ones are sorted by the bytes of their keys, least significant first (LSD radix sort: Knuth, The
Art of Computer Programming, vol. 3, 5.2.5), with all bytes counted in one pass and bytes that are
the same everywhere left out.
"""

from __future__ import annotations

from rabbet.base.dtypes import int64
from rabbet.base.target import Target
from rabbet.codegen.emit import Emitter, Frame
from rabbet.codegen.ir import Module, Value, Variable, i64
from rabbet.codegen.launch import Launch
from rabbet.codegen.stepping import product, tasks, weight
from rabbet.expr.scalars import expand_all
from rabbet.kernel.loops import SortKernel
from rabbet.kernel.show import kernel_name

BUCKETS = 256
RANKED = {False: 32, True: 16}  # lines up to this length are ranked; comparing wide records is slow
LINE_COST = 16  # scalar operations per point, beside its key


def emit_sort(kernel: SortKernel, target: Target) -> str:
    """The LLVM text of a SortKernel; the function is called `kernel_name(kernel)`."""
    module = Module(target)
    _Sort(kernel, Frame(module, kernel_name(kernel), kernel.operands)).write()
    return module.text()


def launch_sort(kernel: SortKernel) -> Launch:
    """Tasks, scratch memory per thread (records twice, and counts), and cost of a SortKernel."""
    length = product(kernel.line)
    scratch = length * (2 * _record_bytes(kernel)) + _count_bytes(kernel)
    cost = product(kernel.outer) * length * (weight([kernel.index, kernel.key]) + LINE_COST)
    return Launch(product(kernel.outer), scratch, cost)


def _record_bytes(kernel: SortKernel) -> int:
    return 16 if kernel.wide else 8


def _count_bytes(kernel: SortKernel) -> int:
    return kernel.key.dtype.itemsize * BUCKETS * 8


class _Sort:
    """Writes one kernel."""

    def __init__(self, kernel: SortKernel, frame: Frame) -> None:
        self.kernel = kernel
        self.frame = frame
        self.fn = frame.fn
        self.half = 64 if kernel.wide else 32
        self.record = f"i{2 * self.half}"
        self.key, self.index = expand_all(kernel.key), expand_all(kernel.index)
        self.bytes = kernel.key.dtype.itemsize

    def write(self) -> None:
        """The whole function body."""
        root = Emitter(self.frame)
        outer = [root.scalar(expand_all(e)) for e in self.kernel.outer]
        length = root.scalar(expand_all(product(self.kernel.line)))
        self.counts = self.fn.parameters["scratch"]
        self.front = self.fn.address(self.counts, i64(_count_bytes(self.kernel)), "i8")
        self.back = self.fn.address(self.front, length, self.record)
        with tasks(self.fn, self.frame.begin, self.frame.end, outer) as variables:
            with self.fn.when(self.fn.icmp("sgt", length, 0)):
                self.line(root.inner(variables), length)

    def line(self, em: Emitter, length: Value) -> None:
        """One line: make its records, order them, write their positions."""
        fn, number = self.fn, len(self.kernel.outer)
        em.hoist([self.key, self.index], {number})
        with fn.loop(i64(0), length) as i:
            key = em.inner({number: i}).scalar(self.key)
            above = fn.binary("shl", self.widened(key), self.shift(self.half))
            self.put(self.front, i, fn.binary("or", above, self.widened(i)))
        now = fn.variable("ptr", self.front)
        other = fn.variable("ptr", self.back)
        is_short = fn.icmp("sle", length, RANKED[self.kernel.wide])
        with fn.when(is_short):
            self.rank(length)
            now.set(self.back)
        with fn.when(fn.binary("xor", is_short, Value("true", "i1"))):
            self.distribute(length, now, other)
        found = now.get()
        low = Value(str((1 << self.half) - 1), self.record)
        with fn.loop(i64(0), length) as i:
            place = fn.binary("and", self.get(found, i), low)
            place = place if self.half == 32 else fn.convert("trunc", place, "i64")
            em.inner({number: i}).store(self.kernel.out, self.index, place, int64)

    def rank(self, length: Value) -> None:
        """Every record to its place: as many as are smaller."""
        fn = self.fn
        with fn.loop(i64(0), length) as i:
            mine = self.get(self.front, i)
            place = fn.variable("i64", i64(0))
            with fn.loop(i64(0), length) as j:
                smaller = fn.icmp("ult", self.get(self.front, j), mine)
                place.set(fn.add(place.get(), fn.convert("zext", smaller, "i64")))
            self.put(self.back, place.get(), mine)

    def distribute(self, length: Value, now: Variable, other: Variable) -> None:
        """Byte after byte of the keys: records of one value after those of smaller ones."""
        fn = self.fn
        size = i64(_count_bytes(self.kernel))
        zero, plain = Value("0", "i8"), Value("false", "i1")
        fn.intrinsic("memset.p0.i64", "void", self.counts, zero, size, plain)
        with fn.loop(i64(0), length) as i:
            record = self.get(self.front, i)
            for number in range(self.bytes):
                slot = self.slot(number, record)
                fn.store(fn.add(fn.load("i64", slot), 1), slot)
        first = self.get(self.front, i64(0))
        for number in range(self.bytes):
            everywhere = fn.load("i64", self.slot(number, first))
            with fn.when(fn.icmp("ne", everywhere, length)):
                self.accumulate(number)
                self.move(number, length, now.get(), other.get())
                source = now.get()
                now.set(other.get())
                other.set(source)

    def accumulate(self, number: int) -> None:
        """Counts of a byte's values -> where the first record of each value goes."""
        fn = self.fn
        total = fn.variable("i64", i64(0))
        with fn.loop(i64(number * BUCKETS), i64((number + 1) * BUCKETS)) as bucket:
            slot = fn.address(self.counts, bucket, "i64")
            count, before = fn.load("i64", slot), total.get()
            fn.store(before, slot)
            total.set(fn.add(before, count))

    def move(self, number: int, length: Value, source: Value, target: Value) -> None:
        """All records, in order, each to the next free place of its byte's value."""
        fn = self.fn
        with fn.loop(i64(0), length) as i:
            record = self.get(source, i)
            slot = self.slot(number, record)
            place = fn.load("i64", slot)
            fn.store(fn.add(place, 1), slot)
            self.put(target, place, record)

    # ------------------------------------------------------------------ parts

    def slot(self, number: int, record: Value) -> Value:
        """Address of the count that belongs to byte `number` of a record's key."""
        fn = self.fn
        moved = fn.binary("lshr", record, self.shift(self.half + 8 * number))
        value = fn.binary("and", moved, Value(str(BUCKETS - 1), self.record))
        value = value if self.half == 32 else fn.convert("trunc", value, "i64")
        return fn.address(self.counts, fn.add(value, number * BUCKETS), "i64")

    def shift(self, by: int) -> Value:
        return Value(str(by), self.record)

    def widened(self, value: Value) -> Value:
        """An unsigned integer or a flag as a record's low bits."""
        return self.fn.convert("zext", value, self.record)

    def get(self, base: Value, i: Value) -> Value:
        """Record i."""
        return self.fn.load(self.record, self.fn.address(base, i, self.record), 8)

    def put(self, base: Value, i: Value, record: Value) -> None:
        """Write record i."""
        self.fn.store(record, self.fn.address(base, i, self.record), 8)

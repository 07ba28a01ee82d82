"""Expr -> LLVM values, for one point or for W neighbouring points of a loop at once.

An Emitter knows the values of the loop variables (at lane 0), which variable runs along the
lanes, and which lanes count. Every expression is emitted once per scope, where its first user
stands; callers hoist by asking for an expression before they open a loop. Loads look at how the
index moves with the lanes: not at all (one scalar), by one (consecutive elements), by minus one
(reversed), else a gather.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from collections.abc import Set as AbstractSet
from typing import TypeAlias, cast

from rabbet.base.dtypes import DType, int64
from rabbet.base.errors import InternalError
from rabbet.base.target import Target
from rabbet.codegen.ir import Function, Module, Value, bits_of, lanes_of, literal, vector_of
from rabbet.codegen.operations import (
    bits_of_half,
    constant,
    from_memory,
    has_masks,
    index_division,
    memory_type,
    row,
    to_memory,
)
from rabbet.expr.affine import coefficient
from rabbet.expr.expr import Expr, topological
from rabbet.kernel.loops import Operand

Scopes: TypeAlias = tuple[dict[tuple[Expr, int], Value], ...]

SCALAR = 0  # the form of an expression that is asked for at lane 0 only

PARAMETERS = (
    ("ptr noalias readonly", "buffers"),
    ("ptr noalias readonly", "sizes"),
    ("i64", "begin"),
    ("i64", "end"),
    ("ptr noalias", "scratch"),
    ("ptr noalias", "status"),
)


class Frame:
    """A kernel's function, and what its call gives: buffers, sizes, task range."""

    def __init__(self, module: Module, name: str, operands: Sequence[Operand]) -> None:
        self.module = module
        self.target: Target = module.target
        self.fn: Function = module.function(name, PARAMETERS)
        self.operands = tuple(operands)
        self._pointers: dict[int, Value] = {}
        self._sizes: dict[int, Value] = {}

    @property
    def begin(self) -> Value:
        return self.fn.parameters["begin"]

    @property
    def end(self) -> Value:
        return self.fn.parameters["end"]

    def pointer(self, operand: int) -> Value:
        """Address of an operand's first element (read once, on entry)."""
        if operand not in self._pointers:
            slot = self.fn.entry("ptr", f"getelementptr ptr, ptr %buffers, i64 {operand}")
            self._pointers[operand] = self.fn.entry("ptr", f"load ptr, ptr {slot.text}")
        return self._pointers[operand]

    def place(self, operand: int, offset: Value) -> None:
        """Let an operand lie in scratch memory, at a byte offset."""
        scratch = self.fn.parameters["scratch"]
        self._pointers[operand] = self.fn.address(scratch, offset, "i8")

    def size(self, number: int) -> Value:
        """Run-time size argument (read once, on entry)."""
        if number not in self._sizes:
            slot = self.fn.entry("ptr", f"getelementptr i64, ptr %sizes, i64 {number}")
            self._sizes[number] = self.fn.entry("i64", f"load i64, ptr {slot.text}")
        return self._sizes[number]


class Emitter:
    """Expressions at one place of a kernel (see the module's text).

    variables: loop variable -> i64 at lane 0. accs: reduction -> scalar or vector. `vector` runs
    along the `lanes`; `mask` (i1 per lane) says which count: lanes outside touch no memory.
    """

    def __init__(
        self,
        frame: Frame,
        variables: dict[int, Value] | None = None,
        accs: dict[int, Value] | None = None,
        *,
        lanes: int = 1,
        vector: int | None = None,
        mask: Value | None = None,
        outer: Emitter | None = None,
    ) -> None:
        self.streams = False  # do plain stores of whole vectors go past the caches?
        self.frame = frame
        self.fn = frame.fn
        self.variables = variables or {}
        self.accs = accs or {}
        self.lanes = lanes
        self.vector = vector
        self.mask = mask
        self._own: dict[tuple[Expr, int], Value] = {}
        self._scopes: Scopes = (self._own, *(outer._scopes if outer else ()))
        self._varies: dict[Expr, bool] = {}

    def inner(
        self,
        variables: dict[int, Value] | None = None,
        accs: dict[int, Value] | None = None,
        *,
        lanes: int | None = None,
        vector: int | None = None,
        mask: Value | None = None,
    ) -> Emitter:
        """An emitter for a place inside this one, which sees what is already there.

        Lanes, vector variable and mask are inherited unless given; give them only where the
        variables of this emitter do not run along the lanes already.
        """
        if lanes is not None and self.vector is not None:
            raise InternalError("an emitter with lanes cannot be given other lanes")
        return Emitter(
            self.frame,
            {**self.variables, **(variables or {})},
            {**self.accs, **(accs or {})},
            lanes=self.lanes if lanes is None else lanes,
            vector=self.vector if lanes is None else vector,
            mask=self.mask if lanes is None else mask,
            outer=self,
        )

    # ------------------------------------------------------------------ values

    def scalar(self, e: Expr) -> Value:
        """The value at lane 0 (for an expression that does not vary: the value)."""
        return self._get(e, SCALAR)

    def value(self, e: Expr) -> Value:
        """The value in all lanes; with one lane the scalar."""
        return self._get(e, self.lanes if self.lanes > 1 else SCALAR)

    def give(self, e: Expr, value: Value) -> None:
        """Let `e` have this value in all lanes, instead of making it."""
        self._own[e, self.lanes if self.lanes > 1 else SCALAR] = value

    def varies(self, e: Expr) -> bool:
        """Does the expression differ between lanes?"""
        if self.vector is None or self.lanes == 1:
            return False
        known = self._varies
        if e not in known:
            for x in topological([e]):
                if x not in known:
                    known[x] = (
                        x.op == "var"
                        and x.value == self.vector
                        or x.op == "acc"
                        and lanes_of(self.accs[x.value].type) > 1
                        or any(known[a] for a in x.args)
                    )
        return known[e]

    def hoist(
        self, roots: Iterable[Expr], unknown: AbstractSet[int], accs: AbstractSet[int] = frozenset()
    ) -> None:
        """Emit here what stays the same inside the loops over the variables `unknown`.

        Only maximal parts that are worth keeping: not constants, variables or sizes, and no loads
        of what this kernel writes. `accs` are reductions not known yet.
        """
        order = topological(roots)
        fixed: dict[Expr, bool] = {}
        for e in order:
            fixed[e] = (
                not (e.op == "var" and e.value in unknown)
                and not (e.op == "acc" and e.value in accs)
                and not self.is_written(e)
                and all(fixed[a] for a in e.args)
            )
        wanted: dict[Expr, None] = {}
        for e in order:
            if not fixed[e]:
                wanted.update((a, None) for a in e.args if fixed[a])
        wanted.update((r, None) for r in roots if fixed[r])
        for e in wanted:
            if e.op not in ("const", "var", "size", "acc"):
                self._get(e, self.lanes if self.varies(e) else SCALAR)

    def is_written(self, e: Expr) -> bool:
        """Is `e` a load of what this kernel writes?"""
        return e.op == "load" and self.frame.operands[_operand(e)[0]].mode != "in"

    def _get(self, root: Expr, form: int) -> Value:
        stack = [(root, form)]
        while stack:
            e, wanted = stack[-1]
            if self._find(e, wanted) is not None:
                stack.pop()
                continue
            missing = [n for n in self._needs(e, wanted) if self._find(*n) is None]
            if missing:
                stack.extend(reversed(missing))
            else:
                self._own[e, wanted] = self._make(e, wanted)
                stack.pop()
        found = self._find(root, form)
        assert found is not None
        return found

    def _find(self, e: Expr, form: int) -> Value | None:
        for scope in self._scopes:
            found = scope.get((e, form))
            if found is not None:
                return found
        return None

    def _needs(self, e: Expr, form: int) -> list[tuple[Expr, int]]:
        """What must be there before `e` can be made."""
        if e.op == "const":
            return []
        if form != SCALAR and not self.varies(e):
            return [(e, SCALAR)]
        if e.op != "load" or form == SCALAR:
            return [(a, form) for a in e.args]
        stride = self._stride(e.args[0])
        needs = [(e.args[0], SCALAR if self._runs(e, stride) else form)]
        if len(e.args) > 1:
            needs.append((e.args[1], form if self.varies(e.args[1]) else SCALAR))
        return needs

    def _make(self, e: Expr, form: int) -> Value:
        if e.op == "const":
            return constant(e.value, e.dtype, form or 1)
        if form != SCALAR and not self.varies(e):
            return self.fn.splat(self._known(e, SCALAR), form)
        match e.op:
            case "var":
                return self._variable(e.value, form)
            case "size":
                return self.frame.size(e.value)
            case "acc":
                return self.accs[e.value]
            case "load":
                return self._load(e) if form == SCALAR else self._load_lanes(e)
        args = [self._known(a, form) for a in e.args]
        if form != SCALAR and e.op in ("floordiv", "mod") and _is_position(e):
            return index_division(self.fn, e.op, args[0], args[1])
        return row(self.fn, e.op, e.dtype, args, e.args[-1].dtype)

    def _known(self, e: Expr, form: int) -> Value:
        found = self._find(e, form)
        assert found is not None
        return found

    def _variable(self, number: int, form: int) -> Value:
        if number not in self.variables:
            raise InternalError(f"loop variable {number} is used outside its loop")
        first = self.variables[number]
        if form == SCALAR:
            return first
        return self.fn.add(self.fn.splat(first, form), self.fn.iota(form))

    # ------------------------------------------------------------------ memory

    def _stride(self, index: Expr) -> int | None:
        """How the index moves from lane to lane, if that is a known number."""
        if not self.varies(index):
            return 0
        assert self.vector is not None
        found = coefficient(index, self.vector)
        if found is None or found.op != "const":
            return None
        return found.value

    def _load(self, e: Expr) -> Value:
        """One element; where it is not valid, the fill is read instead, from a constant."""
        operand, fill = _operand(e)
        kind = memory_type(e.dtype)
        address = self.fn.address(self.frame.pointer(operand), self._known(e.args[0], SCALAR), kind)
        if len(e.args) > 1:
            valid = self._known(e.args[1], SCALAR)
            address = self.fn.select(valid, address, self._fill_address(kind, fill))
        return from_memory(self.fn, self.fn.load(kind, address), e.dtype)

    def _fill_address(self, kind: str, fill: float) -> Value:
        return self.frame.module.constant(kind, literal(fill, kind).text)

    def _load_lanes(self, e: Expr) -> Value:
        operand, fill = _operand(e)
        kind = memory_type(e.dtype, self.lanes)
        stride = self._stride(e.args[0])
        mask, valid = self.mask, None
        if len(e.args) > 1 and self.varies(e.args[1]):
            per_lane = self._known(e.args[1], self.lanes)
            mask = per_lane if mask is None else self.fn.binary("and", mask, per_lane)
        elif len(e.args) > 1:
            valid = self._known(e.args[1], SCALAR)
        if stride in (1, -1):
            found = self._load_run(e, kind, fill, mask, valid, reverse=stride == -1)
        elif self._runs(e, stride):
            found = self._load_strided(e, kind, fill, mask, valid, stride or 0)
        else:
            found = self._gather(e, kind, fill, mask, valid)
        return from_memory(self.fn, found, e.dtype)

    def _load_run(
        self,
        e: Expr,
        kind: str,
        fill: float,
        mask: Value | None,
        valid: Value | None,
        reverse: bool,
    ) -> Value:
        """Consecutive elements, upwards or downwards."""
        operand, _ = _operand(e)
        first = self._known(e.args[0], SCALAR)
        if reverse:
            first = self.fn.sub(first, self.lanes - 1)
            mask = self._reversed(mask) if mask is not None else None
        address = self.fn.address(self.frame.pointer(operand), first, memory_type(e.dtype))
        if valid is not None:
            address = self.fn.select(valid, address, self._fill_address(kind, fill))
        if mask is None:
            found = self.fn.load(kind, address)
        else:
            found = self.fn.masked_load(kind, address, mask, literal(fill, kind))
        return self._reversed(found) if reverse else found

    def _runs(self, e: Expr, stride: int | None) -> bool:
        """Is the load made of runs of elements (else it is a gather)?"""
        if stride in (1, -1):
            return True
        is_masked = self.mask is not None or (len(e.args) > 1 and self.varies(e.args[1]))
        wide = bits_of(memory_type(e.dtype)) >= 32
        return stride in (2, 3, 4) and (not is_masked or (wide and has_masks(self.frame.target)))

    def _load_strided(
        self,
        e: Expr,
        kind: str,
        fill: float,
        mask: Value | None,
        valid: Value | None,
        stride: int,
    ) -> Value:
        """Every stride-th element: runs that cover them, the last one ending where they do."""
        operand, _ = _operand(e)
        element, lanes = memory_type(e.dtype), self.lanes
        starts = [*range(0, (stride - 1) * lanes, lanes), (lanes - 1) * stride + 1 - lanes]
        first = self._known(e.args[0], SCALAR)
        base = self.frame.pointer(operand)
        found: Value | None = None
        for number, start in enumerate(starts):
            address = self.fn.address(base, self.fn.add(first, start), element)
            if valid is not None:
                address = self.fn.select(valid, address, self._fill_address(kind, fill))
            if mask is None:
                run = self.fn.load(kind, address)
            else:  # of elements between those wanted nothing is known: they are not read
                none = literal(False, mask.type)
                at = [divmod(start + p, stride) for p in range(lanes)]
                wanted = self.fn.shuffle(mask, none, [lanes if r else lane for lane, r in at])
                run = self.fn.masked_load(kind, address, wanted, literal(fill, kind))
            if found is None:
                found = self.fn.shuffle(
                    run, None, [min(i * stride, lanes - 1) for i in range(lanes)]
                )
                continue
            # Lanes before this run keep what they have.
            places = [min(i * stride - start, lanes - 1) for i in range(lanes)]
            taken = [i if i * stride < number * lanes else lanes + p for i, p in enumerate(places)]
            found = self.fn.shuffle(found, run, taken)
        assert found is not None
        return found

    def _reversed(self, value: Value) -> Value:
        return self.fn.shuffle(value, None, range(self.lanes - 1, -1, -1))

    def _gather(
        self, e: Expr, kind: str, fill: float, mask: Value | None, valid: Value | None
    ) -> Value:
        """One element per lane; without native masks, masked lanes read a constant."""
        operand, _ = _operand(e)
        index = self._known(e.args[0], self.lanes)
        element = memory_type(e.dtype)
        addresses = self.fn.address(self.frame.pointer(operand), index, element)
        if valid is not None:
            spread = self.fn.splat(valid, self.lanes)
            mask = spread if mask is None else self.fn.binary("and", mask, spread)
        every = literal(True, vector_of("i1", self.lanes))
        other = literal(fill, kind)
        if mask is None:
            return self.fn.gather(kind, addresses, every, other)
        if has_masks(self.frame.target) and bits_of(element) >= 32:
            return self.fn.gather(kind, addresses, mask, other)
        spare = self.fn.splat(self._fill_address(element, fill), self.lanes)
        return self.fn.gather(kind, self.fn.select(mask, addresses, spare), every, other)

    def store(self, operand: int, index: Expr, value: Value, dtype: DType) -> None:
        """operand[index] = value (all lanes that count; lanes write different elements)."""
        value = to_memory(self.fn, value)
        base, element = self.frame.pointer(operand), memory_type(dtype)
        stride = 0 if self.lanes == 1 else self._stride(index)
        if stride == 0:
            # Elements are written once, so a loop that does not move the index has one step: its
            # size is a symbol which a guard says to be 1.
            only = value if self.lanes == 1 else self.fn.extract(value, 0)
            self.fn.store(only, self.fn.address(base, self.scalar(index), element))
            return
        if stride not in (1, -1):
            addresses = self.fn.address(base, self.value(index), element)
            every = literal(True, vector_of("i1", self.lanes))
            self.fn.scatter(value, addresses, self.mask or every)
            return
        first, mask = self.scalar(index), self.mask
        if stride == -1:
            first = self.fn.sub(first, self.lanes - 1)
            value = self._reversed(value)
            mask = self._reversed(mask) if mask is not None else None
        address = self.fn.address(base, first, element)
        if mask is None and self.streams:
            self.fn.stream(value, address)
        elif mask is None:
            self.fn.store(value, address)
        else:
            self.fn.masked_store(value, address, mask)


def _is_position(e: Expr) -> bool:
    """Is it made of loop variables and sizes alone? Then it counts elements (fewer than 2^52)."""
    plain = ("var", "size", "const", "add", "sub", "mul", "floordiv", "mod", "min", "max")
    return e.dtype is int64 and all(x.op in plain for x in topological([e]))


def _operand(e: Expr) -> tuple[int, float]:
    """Operand and fill of a load, the fill as it lies in memory."""
    operand, fill = cast("tuple[int, float]", e.value)
    return operand, bits_of_half(fill, e.dtype)

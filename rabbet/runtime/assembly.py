"""Assembly: launches and memory become a Plan, and the plans inside it.

Plans nest where a call runs graphs: a body is a plan of its own, over the kernels of the whole.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from rabbet.base.errors import InternalError
from rabbet.base.sizes import Dim, SizeScope, hint
from rabbet.base.spec import Spec
from rabbet.base.target import Target
from rabbet.codegen.build import launch
from rabbet.codegen.launch import Launch as Shape
from rabbet.graph.value import Call, Value, sites_of
from rabbet.kernel.group import awaited_memory
from rabbet.kernel.inplace import is_copy, overwritable
from rabbet.kernel.loops import Kernel, PackKernel
from rabbet.kernel.lower import Lowered
from rabbet.kernel.proven import Check, check_kernel, checks_of
from rabbet.runtime.arrange import LEAST_DONATED, Launch, arrange
from rabbet.runtime.plan import ARENA, CAN_FAIL, COND, INPUT, IS_COPY, LOOP, OUTPUT, Plan, PlanCall
from rabbet.transform.host import Part


@dataclass(eq=False)
class Compiled:
    """What the compiler makes of a graph, before any machine code."""

    words: bytes
    kernels: list[Kernel]
    inputs: list[Spec]
    outputs: list[Spec]
    ops: list[list[str]]  # per call of the plan: the ops it computes
    sites: list[list[int]]  # per call of the plan: the recorded ops it is of, see `sites_of`
    scope: SizeScope | None


@dataclass(eq=False)
class Assembly:
    """A plan with the memory of each value."""

    plan: Plan
    target: Target
    kernels: dict[Kernel, int] = field(default_factory=dict)
    shapes: dict[Kernel, Shape] = field(default_factory=dict)
    pairs: list[list[tuple[int, int]]] = field(default_factory=list)  # per kernel: see inplace.py
    places: dict[tuple[int, int], int] = field(default_factory=dict)
    bytes: list[Dim] = field(default_factory=list)  # per buffer
    launches: list[Launch] = field(default_factory=list)
    checks: list[tuple[int, Check]] = field(default_factory=list)  # with the launch that makes it
    ops: list[list[str]] = field(default_factory=list)
    sites: list[list[int]] = field(default_factory=list)
    written: set[int] = field(default_factory=set)
    parts: list[Part] = field(default_factory=list)  # whose values `places` knows by identity

    def buffer(self, kind: int, number: int, nbytes: Dim) -> int:
        """A new buffer of the plan."""
        self.bytes.append(nbytes)
        return self.plan.buffer(kind, number, nbytes)

    def place(self, v: Value) -> int:
        """The buffer of a stored value."""
        key = (id(v.call), v.index)
        if key not in self.places:
            self.places[key] = self.buffer(ARENA, -1, v.spec.nbytes)
        return self.places[key]

    def place_result(self, v: Value, number: int | None) -> int:
        """Memory for a value that is output `number` of the plan, or only read by later calls."""
        if number is None:
            return self.place(v)
        place = self.buffer(OUTPUT, number, v.spec.nbytes)
        self.places[id(v.call), v.index] = place
        return place

    def same_place(self, v: Value, other: Value) -> None:
        """`v` is the same memory as `other`, which has its place."""
        self.places[id(v.call), v.index] = self.places[id(other.call), other.index]

    def place_inputs(self, values: Sequence[Value], first: int = 0) -> None:
        """Buffers for inputs, numbered from `first` on, where they have none yet."""
        for number, v in enumerate(values, first):
            if (id(v.call), v.index) not in self.places:
                place = self.buffer(INPUT, number, v.spec.nbytes)
                self.places[id(v.call), v.index] = place

    def compiled(self, inputs: Sequence[Value], outputs: Sequence[Value]) -> Compiled:
        """The finished plan."""
        self.arrange()
        self.plan.kernels = len(self.kernels)
        return Compiled(
            words=self.plan.words(),
            kernels=list(self.kernels),
            inputs=[v.spec for v in inputs],
            outputs=[v.spec for v in outputs],
            ops=self.ops,
            sites=self.sites,
            scope=self.plan.scope,
        )

    def add(self, lowered: Lowered) -> None:
        """Append the launch of a kernel."""
        lowered = lowered.compact()
        self._verify(lowered)
        kernel = lowered.kernel
        if kernel not in self.shapes:
            self.shapes[kernel] = launch(kernel, self.target)
        shape = self.shapes[kernel]

        def number(dim: Dim) -> int:
            return self.plan.expr(dim)

        size = lowered.arguments.dim_of
        proofs = self._proofs(lowered)
        can_fail = None in proofs
        call = PlanCall(
            kernel=self._kernel(kernel),
            tasks=number(size(shape.tasks)),
            cost=number(size(shape.cost)),
            scratch=number(size(shape.scratch_bytes)),
            flags=can_fail * CAN_FAIL + is_copy(kernel) * IS_COPY,
            buffers=[self.place(v) for v in lowered.buffers],
            sizes=[number(d) for d in lowered.dims],
        )
        self.plan.calls.append(call)
        alone = "pack" if isinstance(lowered.kernel, PackKernel) else "copy"
        self.ops.append([c.op.name for c in lowered.calls] or [alone])
        self.sites.append(sites_of(lowered.calls))
        after = sorted({n for n in proofs if n is not None})
        waits = {self.place(v) for c in lowered.calls for x in c.inputs for v in awaited_memory(x)}
        self._note(call, kernel, can_fail, after, sorted(waits))

    def nested(self) -> Assembly:
        """An assembly for a body of this one's plan."""
        return Assembly(Plan(self.plan.scope), self.target, self.kernels, self.shapes, self.pairs)

    def add_control(self, call: Call, bodies: Sequence[Assembly]) -> None:
        """Append a call that runs bodies, complete ones, by a value (see native/control.c)."""
        reads = [self.place(v) for v in call.inputs]
        made = [self.place(v) for v in call.outputs]
        writes = list(made)
        if call.op.name == "while_loop":
            writes += [self.buffer(ARENA, -1, v.spec.nbytes) for v in call.outputs]
            writes.append(self.buffer(ARENA, -1, 1))
        self.written.update(writes)
        none, once = self.plan.expr(0), self.plan.expr(1)
        flags = CAN_FAIL + (LOOP if call.op.name == "while_loop" else COND)
        first = len(self.plan.bodies)
        self.plan.bodies += [b.plan for b in bodies]
        self.plan.calls.append(PlanCall(first, once, none, none, flags, [*reads, *writes], []))
        self.ops.append([call.op.name, *(n for b in bodies for names in b.ops for n in names)])
        self.sites.append(sites_of([call]))
        self.launches.append(Launch(reads, writes, [], True, self._site(), []))

    def add_checks(self, lowered: Lowered) -> None:
        """Make a kernel's checks before it, so that what it writes may be an input's memory."""
        for check in checks_of(lowered):
            if check is not None and not any(c.proves(check) for _, c in self.checks):
                self.add(check_kernel(check, lowered))

    def _proofs(self, lowered: Lowered) -> list[int | None]:
        """For each check of a kernel the launch that has made it before, or None."""
        found: list[int | None] = []
        for check in checks_of(lowered):
            known = [n for n, c in self.checks if check is not None and c.proves(check)]
            found.append(known[0] if known else None)
            if check is not None and check.whole:
                self.checks.append((len(self.launches), check))
        return found

    def _kernel(self, kernel: Kernel) -> int:
        if kernel not in self.kernels:
            self.kernels[kernel] = len(self.kernels)
            self.pairs.append(overwritable(kernel))
        return self.kernels[kernel]

    def _note(
        self,
        call: PlanCall,
        kernel: Kernel,
        can_fail: bool,
        after: list[int],
        waits: list[int],
    ) -> None:
        """What the order and the sharing of memory depend on; `waits` are buffers to be known."""
        reads = [b for b, o in zip(call.buffers, kernel.operands, strict=True) if o.mode == "in"]
        writes = [b for b, o in zip(call.buffers, kernel.operands, strict=True) if o.mode != "in"]
        pairs = [(call.buffers[i], call.buffers[o]) for i, o in self.pairs[call.kernel]]
        pairs = [p for p in pairs if reads.count(p[0]) == writes.count(p[1]) == 1]
        reads += [b for b in waits if b not in reads and b not in writes]
        self.launches.append(Launch(reads, writes, pairs, can_fail, self._site(), after))

    def _site(self) -> int:
        """The recorded op that an error of the last launch points to, or -1."""
        return next(iter(self.sites[-1]), -1)

    def arrange(self) -> None:
        """Bring the launches into the order in which they run, and share memory."""
        plan = self.plan
        made = arrange(self.launches, plan.buffers, [_bytes_of(d) for d in self.bytes])
        plan.calls = [plan.calls[n] for n in made.order]
        self.ops = [self.ops[n] for n in made.order]
        self.sites = [self.sites[n] for n in made.order]
        plan.commit = made.commit if made.donated else -1
        blocks: dict[int, list[int]] = {}
        for b, base in made.alias.items():
            block = blocks.setdefault(base, [base])
            block.append(b)
            blocks[b] = block
        for block in {id(block): block for block in blocks.values()}.values():
            plan.share(block)
        for output, given in made.donated.items():
            plan.buffers[output].alias = given

    def _verify(self, lowered: Lowered) -> None:
        """What a kernel reads was written before it: the order of groups is right."""
        for operand, v in zip(lowered.kernel.operands, lowered.buffers, strict=True):
            place = self.place(v)
            if operand.mode != "in":
                self.written.add(place)
            elif place not in self.written and self.plan.buffers[place].kind != INPUT:
                names = "+".join(c.op.name for c in lowered.calls)
                raise InternalError(f"the kernel of {names} reads {v} before it is made")


def _bytes_of(dim: Dim) -> int:
    """The bytes of a buffer as far as they matter for order: a size that varies may get large."""
    return dim if isinstance(dim, int) else max(hint(dim), LEAST_DONATED)

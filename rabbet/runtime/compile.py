"""Graph -> Plan and kernels: the table of contents of the compiler.

decompose -> fuse -> lower -> (kernels, plan). Machine code is made by the KernelStore; nothing here
knows a machine, it is given one. A graph with host ops becomes several plans (`compile_stages`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from rabbet.base.errors import CompileError, InternalError, RabbetError
from rabbet.base.sizes import Dim, SizeScope, hint
from rabbet.base.spec import Spec
from rabbet.base.target import Target
from rabbet.codegen.build import launch
from rabbet.codegen.launch import Launch as Shape
from rabbet.graph.value import Call, Graph, Value
from rabbet.kernel import access
from rabbet.kernel.fuse import Fusion
from rabbet.kernel.group import Group, awaited_memory
from rabbet.kernel.inplace import is_copy, overwritable
from rabbet.kernel.loops import Kernel, PackKernel
from rabbet.kernel.lower import Lowered, copy_kernel, lower
from rabbet.kernel.proven import Check, check_kernel, checks_of
from rabbet.runtime.arrange import LEAST_DONATED, Launch, arrange
from rabbet.runtime.packing import Packing, oriented
from rabbet.runtime.plan import ARENA, CAN_FAIL, INPUT, IS_COPY, OUTPUT, Plan, PlanCall
from rabbet.transform.decompose import decompose
from rabbet.transform.host import Part, cut

STORED_KINDS = (
    "elementwise",
    "reduce",
    "contract",
    "gather",
    "scatter",
    "sort",
    "attention",
    "recurrent",
)


@dataclass(eq=False)
class Compiled:
    """What the compiler makes of a graph, before any machine code."""

    words: bytes
    kernels: list[Kernel]
    inputs: list[Spec]
    outputs: list[Spec]
    ops: list[list[str]]  # per call of the plan: the ops it computes
    positions: list[int]  # per call of the plan: the site (node position) an error points to
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
    positions: list[int] = field(default_factory=list)
    written: set[int] = field(default_factory=set)

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
            positions=self.positions,
            scope=self.plan.scope,
        )

    def add(self, lowered: Lowered) -> None:
        """Append the launch of a kernel."""
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
        failing = [c for c in lowered.calls if c.op.kind in ("gather", "scatter")]
        sited = failing or lowered.calls
        self.positions.append(sited[0].site if sited and isinstance(sited[0].site, int) else -1)
        after = sorted({n for n in proofs if n is not None})
        waits = {self.place(v) for c in lowered.calls for x in c.inputs for v in awaited_memory(x)}
        self._note(call, kernel, can_fail, after, sorted(waits))

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
        self.launches.append(Launch(reads, writes, pairs, can_fail, self.positions[-1], after))

    def arrange(self) -> None:
        """Bring the launches into the order in which they run, and share memory."""
        plan = self.plan
        made = arrange(self.launches, plan.buffers, [_bytes_of(d) for d in self.bytes])
        plan.calls = [plan.calls[n] for n in made.order]
        self.ops = [self.ops[n] for n in made.order]
        self.positions = [self.positions[n] for n in made.order]
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


def compile_plan(
    graph: Graph, target: Target, *, scope: SizeScope | None = None, fuse: bool = True
) -> Compiled:
    """Everything but machine code. fuse=False stores the result of every op (the first tier).

    Raises CompileError, with the site of the op it happened in as `position`; also for a host op,
    which no plan can hold.
    """
    staging = compile_stages(graph, target, scope=scope, fuse=fuse)
    if staging.whole is None:
        between = next(s for s in staging.stages if not isinstance(s, CompiledPart))
        call = between if isinstance(between, Call) else between.call
        what = "runs on the host" if isinstance(between, Call) else "chooses graphs by a value"
        error = CompileError(f"{call.op.name} {what}: native code cannot hold it")
        error.position = call.site  # type: ignore[attr-defined]
        raise error
    return staging.whole


@dataclass(eq=False)
class CompiledPart:
    """One plan of several: what it reads and makes, as values of the whole graph."""

    compiled: Compiled
    inputs: list[Value]
    outputs: list[Value]


@dataclass(eq=False)
class CompiledControl:
    """A call that holds graphs, with the stages of each."""

    call: Call
    graphs: list[tuple[Graph, Staging]]


@dataclass(eq=False)
class Staging:
    """Plans, and what runs between them, in order: calls of host ops and of control ops."""

    stages: list[CompiledPart | CompiledControl | Call]
    inputs: list[Value]
    outputs: list[Value]

    @property
    def whole(self) -> Compiled | None:
        """The only plan, where there are no host ops."""
        only = self.stages[0] if len(self.stages) == 1 else None
        return only.compiled if isinstance(only, CompiledPart) else None


def compile_stages(
    graph: Graph, target: Target, *, scope: SizeScope | None = None, fuse: bool = True
) -> Staging:
    """As `compile_plan`, for graphs with host ops too."""
    primitive, stored = decompose(graph)
    kept = {(id(v.call), v.index) for values in ([] if fuse else stored) for v in values}
    stages: list[CompiledPart | CompiledControl | Call] = []
    for stage in cut(primitive):
        if isinstance(stage, Part):
            stage = stage.in_reals()
            found = _compile_primitives(stage.graph, stage.boundaries(kept), target, scope)
            stages.append(CompiledPart(found, stage.inputs, stage.outputs))
        elif stage.op.kind == "control":
            held = [a for a in stage.attrs.values() if isinstance(a, Graph)]
            inner = [(g, compile_stages(g, target, scope=scope, fuse=fuse)) for g in held]
            stages.append(CompiledControl(stage, inner))
        else:
            stages.append(stage)
    return Staging(stages, primitive.inputs, primitive.outputs)


@dataclass(eq=False)
class Kept:
    """A plan that reads packed operands made of inputs that stay the same, and the plan that packs.

    `main` has them as further inputs; `packs` takes the inputs numbered `constants`.
    """

    main: Compiled
    packs: Compiled
    constants: list[int]


def compile_kept(
    graph: Graph, target: Target, constants: Sequence[int], *, scope: SizeScope | None = None
) -> Kept | None:
    """A graph whose inputs `constants` (numbers) stay the same from run to run; None where nothing
    is gained by knowing that.
    """
    primitive, _ = decompose(graph)
    parts = list(cut(primitive))
    part = parts[0].in_reals() if len(parts) == 1 and isinstance(parts[0], Part) else None
    if part is None or len(part.graph.inputs) != len(graph.inputs):
        return None
    inputs = [part.graph.inputs[n] for n in constants]
    names = frozenset((id(v.call), v.index) for v in inputs)
    kept: list[Lowered] = []
    main = _compile_primitives(part.graph, [], target, scope, names, kept)
    if not kept:
        return None
    assembly = Assembly(Plan(scope), target)
    assembly.place_inputs(inputs)
    for number, pack in enumerate(kept):
        made = pack.buffers[-1]
        place = assembly.buffer(OUTPUT, number, made.spec.nbytes)
        assembly.places[id(made.call), made.index] = place
    for pack in kept:
        assembly.add(pack)
    packs = assembly.compiled(inputs, [pack.buffers[-1] for pack in kept])
    return Kept(main, packs, list(constants))


def _compile_primitives(
    primitive: Graph,
    stored: list[Value],
    target: Target,
    scope: SizeScope | None,
    constants: frozenset[tuple[int, int]] = frozenset(),
    kept: list[Lowered] | None = None,
) -> Compiled:
    """`kept` gets the packs of operands that the plan then has as further inputs."""
    boundaries = {(id(v.call), v.index) for v in stored if v.op.kind in STORED_KINDS}
    fusion = Fusion(primitive, boundaries)
    assembly = Assembly(Plan(scope), target)
    inputs = list(primitive.inputs)
    assembly.place_inputs(inputs)
    copied = _place_outputs(primitive, assembly)
    groups = [(group, oriented(_lowered(group, fusion))) for group in fusion.order()]
    packing = Packing([lowered for _, lowered in groups], target, constants)
    for group, lowered in groups:
        with _named(group):
            for source, out in lowered.copies:
                if hint(out.spec.nbytes) >= LEAST_DONATED:
                    assembly.add_checks(lowered)
                assembly.add(copy_kernel(source, out, fusion))
            launches = packing.apply(lowered)
            given = [pack.buffers[-1] for pack in packing.kept]
            assembly.place_inputs(given, len(primitive.inputs))
            for one in launches:
                assembly.add(one)
    for v, target_value in copied:
        assembly.add(copy_kernel(v, target_value, fusion))
    if kept is not None:
        kept += packing.kept
    inputs += [pack.buffers[-1] for pack in packing.kept]
    return assembly.compiled(inputs, primitive.outputs)


def _lowered(group: Group, fusion: Fusion) -> Lowered:
    with _named(group):
        return lower(group, fusion)


@contextmanager
def _named(group: Group) -> Iterator[None]:
    """Failures inside are CompileErrors that name the group and where it was recorded."""
    try:
        yield
    except RabbetError:
        raise
    except Exception as failure:
        names = "+".join(c.op.name for c in group.calls)
        error = CompileError(f"compiling {names}: {type(failure).__name__}: {failure}")
        error.position = group.calls[0].site  # type: ignore[attr-defined]
        raise error from failure


def _bytes_of(dim: Dim) -> int:
    """The bytes of a buffer as far as they matter for order: a size that varies may get large."""
    return dim if isinstance(dim, int) else max(hint(dim), LEAST_DONATED)


def _place_outputs(graph: Graph, assembly: Assembly) -> list[tuple[Value, Value]]:
    """Give every output its buffer; outputs that share memory with an input or another output are
    copied.
    """
    copies: list[tuple[Value, Value]] = []
    for number, v in enumerate(graph.outputs):
        base = access.storage(v)
        key = (id(base.call), base.index)
        place = assembly.buffer(OUTPUT, number, v.spec.nbytes)
        if key in assembly.places:
            again = _Again(v, number)
            assembly.places[id(again.call), again.index] = place
            copies.append((v, again))
        else:
            assembly.places[key] = place
    return copies


class _Again(Value):
    """A second place in memory for a value that is an output twice, or an input handed through."""

    __slots__ = ("original",)

    def __init__(self, v: Value, number: int) -> None:
        super().__init__(v.call, -1 - number)  # a key of its own
        self.original = v

    @property
    def spec(self) -> Spec:
        return self.original.spec

"""Graph -> Plan and kernels: the table of contents of the compiler.

decompose -> fuse -> lower -> (kernels, plan). Machine code is made by the KernelStore; nothing here
knows a machine, it is given one. A graph with host ops becomes several plans (`compile_stages`),
one with control ops a plan with plans inside (`Filling`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from rabbet.base.errors import CompileError, RabbetError
from rabbet.base.sizes import Dim, SizeScope, hint
from rabbet.base.spec import Spec
from rabbet.base.target import Target
from rabbet.graph.value import Builder, Call, Graph, Value
from rabbet.kernel import access
from rabbet.kernel.fuse import Fusion
from rabbet.kernel.group import Group
from rabbet.kernel.layout import laid_out
from rabbet.kernel.loops import Kernel
from rabbet.kernel.lower import Lowered, copy_kernel, lower
from rabbet.runtime.arrange import LEAST_DONATED
from rabbet.runtime.assembly import Assembly, Compiled
from rabbet.runtime.packing import Packing, prepared
from rabbet.runtime.plan import Plan
from rabbet.transform.decompose import decompose
from rabbet.transform.host import Key, Part, cut

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
        does = "runs on the host" if isinstance(between, Call) else "holds what runs on the host"
        error = CompileError(f"{call.op.name} {does}: native code cannot hold it")
        error.position = call.site
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
    """A call that holds graphs with host ops in them, with the stages of each."""

    call: Call
    graphs: list[tuple[Graph, Staging]]


@dataclass(eq=False)
class Staging:
    """Plans, and what runs between them, in order: calls of host ops, and what holds some."""

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
    return _stages_of(graph, Filling(target, scope, fuse))


def _stages_of(graph: Graph, filling: Filling) -> Staging:
    primitive, kept = filling.primitives(graph)
    stages: list[CompiledPart | CompiledControl | Call] = []
    for stage in cut(primitive, filling.on_host):
        if isinstance(stage, Part):
            found = filling.compiled(stage.graph, _keys(stage.boundaries(kept)))
            stages.append(CompiledPart(found, stage.inputs, stage.outputs))
        elif stage.op.kind == "control":
            inner = [(g, _stages_of(g, filling)) for g in stage.graphs()]
            stages.append(CompiledControl(stage, inner))
        else:
            stages.append(stage)
    return Staging(stages, primitive.inputs, primitive.outputs)


# ---- filling plans ------------------------------------------------------------------------------


class Filling:
    """How graphs become plans: each is cut at its control ops, what lies between them is fused and
    lowered into the one plan, and the graphs they hold are plans inside it.
    """

    def __init__(self, target: Target, scope: SizeScope | None, fuse: bool) -> None:
        self.target = target
        self.scope = scope
        self.fuse = fuse
        self.known: dict[int, tuple[Graph, Graph, set[Key]]] = {}
        self.inputs = 0  # of the whole graph; packed operands that are given follow them
        self.constants: dict[Key, int] = {}  # inputs of the whole that stay the same: their numbers
        self.packs: list[tuple[Lowered, list[int]]] = []  # of these alone, with their numbers

    def primitives(self, graph: Graph) -> tuple[Graph, set[Key]]:
        """The graph in primitives, and which of its values must be stored in any case."""
        if id(graph) not in self.known:
            primitive, stored = decompose(graph)
            kept = set() if self.fuse else _keys(v for values in stored for v in values)
            self.known[id(graph)] = (graph, primitive, kept)
        return self.known[id(graph)][1:]

    def on_host(self, call: Call) -> bool:
        """True where no plan can hold the call: a host op, or one inside the graphs it holds."""
        inner = [self.primitives(g)[0] for g in call.graphs()]
        return call.op.kind == "host" or any(self.on_host(c) for g in inner for c in g.calls())

    def compiled(self, graph: Graph, kept: set[Key]) -> Compiled:
        """The plan of a graph in primitives without host ops."""
        assembly = Assembly(Plan(self.scope), self.target)
        self.fill(assembly, graph, kept)
        return assembly.compiled(graph.inputs, graph.outputs)

    def fill(self, assembly: Assembly, graph: Graph, kept: set[Key]) -> None:
        """All launches of a graph; what passes from part to part lies in the arena."""
        assembly.place_inputs(graph.inputs)
        results = _Results(graph)
        for stage in cut(graph, lambda call: call.op.kind == "control"):
            if isinstance(stage, Part):
                self._fill_part(assembly, stage, kept, results)
                continue
            for v in stage.outputs:
                assembly.place_result(v, results.number(v))
            assembly.add_control(stage, [self.body(assembly, g) for g in stage.graphs()])
        left = results.handed_through()
        if left is not None:
            self._fill_part(assembly, left, set(), results)

    def _fill_part(
        self, assembly: Assembly, stage: Part, kept: set[Key], results: _Results
    ) -> None:
        """The launches of what lies between control ops; its inputs have their memory."""
        part = stage.in_reals()
        if not kept:
            graph = laid_out(part.graph)
            part = Part(graph, part.inputs, part.outputs, part.made)
        constants: dict[Key, int] = {}
        for v, whole in zip(part.graph.inputs, part.inputs, strict=True):
            assembly.same_place(v, whole)
            number = self.constants.get((id(whole.call), whole.index))
            if number is not None:
                constants[id(v.call), v.index] = number
        numbers = [results.number(v) for v in part.outputs]
        first = self.inputs + len(self.packs)
        boundaries = part.boundaries(kept)
        places, packs = _fill_launches(
            assembly, part.graph, numbers, boundaries, frozenset(constants), first
        )
        for v, place in zip(part.outputs, places, strict=True):
            assembly.places[id(v.call), v.index] = place
        assembly.parts.append(part)
        for pack in packs:
            read = pack.arguments.buffers
            self.packs.append((pack, [constants[id(v.call), v.index] for v in read]))

    def body(self, assembly: Assembly, graph: Graph) -> Assembly:
        """The complete plan of a graph that a call holds."""
        body = assembly.nested()
        self.fill(body, *self.primitives(graph))
        body.arrange()
        return body


class _Results:
    """Which outputs of a graph have no memory yet."""

    def __init__(self, graph: Graph) -> None:
        self.waiting: dict[Key, list[int]] = {}
        self.values = graph.outputs
        for number, v in enumerate(graph.outputs):
            self.waiting.setdefault((id(v.call), v.index), []).append(number)

    def number(self, v: Value) -> int | None:
        """The first output that is `v`, which is given memory now; None: no other is."""
        numbers = self.waiting.get((id(v.call), v.index))
        return numbers.pop(0) if numbers else None

    def handed_through(self) -> Part | None:
        """What is left when all is made: inputs, and values that are an output twice."""
        left = [self.values[n] for n in sorted(n for ns in self.waiting.values() for n in ns)]
        if not left:
            return None
        builder = Builder()
        given = [builder.input(v.spec) for v in left]
        return Part(Graph(given, given), left, left)


def _keys(values: Iterable[Value]) -> set[Key]:
    return {(id(v.call), v.index) for v in values}


def _fill_launches(
    assembly: Assembly,
    graph: Graph,
    numbers: Sequence[int | None],
    stored: Sequence[Value],
    constants: frozenset[Key],
    first: int,
) -> tuple[list[int], list[Lowered]]:
    """Launch everything that computes the outputs of a graph without host and control ops.

    `numbers` of the outputs, None for one that only later launches read. Returns the outputs'
    places, and the packs of operands among `constants`, inputs of the plan from `first` on.
    """
    boundaries = _keys(v for v in stored if v.op.kind in STORED_KINDS)
    fusion = Fusion(graph, boundaries)
    places, copied = _place_outputs(graph, numbers, assembly)
    groups = [
        (group, prepared(_lowered(group, fusion), assembly.target, constants))
        for group in fusion.order()
    ]
    packing = Packing([lowered for _, lowered in groups], assembly.target, constants)
    for group, lowered in groups:
        with _named(group):
            for source, out in lowered.copies:
                if hint(out.spec.nbytes) >= LEAST_DONATED:
                    assembly.add_checks(lowered)
                assembly.add(copy_kernel(source, out, fusion))
            launches = packing.apply(lowered)
            given = [pack.buffers[-1] for pack in packing.kept]
            assembly.place_inputs(given, first)
            for one in launches:
                assembly.add(one)
    for v, target_value in copied:
        assembly.add(copy_kernel(v, target_value, fusion))
    return places, packing.kept


@dataclass(eq=False)
class PackPlan:
    """The plan that puts one operand into panels: its only launch, and what it is told.

    Equal kernels with equal sizes make the same of the same inputs.
    """

    compiled: Compiled
    constants: list[int]  # the numbers of the graph's inputs that it takes
    sizes: list[Dim]

    @property
    def kernel(self) -> Kernel:
        """What packs."""
        return self.compiled.kernels[0]


@dataclass(eq=False)
class Kept:
    """A plan that reads packed operands made of inputs that stay the same, and what packs each.

    `main` has them as further inputs; of the graph's own it reads those numbered `read`.
    """

    main: Compiled
    packs: list[PackPlan]
    read: frozenset[int]


def compile_kept(
    graph: Graph, target: Target, constants: Sequence[int], *, scope: SizeScope | None = None
) -> Kept | None:
    """A graph whose inputs `constants` (numbers) stay the same from run to run; None where it needs
    several plans. Bodies of control ops pack what they read themselves.
    """
    filling = Filling(target, scope, fuse=True)
    primitive, _ = filling.primitives(graph)
    if any(filling.on_host(call) for call in primitive.calls()):
        return None
    filling.inputs = len(primitive.inputs)
    given = [(n, primitive.inputs[n]) for n in constants]
    filling.constants = {(id(v.call), v.index): n for n, v in given}
    whole = Assembly(Plan(scope), target)
    filling.fill(whole, primitive, set())
    panels = [pack.buffers[-1] for pack, _ in filling.packs]
    main = whole.compiled([*primitive.inputs, *panels], primitive.outputs)
    packs = [_pack_plan(pack, numbers, target, scope) for pack, numbers in filling.packs]
    return Kept(main, packs, frozenset(whole.plan.inputs_read()))


def _pack_plan(
    pack: Lowered, numbers: list[int], target: Target, scope: SizeScope | None
) -> PackPlan:
    pack = pack.compact()
    read, made = pack.arguments.buffers, pack.buffers[-1]
    assembly = Assembly(Plan(scope), target)
    assembly.place_inputs(read)
    assembly.place_result(made, 0)
    assembly.add(pack)
    return PackPlan(assembly.compiled(read, [made]), numbers, list(pack.dims))


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
        error.position = group.calls[0].site
        raise error from failure


def _place_outputs(
    graph: Graph, numbers: Sequence[int | None], assembly: Assembly
) -> tuple[list[int], list[tuple[Value, Value]]]:
    """Give every output its buffer; the places, and what is to be copied: outputs with a number
    that share memory with an input or another output.
    """
    places: list[int] = []
    copies: list[tuple[Value, Value]] = []
    for position, (v, number) in enumerate(zip(graph.outputs, numbers, strict=True)):
        base = access.storage(v)
        key = (id(base.call), base.index)
        if key not in assembly.places:
            places.append(assembly.place_result(base, number))
        elif number is None:
            places.append(assembly.places[key])
        else:
            again = _Again(v, position)
            places.append(assembly.place_result(again, number))
            copies.append((v, again))
    return places, copies


class _Again(Value):
    """A second place in memory for a value that is an output twice, or an input handed through."""

    __slots__ = ("original",)

    def __init__(self, v: Value, number: int) -> None:
        super().__init__(v.call, -1 - number)  # a key of its own
        self.original = v

    @property
    def spec(self) -> Spec:
        return self.original.spec

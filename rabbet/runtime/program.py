"""Program: everything needed to run a graph, whichever engine computes it."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import rabbet.base
from rabbet import targets
from rabbet.base.config import config
from rabbet.base.pack import Pack
from rabbet.base.sizes import SizeScope
from rabbet.base.target import Target
from rabbet.codegen.store import KernelStore
from rabbet.graph import interpret
from rabbet.graph.value import Call, Graph
from rabbet.runtime import _runtime, buffers, saved
from rabbet.runtime.background import Coming, Request, background, is_wanted
from rabbet.runtime.compile import CompiledPart, Staging, compile_stages
from rabbet.runtime.compile import compile_kept as compile_kept_plans
from rabbet.runtime.control import ControlProgram
from rabbet.runtime.errors import IndexFailure
from rabbet.runtime.plan import CallFacts, facts_of
from rabbet.runtime.saved import Launchable
from rabbet.runtime.staged import StagedProgram


class Program(Protocol):
    """Runs a graph: buffers of the inputs in, buffers of the outputs out."""

    def run(self, symbols: tuple[int, ...], inputs: Sequence[Any]) -> list[Any]:
        """The outputs for these symbol values."""
        ...

    def accepts(self, symbols: tuple[int, ...]) -> bool:
        """True where the program may run for these symbol values."""
        ...


class ReferenceProgram:
    """The NumPy reference, one op at a time: the oracle, never the product."""

    def __init__(self, graph: Graph, scope: SizeScope | None) -> None:
        self.graph = graph
        self.scope = scope

    def accepts(self, symbols: tuple[int, ...]) -> bool:
        """True where what the graph asked of its sizes has the same answers."""
        return self.scope is None or self.scope.holds(symbols)

    def run(self, symbols: tuple[int, ...], inputs: Sequence[Any]) -> list[Any]:
        """The outputs by interpretation."""
        arrays = [
            buffers.to_numpy(b, _shape(v.shape, symbols), v.dtype)
            for b, v in zip(inputs, self.graph.inputs, strict=True)
        ]
        outputs = interpret.run(self.graph, arrays, symbols)
        return [buffers.from_numpy(o, copy=True) for o in outputs]


class CompiledProgram:
    """A plan with machine code, bound to sizes on demand and run by the native runtime."""

    def __init__(self, program: Launchable, addresses: list[int], keep: Any) -> None:
        self.words = program.words
        self.ops = program.ops
        self.sites = program.sites
        self.native = _runtime.Program(program.words, addresses, [], keep)
        self.bound: dict[tuple[int, ...], Any] = {}

    def accepts(self, symbols: tuple[int, ...]) -> bool:
        """True where the program's guards hold for these sizes."""
        try:
            self.bind(symbols)
        except _runtime.GuardError:
            return False
        return True

    def bind(self, symbols: tuple[int, ...]) -> Any:
        """The program for these symbol values (kept)."""
        bound = self.bound.get(symbols)
        if bound is None:
            if len(self.bound) >= BOUND_KEPT:
                self.bound.pop(next(iter(self.bound)), None)
            bound = self.bound[symbols] = self.native.bind(symbols)
        return bound

    def run(self, symbols: tuple[int, ...], inputs: Sequence[Any]) -> list[Any]:
        """The outputs, in fresh buffers."""
        bound = self.bind(symbols)
        outputs = [buffers.Buffer(n) for n in bound.output_bytes]
        try:
            bound.run(inputs, outputs)
        except _runtime.IndexFailure as failure:
            raise self.explain_failure(failure) from None
        return outputs

    def run_timed(
        self, symbols: tuple[int, ...], inputs: Sequence[Any], times: list[int]
    ) -> list[Any]:
        """The outputs; nanoseconds of each kernel are appended to `times`."""
        bound = self.bind(symbols)
        outputs = [buffers.Buffer(n) for n in bound.output_bytes]
        try:
            times += bound.profile(inputs, outputs)
        except _runtime.IndexFailure as failure:
            raise self.explain_failure(failure) from None
        return outputs

    def facts(self, symbols: tuple[int, ...]) -> list[CallFacts]:
        """Scalar operations and bytes of each kernel."""
        return facts_of(self.words, symbols)

    def explain_failure(self, failure: Any) -> IndexFailure:
        """The failure with the position of the op that met it."""
        position = next(iter(self.sites[failure.call]), -1)
        return IndexFailure(
            position, failure.element, failure.value, failure.extent, failure.committed
        )


BOUND_KEPT = 16
Told = Callable[[Graph, SizeScope | None, bool, tuple[Any, ...] | None], None]
# Told of each graph that the reference engine takes: what a compiler would have been given.
observers: list[Told] = []
_stores: dict[Target, KernelStore] = {}


def store_of(target: Target) -> KernelStore:
    """The kernel store of a target, made once."""
    if target not in _stores:
        _stores[target] = KernelStore(target, pack=pack_of(target))
    return _stores[target]


def cache_problems() -> list[str]:
    """Why compiled code does not outlive this process, where it does not."""
    return sorted({store.disk.problem for store in _stores.values() if store.disk.problem})


def pack_of(target: Target) -> Pack | None:
    """The ready kernels that came with the package for a target; None where they are not wanted."""
    if config.packs == "none":
        return None
    folder = Path(config.packs) if config.packs else Path(rabbet.base.__file__).parents[1] / "packs"
    return Pack(folder / f"{target.name}.pack")


def host_target() -> Target:
    """The target of this process: RABBET_TARGET, or the host's own."""
    return targets.find(config.target) if config.target else targets.host()


def compile_graph(graph: Graph, *, scope: SizeScope | None, fuse: bool) -> Program:
    """The program of a graph for the configured engine."""
    return find_or_compile(None, lambda: (graph, scope), fuse=fuse)


def find_or_compile(
    parts: tuple[Any, ...] | None,
    graph: Callable[[], tuple[Graph, SizeScope | None]],
    *,
    fuse: bool,
) -> Program:
    """The program described by `parts`, from disk if it is there, else compiled from `graph()`."""
    if config.engine == "reference":
        made, scope = graph()
        for observer in observers:
            observer(made, scope, fuse, parts)
        return ReferenceProgram(made, scope)
    store = store_of(host_target())
    key = None if parts is None else _key(parts, fuse, store)
    found = None if key is None else _stored(key, store)
    return found or make(key, graph, fuse=fuse, store=store)


def ready_programs(family: bytes) -> list[saved.Ready]:
    """What the pack has for one op with such operands."""
    if config.engine == "reference":
        return []
    store = store_of(host_target())
    data = None if store.pack is None else store.pack.get(saved.ready_key(family, store.target))
    return [] if data is None else saved.decode_ready(data)


def loaded(program: Launchable) -> CompiledProgram | None:
    """The program with its kernels mapped; None where one of them is gone."""
    found = store_of(host_target()).load_named(program.kernels)
    return None if found is None else CompiledProgram(program, *found)


def find_or_ask(
    parts: tuple[Any, ...],
    graph: Callable[[], tuple[Graph, SizeScope | None]],
    written: Callable[[], bytes | None],
    *,
    fuse: bool,
) -> Program | Coming:
    """As `find_or_compile`; Coming while another process compiles it (see background.py).

    `written` gives the graph as a parcel, or None where no other process can read it.
    """
    store = store_of(host_target())
    if config.engine == "reference" or not is_wanted() or store.disk.problem:
        return find_or_compile(parts, graph, fuse=fuse)
    key = _key(parts, fuse, store)
    coming = Coming(key)
    if background.has(key):
        return coming
    found = _stored(key, store)
    if found is not None or background.is_over(key):
        return found or make(key, graph, fuse=fuse, store=store)
    if background.is_full:
        return coming
    request = written()
    if request is None:  # for what this process alone knows
        return make(key, graph, fuse=fuse, store=store)
    head = Request(key, fuse, saved.made_for(store.target), str(store.disk.directory))
    background.ask(key, head, request)
    return coming


def _key(parts: tuple[Any, ...], fuse: bool, store: KernelStore) -> str:
    return saved.program_key((*parts, fuse), store.target)


def _stored(key: str, store: KernelStore) -> CompiledProgram | None:
    """The program of this key on disk or in the pack, with its kernels."""
    program = saved.load(key, store)
    found = None if program is None else store.load_named(program.kernels)
    return None if program is None or found is None else CompiledProgram(program, *found)


def make(
    key: str | None,
    graph: Callable[[], tuple[Graph, SizeScope | None]],
    *,
    fuse: bool,
    store: KernelStore,
) -> Program:
    """Compile `graph()` and keep the program on disk, if it has a key."""
    with _said_when_long():
        made, scope = graph()
        staging = compile_stages(made, store.target, scope=scope, fuse=fuse)
        if staging.whole is None:
            return _staged(staging, store, scope)
        program = saved.launchable(staging.whole, store)
        compiled = _loaded(program, store)
    if key is not None:
        saved.save(key, program, store)
    return compiled


def _loaded(program: Launchable, store: KernelStore) -> CompiledProgram:
    found = store.load_named(program.kernels)
    assert found is not None, "kernels at hand can always be made"
    return CompiledProgram(program, *found)


class PackProgram(NamedTuple):
    """Puts one operand into panels, made of the inputs of a program numbered `constants`.

    Of the same inputs, packs of one name make the same.
    """

    name: str
    constants: list[int]
    program: CompiledProgram

    def panels(self, symbols: tuple[int, ...], inputs: Mapping[int, Any]) -> Any:
        """The buffer of the panels; `inputs` are the program's, by number."""
        return self.program.run(symbols, [inputs[n] for n in self.constants])[0]


class Packed(NamedTuple):
    """A program whose further inputs, behind those of its graph, are panels of constant ones."""

    main: Program
    packs: list[PackProgram]


def find_or_compile_packed(
    parts: tuple[Any, ...],
    graph: Callable[[], tuple[Graph, SizeScope | None]],
    constants: Sequence[int],
) -> Packed:
    """As `find_or_compile`, for inputs `constants` (numbers) that stay the same between runs."""
    if config.engine != "reference":
        target = host_target()
        store = store_of(target)
        key = saved.program_key((*parts, "packed", tuple(constants)), target)
        found = _load_packed(saved.load_packed(key, store), store)
        if found is not None:
            return found
        with _said_when_long():
            made, scope = graph()
            wanted = _kept(made, scope, constants, store)
            if wanted is not None:
                saved.save_packed(key, wanted, store)
                found = _load_packed(wanted, store)
                assert found is not None, "kernels at hand can always be made"
                return found
        return Packed(find_or_compile(None, lambda: (made, scope), fuse=True), [])
    return Packed(find_or_compile(parts, graph, fuse=True), [])


def compile_kept(graph: Graph, scope: SizeScope | None, constants: Sequence[int]) -> Packed | None:
    """A program for a graph whose inputs `constants` stay the same from run to run; None where
    that gains nothing.
    """
    if config.engine == "reference":
        return None
    store = store_of(host_target())
    wanted = _kept(graph, scope, constants, store)
    return _load_packed(wanted, store) if wanted is not None and wanted.packs else None


def _kept(
    graph: Graph, scope: SizeScope | None, constants: Sequence[int], store: KernelStore
) -> saved.Packed | None:
    kept = compile_kept_plans(graph, store.target, constants, scope=scope)
    if kept is None:
        return None
    packs = []
    for pack in kept.packs:
        program = saved.launchable(pack.compiled, store)
        name = f"{program.kernels[0].key} {pack.sizes}"
        packs.append(saved.Pack(name, pack.constants, program))
    return saved.Packed(saved.launchable(kept.main, store), packs)


def _load_packed(wanted: saved.Packed | None, store: KernelStore) -> Packed | None:
    """None where a kernel is gone."""
    if wanted is None:
        return None
    programs = [wanted.main, *(pack.program for pack in wanted.packs)]
    found = store.load_named([w for p in programs for w in p.kernels])
    if found is None:
        return None
    main, *packs = (_loaded(program, store) for program in programs)
    named = zip(wanted.packs, packs, strict=True)
    return Packed(main, [PackProgram(pack.name, pack.constants, made) for pack, made in named])


def _staged(staging: Staging, store: KernelStore, scope: SizeScope | None) -> StagedProgram:
    """The program of a graph with host ops or control ops."""
    works: list[Any] = []
    for stage in staging.stages:
        if isinstance(stage, Call):
            works.append((stage, stage.inputs, stage.outputs))
        elif isinstance(stage, CompiledPart):
            program = _loaded(saved.launchable(stage.compiled, store), store)
            works.append((program, stage.inputs, stage.outputs))
        else:
            programs = [(g, _of_staging(s, store, scope)) for g, s in stage.graphs]
            call = stage.call
            works.append((ControlProgram(call, programs), call.inputs, call.outputs))
    return StagedProgram(staging.inputs, staging.outputs, works, scope)


def _of_staging(staging: Staging, store: KernelStore, scope: SizeScope | None) -> Any:
    if staging.whole is None:
        return _staged(staging, store, scope)
    return _loaded(saved.launchable(staging.whole, store), store)


@contextmanager
def _said_when_long() -> Iterator[None]:
    """On a terminal, say so when a compilation takes longer than a second."""
    if not sys.stderr.isatty():
        yield
        return
    notice = threading.Timer(1.0, sys.stderr.write, ("rabbet: compiling ...\n",))
    notice.daemon = True
    notice.start()
    try:
        yield
    finally:
        notice.cancel()


def _shape(shape: tuple[Any, ...], symbols: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(d if isinstance(d, int) else d.evaluate(symbols) for d in shape)

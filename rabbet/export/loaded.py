"""A program file in memory, callable: `rb.load_program`."""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from rabbet.base import sizes
from rabbet.base.dtypes import DType, dtype_of
from rabbet.base.errors import DTypeError, FormatError, IndexRangeError, RabbetError, ShapeError
from rabbet.base.shapes import show
from rabbet.base.sizes import SizeScope
from rabbet.base.spec import intern
from rabbet.export.graph import build, used_weights
from rabbet.export.portable import Entry, Named, guard_holds, make_scope, show_form, to_dim
from rabbet.export.read import PACKAGE_VERSION, ProgramFile, read_program
from rabbet.graph.value import Graph
from rabbet.recorder import leaf_node
from rabbet.runtime import buffers
from rabbet.runtime.errors import IndexFailure
from rabbet.runtime.program import (
    PackProgram,
    Program,
    ReferenceProgram,
    find_or_compile_packed,
)
from rabbet.tensor import Tensor, asarray, value_of

VERSIONS_KEPT = 16


@dataclass(frozen=True)
class Port:
    """An input or output: its name, dtype and shape; sizes that may vary are given by name."""

    name: str
    dtype: DType
    shape: tuple[int | str, ...]

    def __str__(self) -> str:
        return f"{self.name}: {self.dtype.name}{show(self.shape)}"


PanelKey: TypeAlias = tuple[str, tuple[int, ...]]  # what packed, and the numbers of the weights


@dataclass(eq=False)
class Version:
    """The program compiled for sizes that answer its questions alike."""

    program: Program
    exact: tuple[int, ...] | None  # the only sizes it is for, or None: the program's guards decide
    panels: list[tuple[PanelKey, Any]]  # of weights: further inputs of the program

    def fits(self, symbols: tuple[int, ...]) -> bool:
        """True where it may run with these sizes."""
        if self.exact is not None:
            return self.exact == symbols
        try:
            return self.program.accepts(symbols)
        except RuntimeError:  # a size of its plan overflows or divides by zero
            return False


class LoadedProgram:
    """One entry of a program file, ready to be called; safe to call from several threads.

    Positional arguments are the inputs in order, keywords are inputs by name; arrays must have the
    input's dtype. The result has the form the model's result had: a Tensor, or a tuple, list or
    dict of them.

    >>> program = rb.load_program("digits.rbt")
    >>> program(images).shape
    (32, 10)
    """

    def __init__(self, file: ProgramFile, entry: Entry) -> None:
        self.file = file
        self.entry = entry
        self.inputs = tuple(_port(n) for n in entry.inputs)
        self.outputs = tuple(_port(n) for n in entry.outputs)
        self._versions: list[Version] = []
        self._weights = [file.buffer(file.program.weights[i]) for i in used_weights(entry)]
        self._lock = threading.Lock()

    @property
    def name(self) -> str:
        """The entry's name."""
        return self.entry.name

    @property
    def symbols(self) -> tuple[str, ...]:
        """The names of the sizes that may vary."""
        return tuple(name for name, _ in self.entry.symbols)

    @property
    def packed_bytes(self) -> int:
        """Bytes of the weights that are in memory a second time, in the panels that products read.

        All versions and threads share them; they are made with the first version that reads them.
        """
        with self._lock:
            return sum(b.nbytes for b in self._panels().values())

    @property
    def entries(self) -> tuple[str, ...]:
        """The names of all entries of the file."""
        return tuple(e.name for e in self.file.program.entries)

    def __repr__(self) -> str:
        inputs, outputs = (", ".join(map(str, ports)) for ports in (self.inputs, self.outputs))
        return f"<program {self.name}({inputs}) -> {outputs}>"

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Compute; raises TypeError, ShapeError, DTypeError for arguments that do not fit."""
        flat = self.run(self._arrange(args, kwargs))
        return _assemble(self.entry.structure, flat)

    def run(self, values: Sequence[Any]) -> list[Tensor]:
        """All outputs, flat, for all inputs in order."""
        given = [_input(port, v) for port, v in zip(self.inputs, values, strict=True)]
        symbols = self._symbols_of([shape for shape, _ in given])
        version = self.version(symbols)
        try:
            panels = (b for _, b in version.panels)
            inputs = [*(b for _, b in given), *self._weights, *panels]
            made = version.program.run(symbols, inputs)
        except IndexFailure as failure:
            raise self._explain(failure) from None
        return [
            Tensor(leaf_node(intern(self._shape(n, symbols), n.spec.dtype), b))
            for n, b in zip(self.entry.outputs, made, strict=True)
        ]

    def version(self, symbols: tuple[int, ...]) -> Version:
        """The compiled program for these sizes, made at the first call that needs it."""
        with self._lock:
            found = next((v for v in self._versions if v.fits(symbols)), None)
            if found is None:
                found = self._compile(symbols)
                if not found.fits(symbols):
                    raise ShapeError(f"{self.name}: the sizes {self._shown(symbols)} are too large")
                self._versions.insert(0, found)
                del self._versions[VERSIONS_KEPT:]
            return found

    def _compile(self, symbols: tuple[int, ...]) -> Version:
        self._check_guards(symbols)
        parts = (PACKAGE_VERSION, self.file.header.graph_digest.hex(), self.name, symbols)

        def graph() -> tuple[Graph, SizeScope | None]:
            try:
                built = build(self.file.program, self.entry, symbols)
            except FormatError as error:
                shown = self._shown(symbols)
                raise ShapeError(f"{self.name}: does not work with {shown}: {error}") from None
            return built.graph, built.scope

        first = len(self.inputs)
        constants = range(first, first + len(self._weights))
        program, packs = find_or_compile_packed(parts, graph, constants)
        interpreted = isinstance(program, ReferenceProgram)
        return Version(program, symbols if interpreted else None, self._packed(packs, symbols))

    def _packed(
        self, packs: Sequence[PackProgram], symbols: tuple[int, ...]
    ) -> list[tuple[PanelKey, Any]]:
        """The panels of a new version, those of other versions where they are the same."""
        known = self._panels()
        weights = dict(enumerate(self._weights, len(self.inputs)))
        found: list[tuple[PanelKey, Any]] = []
        for pack in packs:
            key = (pack.name, tuple(pack.constants))
            if key not in known:
                known[key] = pack.panels(symbols, weights)
            found.append((key, known[key]))
        if packs:
            self.file.forget()
        return found

    def _panels(self) -> dict[PanelKey, Any]:
        return {key: b for version in self._versions for key, b in version.panels}

    def _check_guards(self, symbols: tuple[int, ...]) -> None:
        named = list(zip(self.symbols, symbols, strict=True))
        _, dims = make_scope(named)
        for relation, form in self.entry.guards:
            if not guard_holds(relation, form, dims):
                shown = self._shown(symbols)
                raise ShapeError(
                    f"{self.name}: {shown} is outside what the model was exported for "
                    f"({show_guard(relation, form)})"
                )

    def _shown(self, symbols: tuple[int, ...]) -> str:
        return ", ".join(f"{n}={v}" for n, v in zip(self.symbols, symbols, strict=True))

    def _arrange(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> list[Any]:
        names = [p.name for p in self.inputs]
        if len(args) > len(names):
            raise TypeError(f"{self.name}: {len(args)} inputs given; it takes {', '.join(names)}")
        given = dict(zip(names, args, strict=False))
        for name, value in kwargs.items():
            if name not in names:
                raise TypeError(
                    f"{self.name}: there is no input {name!r}; it takes {', '.join(names)}"
                )
            if name in given:
                raise TypeError(f"{self.name}: the input {name!r} is given twice")
            given[name] = value
        for name in names:
            if name not in given:
                raise TypeError(f"{self.name}: the input {name!r} is missing")
        return [given[name] for name in names]

    def _symbols_of(self, shapes: list[tuple[int, ...]]) -> tuple[int, ...]:
        """The sizes by name, from the inputs' shapes; ShapeError where they do not fit."""
        found: dict[str, int] = {}
        for port, shape in zip(self.inputs, shapes, strict=True):
            fits = len(shape) == len(port.shape)
            for wanted, size in zip(port.shape, shape, strict=False):
                expected = found.setdefault(wanted, size) if isinstance(wanted, str) else wanted
                fits = fits and expected == size
            if not fits:
                known = ", ".join(f"{n}={v}" for n, v in found.items())
                note = f" ({known})" if known else ""
                raise ShapeError(
                    f"{self.name}: {port.name} must have shape {show(port.shape)}{note}, "
                    f"not {show(shape)}"
                )
        return tuple(found[name] for name in self.symbols)

    def _shape(self, output: Named, symbols: tuple[int, ...]) -> tuple[int, ...]:
        if not self.symbols:
            return output.spec.shape
        _, dims = make_scope(list(zip(self.symbols, symbols, strict=True)))
        return tuple(sizes.hint(to_dim(form, dims)) for form in output.spec.shape)

    def _explain(self, failure: IndexFailure) -> RabbetError:
        calls = self.entry.calls
        name = calls[failure.position].op if 0 <= failure.position < len(calls) else "index"
        layer = calls[failure.position].layer if 0 <= failure.position < len(calls) else ""
        where = f" in {layer}" if layer else ""
        return IndexRangeError(f"{self.name}: {name}{where}: {failure.said}")


def load_program(
    path: str | os.PathLike[str], entry: str | None = None, *, verify: bool = False
) -> LoadedProgram:
    """Load a program file; nothing in it is run, and it is compiled at the first call.

    `entry` names one of several entries (the first by default); `verify` checks the weights' hash
    too. Raises FormatError for a file that breaks a rule of the format, OSError if it cannot be
    read.

    >>> rb.load_program("digits.rbt").inputs[0].shape
    ('batch', 1, 8, 8)
    """
    file = read_program(path, verify=verify)
    entries = {e.name: e for e in file.program.entries}
    if entry is not None and entry not in entries:
        raise RabbetError(f"{path}: there is no entry {entry!r}; there are {', '.join(entries)}")
    return LoadedProgram(file, entries[entry] if entry is not None else file.program.entries[0])


def show_guard(relation: str, form: Any) -> str:
    """A guard as people write it: `batch != 0`, `n >= 2`."""
    if isinstance(form, tuple) and form[0] == "+" and len(form) == 3 and isinstance(form[2], int):
        return f"{show_form(form[1])} {relation} {-form[2]}"
    return f"{show_form(form)} {relation} 0"


def _port(named: Named) -> Port:
    shape = tuple(d if isinstance(d, int) else show_form(d) for d in named.spec.shape)
    return Port(named.name, named.spec.dtype, shape)


def _input(port: Port, value: Any) -> tuple[tuple[int, ...], Any]:
    """Shape and buffer of an argument; DTypeError where its dtype is another."""
    if not isinstance(value, np.ndarray | np.generic | Tensor):
        value = asarray(value)
    dtype = dtype_of(value.dtype)
    if dtype is not port.dtype:
        raise DTypeError(
            f"{port.name} must be {port.dtype.name}, not {dtype.name}; cast it: "
            f'{port.name}.astype("{port.dtype.name}")'
        )
    if isinstance(value, Tensor):
        return value.shape, value_of(value)
    array = np.ascontiguousarray(value, dtype=dtype.numpy).reshape(value.shape)
    return array.shape, buffers.from_numpy(array, copy=array.size == 0)


def _assemble(structure: Any, flat: list[Tensor]) -> Any:
    if isinstance(structure, int):
        return flat[structure]
    kind, keys, children = structure
    items = [_assemble(c, flat) for c in children]
    if kind == "dict":
        return dict(zip(keys, items, strict=True))
    return items if kind == "list" else tuple(items)

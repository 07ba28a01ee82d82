"""`rb.export`: record a model's call at a few sizes, find what they have in common, write it."""

from __future__ import annotations

import inspect
import os
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from rabbet.base.errors import ExportError, RabbetError
from rabbet.base.spec import Spec
from rabbet.base.tree import Structure
from rabbet.export.arguments import Arguments, Input, take_apart, tree_paths
from rabbet.export.compare import same_computation
from rabbet.export.portable import Entry, Portable
from rabbet.export.record import Recording, record_call
from rabbet.export.symbolic import Collected, Key, Sighting, unify
from rabbet.export.write import WeightData, write_program
from rabbet.nn.modes import modes_kept
from rabbet.nn.module import Module
from rabbet.tensor import value_of


def export(
    model: Any,
    example_args: Any,
    path: str | os.PathLike[str],
    dynamic: Mapping[str, Any] | None = None,
    *,
    training: bool = False,
) -> Path:
    """Write the computation of `model(*example_args)` and its weights to a program file; its path.

    `model` is a Module or a function of tensors; the values of the example do not matter, shapes
    and dtypes do. `dynamic={"x": {0: "batch"}}` lets axis 0 of the input `x` have any size; axes of
    one name change together. Other arguments than tensors are fixed. The model is exported as it is
    after `eval()`, and keeps its mode itself; with `training` each part is in the mode it is in.
    Raises ExportError where the computation needs a tensor's value
    in Python, draws random numbers, or depends on a dynamic size in another way than through
    shapes; OSError if the file cannot be written.

    >>> rb.export(model, (rb.zeros((1, 64)),), "model.rbt", dynamic={"x": {0: "batch"}})
    PosixPath('model.rbt')
    """
    module = _module_of(model)
    call = model.forward if isinstance(model, Module) else model
    arguments = take_apart(call, example_args, dynamic)
    names = _weight_names(module)
    name = getattr(call, "__name__", "")
    name = name if name.isidentifier() else "forward"
    weights = Collected(names)
    with modes_kept(module) if module is not None else nullcontext():
        if module is not None and not training:
            module.eval()
        sightings = _sightings(model, module, arguments)
        entry = _entry(name, sightings, arguments, weights)
        entry.guards = _guards(model, module, arguments, sightings, entry, weights)
    for place in sightings[0].recording.assigned:
        warnings.warn(f"an update in place is not exported: {place}", stacklevel=2)
    data = [WeightData(n, role, node, index) for n, role, node, index in weights.found]
    return write_program(Path(path), [entry], data)


def _module_of(model: Any) -> Module | None:
    if isinstance(model, Module):
        return model
    owner = getattr(model, "__self__", None) if inspect.ismethod(model) else None
    if not callable(model):
        raise ExportError(f"export: a Module or a function is needed, not a {type(model).__name__}")
    return owner if isinstance(owner, Module) else None


def _weight_names(module: Module | None) -> dict[Key, tuple[str, str]]:
    names: dict[Key, tuple[str, str]] = {}
    if module is None:
        return names
    named = (("parameter", module.named_parameters()), ("buffer", module.named_buffers()))
    for role, tensors in named:
        for name, t in tensors:
            value_of(t)
            names.setdefault((t._node, t._index), (name, role))
    return names


# ---- sizes to record at -------------------------------------------------------------------------


def _trials(example: Mapping[str, int]) -> list[list[dict[str, int]]]:
    """Lists of sizes to record at, the likeliest first; several symbols never move in step."""
    start = {n: max(v, 2) for n, v in example.items()}
    numbered = list(enumerate(start.items()))
    general = [
        start,
        {n: v + 1 + i for i, (n, v) in numbered},
        {n: 2 * v + 3 + 2 * i for i, (n, v) in numbered},
        {n: 3 * v + 7 + 5 * i for i, (n, v) in numbered},
    ]
    # Sizes that must be multiples of something, as the example's are.
    multiples = [
        {n: v * (f + i * g) for i, (n, v) in numbered} for f, g in ((1, 0), (2, 1), (3, 2), (5, 3))
    ]
    return [general, multiples]


def _sightings(model: Any, module: Module | None, arguments: Arguments) -> list[Sighting]:
    """Recordings at the example's sizes and, with dynamic sizes, at some others."""
    example = arguments.symbols()
    sightings = [_record(model, module, arguments, example)]
    if not example:
        return sightings
    failure: ExportError | None = None
    for trial in _trials(example):
        more: list[Sighting] = []
        for sizes in trial:
            try:
                more += [_record(model, module, arguments, sizes)] if sizes != example else []
            except ExportError:
                raise
            except RabbetError as error:
                failure = failure or _at_sizes(error, sizes)
                break
        else:
            return sightings + more
    assert failure is not None
    raise failure


def _at_sizes(error: RabbetError, sizes: Mapping[str, int]) -> ExportError:
    shown = ", ".join(f"{n}={v}" for n, v in sizes.items())
    return ExportError(f"export: the model fails with {shown}: {error}")


def _record(
    model: Any, module: Module | None, arguments: Arguments, sizes: Mapping[str, int]
) -> Sighting:
    args, kwargs, tensors = arguments.make(sizes)
    recording = record_call(model, module, args, kwargs)
    inputs = {(t._node, t._index): i for i, t in enumerate(tensors)}
    return Sighting(tuple(sizes.values()), recording, inputs)


def _guards(
    model: Any,
    module: Module | None,
    arguments: Arguments,
    sightings: list[Sighting],
    entry: Entry,
    weights: Collected,
) -> list[tuple[str, Any]]:
    """Sizes 0 and 1 are often special: where the model is another computation then, a guard says
    so.
    """
    guards = []
    for name in arguments.symbols():
        for value in (0, 1):
            sizes = {**arguments.symbols(), name: value}
            try:
                special = _record(model, module, arguments, sizes)
            except RabbetError:
                guards.append(("!=", name if value == 0 else ("+", name, -value)))
                continue
            if not _agrees(special, arguments, sightings, entry, weights):
                guards.append(("!=", name if value == 0 else ("+", name, -value)))
    return guards


def _agrees(
    special: Sighting,
    arguments: Arguments,
    sightings: list[Sighting],
    entry: Entry,
    weights: Collected,
) -> bool:
    """True where a recording at special sizes is the computation that `entry` has for them."""
    known = Collected(weights.names, list(weights.found), dict(weights.numbers))
    try:
        _entry("", [*sightings[:-1], special, sightings[-1]], arguments, known)
        return True
    except RabbetError:
        pass  # recorded differently: x[:, -1] of a single column needs no slice
    try:
        alone = _entry("", [special], arguments, known)
        portable = Portable(known.records())
        return same_computation(portable, entry, alone, special.symbols, known.constants())
    except RabbetError:
        return False


# ---- results ------------------------------------------------------------------------------------


def _entry(
    name: str, sightings: Sequence[Sighting], arguments: Arguments, weights: Collected
) -> Entry:
    symbol_names = list(arguments.symbols())

    def spec_maker(given: Input) -> Callable[[list[Any]], Spec]:
        return lambda symbols: Spec(
            given.shape(dict(zip(symbol_names, symbols, strict=True))), given.spec.dtype
        )

    inputs = [(i.name, spec_maker(i)) for i in arguments.inputs]
    first = sightings[0].recording
    for sighting in sightings[1:]:
        if sighting.recording.structure != first.structure:
            raise ExportError("export: the form of the result depends on a dynamic size")
    entry = unify(name, sightings, symbol_names, inputs, _output_names(first), weights)
    entry.structure = _result_tree(first.structure, iter(range(len(first.results))))
    return entry


def _output_names(recording: Recording) -> list[str]:
    for result in recording.results:
        if not isinstance(result, tuple):
            raise ExportError(
                f"export: the result holds a {type(result).__name__}; only tensors can be returned"
            )
    structure = recording.structure
    if structure.kind is None:
        return ["output"]
    names = list(tree_paths("" if structure.keys else "output", structure))
    return [n.replace("output.", "output_") if not structure.keys else n for n in names]


def _result_tree(structure: Structure, numbers: Iterator[int]) -> Any:
    """The result's form for the file: a number for a leaf, else (kind, keys or None, children)."""
    if structure.kind is None:
        return next(numbers)
    children = tuple(_result_tree(c, numbers) for c in structure.children)
    if structure.keys:
        return ("dict", tuple(str(k) for k in structure.keys), children)
    return ("list" if issubclass(structure.kind, list) else "tuple", None, children)

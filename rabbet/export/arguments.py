"""The arguments of an exported call: names from the signature, example sizes, dynamic axes."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from rabbet.base.dtypes import dtype_of
from rabbet.base.errors import ExportError
from rabbet.base.shapes import show
from rabbet.base.sizes import Dim, hint
from rabbet.base.spec import Spec, intern
from rabbet.base.tree import Structure, flatten, unflatten
from rabbet.export.record import Unvalued
from rabbet.recorder import leaf_node
from rabbet.tensor import Tensor


@dataclass(eq=False)
class Input:
    """One tensor argument: `axes` maps an axis to the name of its dynamic size."""

    name: str
    spec: Spec
    axes: dict[int, str] = field(default_factory=dict)

    def shape(self, sizes: Mapping[str, Dim]) -> tuple[Dim, ...]:
        """Its shape where the dynamic sizes have these values."""
        shape = list(self.spec.shape)
        for axis, name in self.axes.items():
            shape[axis] = sizes[name]
        return tuple(shape)


@dataclass(eq=False)
class Arguments:
    """The example call taken apart: `leaves` in order, those at `positions` are the inputs."""

    structure: Structure
    leaves: list[Any]
    positions: list[int]
    inputs: list[Input]

    def symbols(self) -> dict[str, int]:
        """Each dynamic size and its value in the example."""
        return {n: hint(i.spec.shape[a]) for i in self.inputs for a, n in i.axes.items()}

    def make(
        self, sizes: Mapping[str, int]
    ) -> tuple[tuple[Any, ...], dict[str, Any], list[Tensor]]:
        """Arguments at these sizes (tensors without meaningful values), and the input tensors."""
        leaves, tensors = list(self.leaves), []
        for position, given in zip(self.positions, self.inputs, strict=True):
            spec = intern(given.shape(sizes), given.spec.dtype)
            tensors.append(Tensor(leaf_node(spec, Unvalued())))
            leaves[position] = tensors[-1]
        args, kwargs = unflatten(self.structure, leaves)
        return tuple(args), kwargs, tensors


def take_apart(
    function: Callable[..., Any], example_args: Any, dynamic: Mapping[str, Any] | None
) -> Arguments:
    """Name the tensors among the example arguments and find the dynamic axes.

    Raises ExportError for arguments the function does not take, unknown names and axes.
    """
    args, kwargs = _as_call(example_args)
    leaves, structure = flatten((args, kwargs))
    names = list(_names(function, args, kwargs))
    positions, inputs = [], []
    for position, (name, leaf) in enumerate(zip(names, leaves, strict=True)):
        if isinstance(leaf, Tensor | np.ndarray):
            positions.append(position)
            inputs.append(Input(name, Spec(tuple(leaf.shape), dtype_of(leaf.dtype))))
    if not inputs:
        raise ExportError("export: there is no tensor among the example arguments")
    _add_axes(inputs, dynamic or {})
    return Arguments(structure, leaves, positions, inputs)


def _as_call(example_args: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    if isinstance(example_args, Tensor | np.ndarray):
        return (example_args,), {}
    if isinstance(example_args, dict):
        return (), dict(example_args)
    return tuple(example_args), {}


def _names(
    function: Callable[..., Any], args: Sequence[Any], kwargs: dict[str, Any]
) -> Iterator[str]:
    """The name of every leaf: `x`, or `x.key` and `x.0` inside containers."""
    try:
        bound = inspect.signature(function).bind(*args, **kwargs)
    except TypeError as error:
        raise ExportError(
            f"export: the example arguments do not fit the signature: {error}"
        ) from None
    kinds = inspect.signature(function).parameters
    for parameter, value in bound.arguments.items():
        name = renamed(parameter)
        if kinds[parameter].kind is inspect.Parameter.VAR_KEYWORD:
            for key, one in value.items():
                yield from _paths(key, one)
        elif kinds[parameter].kind is inspect.Parameter.VAR_POSITIONAL:
            for i, one in enumerate(value):
                yield from _paths(f"{name}.{i}", one)
        else:
            yield from _paths(name, value)


def renamed(name: str) -> str:
    """Containers call their argument `input`, PyTorch's word for what is x everywhere else."""
    return "x" if name == "input" else name


def _paths(name: str, value: Any) -> Iterator[str]:
    _, structure = flatten(value)
    yield from tree_paths(name, structure)


def tree_paths(name: str, structure: Structure) -> Iterator[str]:
    """Names of the leaves of a tree called `name`."""
    if structure.kind is None:
        yield name
    for number, child in enumerate(structure.children):
        key = structure.keys[number] if structure.keys else number
        yield from tree_paths(f"{name}.{key}" if name else str(key), child)


def _add_axes(inputs: list[Input], dynamic: Mapping[str, Any]) -> None:
    known = {i.name: i for i in inputs}
    values: dict[str, int] = {}
    for given, axes in dynamic.items():
        name = given if given in known else renamed(given)
        if name not in known:
            raise ExportError(
                f"export: dynamic: there is no input {given!r}; there are {', '.join(known)}"
            )
        shape = known[name].spec.shape
        for axis, size_name in _axes(name, axes):
            if not -len(shape) <= axis < len(shape):
                raise ExportError(
                    f"export: dynamic: {name} has shape {show(shape)}, there is no axis {axis}"
                )
            if not isinstance(size_name, str) or not size_name.isidentifier():
                raise ExportError(f"export: dynamic: {size_name!r} is no name for a size")
            size = shape[axis]
            if values.setdefault(size_name, size) != size:  # type: ignore[arg-type]
                raise ExportError(
                    f"export: dynamic: {size_name!r} is {values[size_name]} and also {size} "
                    "in the example"
                )
            known[name].axes[axis % len(shape)] = size_name


def _axes(name: str, axes: Any) -> list[tuple[int, Any]]:
    if isinstance(axes, Mapping):
        return list(axes.items())
    if isinstance(axes, Sequence) and not isinstance(axes, str):
        return [(axis, size_name) for axis, size_name in enumerate(axes) if size_name is not None]
    raise ExportError(f'export: dynamic: write {{"{name}": {{0: "batch"}}}}, not {axes!r}')

"""Models as the server sees them: named inputs and outputs, arrays in and arrays out."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from rabbet.base.dtypes import DType
from rabbet.base.errors import (
    CompileError,
    InternalError,
    RabbetError,
)
from rabbet.serve.datatypes import NAMES
from rabbet.serve.errors import RequestError, malformed

Shape = tuple[int, ...]


class Port(Protocol):
    """What a program says of an input or output; a size is a number or the text of a symbol."""

    @property
    def name(self) -> str: ...
    @property
    def dtype(self) -> DType: ...
    @property
    def shape(self) -> Sequence[Any]: ...


class Program(Protocol):
    """What is served: what `rb.load_program` returns, or anything with the same face."""

    @property
    def inputs(self) -> Sequence[Port]: ...
    @property
    def outputs(self) -> Sequence[Port]: ...
    def run(self, values: Sequence[Any]) -> Sequence[Any]: ...


Load = Callable[[Path], Program]


@dataclass(frozen=True)
class TensorSpec:
    """Name, dtype and shape of an input or output: a size is an int, or a symbol's name."""

    name: str
    dtype: DType
    shape: tuple[int | str, ...]

    def describe(self) -> dict[str, Any]:
        """What the protocol's metadata says: sizes that may vary are -1."""
        shape = [size if isinstance(size, int) else -1 for size in self.shape]
        return {"name": self.name, "datatype": NAMES[self.dtype], "shape": shape}

    def check(self, shape: Shape) -> None:
        """RequestError (400) unless an array of this shape may be given here."""
        fits = len(shape) == len(self.shape) and all(
            not isinstance(wanted, int) or wanted == size
            for wanted, size in zip(self.shape, shape, strict=True)
        )
        if not fits:
            raise malformed(
                f"input {self.name!r}: the shape is {list(shape)}, the model takes {self.show()}"
            )

    def show(self) -> str:
        """The shape for messages: [batch, 1, 8, 8]."""
        return "[" + ", ".join(str(size) for size in self.shape) + "]"


class Model:
    """One version of one model, loaded. Calls come from one thread at a time.

    Raises RabbetError where the program has a dtype that the protocol does not.
    """

    def __init__(self, name: str, version: int, program: Program) -> None:
        self.name = name
        self.version = version
        self.program = program
        self.inputs = [_spec(port) for port in program.inputs]
        self.outputs = [_spec(port) for port in program.outputs]
        self.batch_symbol = find_batch_symbol(self.inputs, self.outputs)

    def describe(self, versions: Sequence[int]) -> dict[str, Any]:
        """The protocol's metadata of the model."""
        return {
            "name": self.name,
            "versions": [str(version) for version in versions],
            "platform": "rabbet_rbt",
            "inputs": [spec.describe() for spec in self.inputs],
            "outputs": [spec.describe() for spec in self.outputs],
        }

    def collect(self, given: Mapping[str, np.ndarray], limit_bytes: int) -> list[np.ndarray]:
        """The arrays in the order of the inputs; RequestError (400) for names, shapes or dtypes.

        `limit_bytes` bounds what an empty tensor may claim: [0, 2**30] holds nothing, but a sum
        over its first axis has 2**30 elements.
        """
        names = [spec.name for spec in self.inputs]
        unknown = [name for name in given if name not in names]
        missing = [name for name in names if name not in given]
        if unknown or missing:
            problem = f"no input {unknown[0]!r}" if unknown else f"input {missing[0]!r} is missing"
            raise malformed(f"{self.name}: {problem}; the inputs are {', '.join(names) or 'none'}")
        arrays = [given[name] for name in names]
        sizes: dict[str, tuple[int, str]] = {}
        for spec, array in zip(self.inputs, arrays, strict=True):
            if array.dtype != spec.dtype.numpy:
                raise malformed(
                    f"input {spec.name!r}: the model takes {NAMES[spec.dtype]}, not {array.dtype}"
                )
            spec.check(array.shape)
            if math.prod(max(size, 1) for size in array.shape) * array.itemsize > limit_bytes:
                raise malformed(f"input {spec.name!r}: shape {list(array.shape)} is too large")
            _agree(spec, array.shape, sizes)
        return arrays

    def run(self, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
        """The outputs in order; RequestError where these inputs cannot be computed."""
        try:
            return [np.asarray(result) for result in self.program.run(arrays)]
        except (CompileError, InternalError):
            raise
        except RabbetError as error:  # an index out of range, sizes that do not fit
            raise malformed(f"{self.name}: {error}") from error
        except MemoryError:
            raise RequestError(503, f"{self.name}: not enough memory for this request") from None


def find_batch_symbol(inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]) -> str | None:
    """The symbol that is the first size of every input and output and occurs nowhere else."""
    if not inputs or not outputs:
        return None
    specs = [*inputs, *outputs]
    first = {spec.shape[0] if spec.shape else None for spec in specs}
    symbol = first.pop()
    if first or not isinstance(symbol, str) or not symbol.isidentifier():
        return None
    rest = [size for spec in specs for size in spec.shape[1:]]
    return None if any(symbol in _words(size) for size in rest) else symbol


def _words(size: int | str) -> set[str]:
    """The symbols in the text of a size: `2*batch + 3` has `batch`."""
    spaced = "".join(c if c.isalnum() or c == "_" else " " for c in str(size))
    return set(spaced.split())


def _spec(port: Port) -> TensorSpec:
    if port.dtype not in NAMES:
        raise RabbetError(f"{port.name!r} is {port.dtype.name}, which the protocol does not have")
    shape = tuple(size if isinstance(size, int) else str(size) for size in port.shape)
    return TensorSpec(port.name, port.dtype, shape)


def _agree(spec: TensorSpec, shape: Shape, sizes: dict[str, tuple[int, str]]) -> None:
    for wanted, size in zip(spec.shape, shape, strict=True):
        if isinstance(wanted, int):
            continue
        known, where = sizes.setdefault(wanted, (size, spec.name))
        if known != size:
            raise malformed(
                f"input {spec.name!r}: {wanted} is {size}, but {known} in input {where!r}"
            )

"""What a module saves, and how it is read back: names to values, nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from rabbet.base import dtypes
from rabbet.base.dtypes import DType, dtype_of
from rabbet.base.errors import DTypeError, RabbetError
from rabbet.base.shapes import show
from rabbet.nn.parameter import end_segment
from rabbet.tensor import Tensor, asarray, no_grad
from rabbet.tensor.tensor import check_device


class LoadResult(NamedTuple):
    """Names that the state lacked, and names that the module does not know."""

    missing_keys: list[str]
    unexpected_keys: list[str]


def collect(module: Any, prefix: str, keep_vars: bool) -> dict[str, Tensor]:
    """Parameters and persistent buffers by name; PyTorch's order: parameters before buffers."""
    return {
        name: (t if keep_vars else t.detach()) for name, t in _named_state(module, prefix).items()
    }


def load(module: Any, state_dict: Mapping[str, Any], strict: bool) -> LoadResult:
    """Copy the values in; all problems are found before anything is changed."""
    for path, part in list(module.named_modules()):
        if hasattr(part, "materialize_from"):  # a layer whose sizes the state knows
            part.materialize_from(state_dict, f"{path}." if path else "")
    own = _named_state(module, "")
    missing = [name for name in own if name not in state_dict]
    unexpected = [name for name in state_dict if name not in own]
    problems = []
    if strict and unexpected:
        problems.append(f"not known here: {', '.join(unexpected)}")
    if strict and missing:
        problems.append(f"missing: {', '.join(missing)}")
    for name, t in own.items():
        if name in state_dict and np.shape(state_dict[name]) != t.shape:
            given = show(np.shape(state_dict[name]))
            problems.append(f"{name}: the state has shape {given}, the module {show(t.shape)}")
    if problems:
        text = "\n  ".join(problems)
        raise RabbetError(f"load_state_dict of {type(module).__name__}:\n  {text}")
    with no_grad():
        for name, t in own.items():
            if name in state_dict:
                t.copy_(asarray(state_dict[name]))
    end_segment()
    return LoadResult(missing, unexpected)


def parse_destination(args: tuple[Any, ...], kwargs: dict[str, Any]) -> DType | None:
    """The dtype asked for by the arguments of `Module.to`, or None."""
    wanted: DType | None = None
    for argument in (*args, *(v for k, v in kwargs.items() if k in ("dtype", "device"))):
        if argument is None or isinstance(argument, bool):
            continue
        if isinstance(argument, Tensor):
            wanted = argument.dtype
        elif isinstance(argument, str) and argument not in dtypes.BY_NAME:
            check_device(argument)
        else:
            wanted = dtype_of(argument)
    unknown = set(kwargs) - {"dtype", "device", "non_blocking", "copy"}
    if unknown:
        raise TypeError(f"to() has no parameter {unknown.pop()!r}")
    if wanted is not None and not wanted.is_float:
        raise DTypeError(f"to: parameters can only be cast to a floating dtype, not {wanted.name}")
    return wanted


def _named_state(module: Any, prefix: str) -> dict[str, Tensor]:
    found: dict[str, Tensor] = {}
    for path, part in module.named_modules(remove_duplicate=False):
        start = prefix + (f"{path}." if path else "")
        for name, t in part._parameters.items():
            if t is not None:
                found[start + name] = t
        for name, t in part._buffers.items():
            if t is not None and name not in part._transient:
                found[start + name] = t
    return found

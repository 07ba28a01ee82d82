"""What a module saves, and how it is read back: names to values, nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

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
    if not isinstance(state_dict, Mapping):
        raise RabbetError(
            f"load_state_dict of {type(module).__name__}: names and their values are needed, not a "
            f"{type(state_dict).__name__}"
        )
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
    values: dict[str, Tensor] = {}
    for name, t in own.items():
        if name not in state_dict:
            continue
        found = saved_value(state_dict[name], t)
        if isinstance(found, Tensor):
            values[name] = found
        else:
            problems.append(f"{name}: {found}")
    if problems:
        text = "\n  ".join(problems)
        raise RabbetError(f"load_state_dict of {type(module).__name__}:\n  {text}")
    with no_grad():
        for name, value in values.items():
            own[name].copy_(value)
    end_segment()
    return LoadResult(missing, unexpected)


def saved_value(value: Any, wanted: Tensor) -> Tensor | str:
    """A saved value as a tensor that `wanted` can be set to, or what is wrong with it."""
    try:
        found = value if isinstance(value, Tensor) else asarray(value)
    except (RabbetError, TypeError, ValueError):
        return f"the state's value, of type {type(value).__name__}, is no array of numbers"
    if found.shape != wanted.shape:
        return f"the state has shape {show(found.shape)}, the module {show(wanted.shape)}"
    if found.dtype.kind == "c" and wanted.dtype.kind != "c":
        return f"the state has {found.dtype.name}, the module {wanted.dtype.name}"
    return found


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

"""x[key] and x[key] = value: keys with data-dependent shapes are resolved here, others are ops."""

from __future__ import annotations

import dis
import functools
import sys
import warnings
from types import NoneType
from typing import Any

import numpy as np

from rabbet.base import dtypes, shapes
from rabbet.base.errors import IndexKeyError
from rabbet.base.spec import intern
from rabbet.engine import site
from rabbet.graph.value import lookup
from rabbet.ops import subscripts
from rabbet.recorder import Handle, element, record


def get(x: Any, key: Any) -> Any:
    """x[key]. A bool tensor in it ends the segment: the result's shape depends on its values."""
    parts = tuple(map(_constant, key if type(key) is tuple else (key,)))
    if _OTHER not in parts and all(type(n) is int for n in x.shape):
        if len(parts) == len(x.shape) and (found := _element(x, parts)) is not None:
            return found
        cut, shape = _plan(x.shape, parts)
        y = x if cut is None else record(lookup("slice"), (x,), cut, ())
        y = y if shape is None else record(lookup("reshape"), (y,), shape, ())
        return lookup("positive")(x) if y is x else y
    wide, items = _resolve(x, key)
    result = subscripts.getitem(wide, items)
    return lookup("positive")(result) if result is x else result


def _element(x: Any, parts: tuple[Any, ...]) -> Any:
    """A copy of one element of what is computed already; None where x[parts] is to be recorded.

    Recorded, each place would be another structure, with a program to be found for it.
    """
    dtype = x.dtype
    return element(x, parts, intern((), dtype), dtype.bits // 8)


_OTHER = ("other",)


def _constant(part: Any) -> Any:
    """One part of a key as something to look it up by; `_OTHER` for what is not plain numbers."""
    kind = type(part)
    if kind is int or part is None or part is Ellipsis:
        return part
    if kind is slice and all(
        type(n) in (int, NoneType) for n in (part.start, part.stop, part.step)
    ):
        return part.start, part.stop, part.step
    return _OTHER


@functools.lru_cache(maxsize=8192)
def _plan(shape: tuple[int, ...], parts: tuple[Any, ...]) -> Any:
    """Attributes of the slice and of the reshape after it that a key of plain numbers comes to;
    None for a step that changes nothing.
    """
    key = tuple(slice(*p) if type(p) is tuple else p for p in parts)
    cut, left = subscripts.basic_plan(shape, key)
    sliced = None if cut is None else dict(zip(("start", "stop", "step"), cut, strict=True))
    return sliced, None if left is None else {"shape": left}


def put(x: Any, key: Any, value: Any) -> Any:
    """The tensor that x becomes by x[key] = value."""
    parts = tuple(map(_constant, key if type(key) is tuple else (key,)))
    if _OTHER not in parts and all(type(n) is int for n in x.shape):
        return _put_slice(x, parts, value)
    plain = _as_tensor(key) if isinstance(key, np.ndarray | list) else key
    if isinstance(plain, Handle) and _is_mask(plain) and _is_scalar(value):
        return _masked(x, plain, value)
    value = _value(x, value)
    wide, items = _resolve(x, key)
    result = subscripts.setitem(wide, items, value)
    return result if wide is x else result.reshape(x.shape)


def _put_slice(x: Any, parts: tuple[Any, ...], value: Any) -> Any:
    """x[key] = value for a key of plain numbers."""
    if not _fits_as_number(x, value):
        value = _value(x, value)
    cut, shape = _write_plan(x.shape, parts, getattr(value, "shape", ()))
    if cut is not None:
        value = value if shape is None else lookup("reshape")(value, shape)
        return lookup("slice_set")(x, value, *cut)
    value = _value(x, value)
    value = value if shape is None else lookup("reshape")(value, shape)
    return value if value.shape == x.shape else lookup("expand")(value, x.shape)


def _fits_as_number(x: Any, value: Any) -> bool:
    """True for a Python number that x's dtype holds: it is an operand as it is."""
    kind, wanted = type(value), x.dtype.kind
    return kind in (float, int) and wanted == "f" or kind is bool and wanted == "b"


@functools.lru_cache(maxsize=8192)
def _write_plan(shape: tuple[int, ...], parts: tuple[Any, ...], value: tuple[int, ...]) -> Any:
    """What is written where by a key of plain numbers (see `basic_write`)."""
    key = tuple(slice(*p) if type(p) is tuple else p for p in parts)
    return subscripts.basic_write(shape, key, value)


def _masked(x: Any, mask: Any, value: Any) -> Any:
    """x[mask] = number: no need to know where the mask holds."""
    if not _fits(mask, x.shape[: mask.ndim]):
        return x
    wide = mask.reshape(mask.shape + (1,) * (x.ndim - mask.ndim))
    return lookup("where")(wide, _value(x, value), x)


def _is_scalar(value: Any) -> bool:
    return isinstance(value, bool | int | float) or getattr(value, "shape", None) == ()


def _value(x: Any, value: Any) -> Any:
    if isinstance(value, Handle):
        return value if value.dtype is x.dtype else lookup("cast")(value, x.dtype)  # type: ignore[attr-defined]
    return _as_tensor(np.asarray(value).astype(x.dtype.numpy))


def _resolve(x: Any, key: Any) -> tuple[Any, tuple[Any, ...]]:
    """The key with arrays and lists as tensors and masks as their positions; and what it indexes.

    A mask without axes stands for a new axis of size 1, of which it takes all or nothing.
    """
    items = [_item(k) for k in (key if isinstance(key, tuple) else (key,))]
    unnamed = max(x.ndim - sum(_axes_used(k) for k in items), 0)
    resolved: list[Any] = []
    axis = 0
    for item in items:
        if item is Ellipsis:
            axis += unnamed
        if _is_mask(item) and not _axes_used(item):
            x = lookup("unsqueeze")(x, axis)
            resolved.append(_as_tensor(np.zeros(int(bool(item)), np.int64)))
            axis += 1
            continue
        resolved += _positions(x, item, axis) if _is_mask(item) else [item]
        axis += _axes_used(item)
    return x, tuple(resolved)


def _item(item: Any) -> Any:
    if isinstance(item, np.integer | np.bool_):
        return item.item()
    if isinstance(item, list) and not np.size(item):
        return _as_tensor(np.asarray(item, np.int64))
    return _as_tensor(item) if isinstance(item, np.ndarray | list) else item


def _is_mask(item: Any) -> bool:
    return isinstance(item, bool) or isinstance(item, Handle) and item.dtype is dtypes.bool_  # type: ignore[attr-defined]


def _axes_used(item: Any) -> int:
    """How many axes of the tensor one part of a key speaks of."""
    if item is None or item is Ellipsis:
        return 0
    if _is_mask(item):
        return 0 if isinstance(item, bool) else item.ndim
    return 1


def _positions(x: Any, mask: Any, axis: int) -> list[Any]:
    want = x.shape[axis : axis + mask.ndim]
    _fits(mask, want)
    return [_as_tensor(p) for p in np.nonzero(mask.numpy())]


def _fits(mask: Any, axes: tuple[Any, ...]) -> bool:
    """True for a mask over these axes, False for one that takes nothing: with sizes 0 for theirs.

    Raises IndexKeyError for all others.
    """
    if mask.shape == axes:
        return True
    pairs = zip(mask.shape, axes, strict=False)
    if mask.ndim != len(axes) or not all(m in (0, size) for m, size in pairs):
        raise IndexKeyError(
            f"index: a mask of shape {shapes.show(mask.shape)} does not fit "
            f"the axes {shapes.show(axes)}"
        )
    return False


def _as_tensor(array: Any) -> Any:
    return sys.modules["rabbet.tensor"].asarray(array)


def namespace() -> Any:
    """The module users compute with."""
    return sys.modules["rabbet"]


def warn_view(x: Any) -> None:
    """In place on the result of an indexing changes only the result: say so once (SEMANTICS 14)."""
    if not _warned and _is_part_of_living(x._node) and not _is_stored_next(site.user_site()):
        _warned.append(True)
        warnings.warn(
            "an in-place update of an indexing result changes only that result: "
            "tensors are values; write x[0] += ... to change x",
            stacklevel=4,
        )


def _is_part_of_living(node: Any) -> bool:
    """True for the pending result of an indexing whose base somebody still holds."""
    while node.op is not None and node.inputs and node.op.name in ("slice", "take", "reshape"):
        indexed = node.op.name != "reshape"
        node, index = node.inputs[0]
        if indexed and node.handles[index] > 0:
            return True
    return False


@functools.lru_cache(maxsize=1024)
def _is_stored_next(where: Any) -> bool:
    """True within `x[0] += ...`: Python gets x[0], updates it and stores it into x at once."""
    code, offset = where or (None, 0)
    for instruction in dis.get_instructions(code) if code else ():
        if instruction.offset > offset and not instruction.opname.startswith(_MOVES):
            return instruction.opname in ("STORE_SUBSCR", "STORE_SLICE")
    return False


_MOVES = ("SWAP", "ROT_", "EXTENDED_ARG", "NOP")  # of Python's own stack
_warned: list[bool] = []

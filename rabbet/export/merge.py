"""One variable after two branches, or after one more run of a loop: what it is from then on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NoReturn

from rabbet.base import dtypes
from rabbet.base.dtypes import DType
from rabbet.base.errors import ExportError
from rabbet.base.shapes import show
from rabbet.base.spec import intern
from rabbet.engine import site
from rabbet.graph.value import lookup
from rabbet.recorder import scalar_node
from rabbet.tensor import Tensor, zeros

NUMBERS = (bool, int, float)


class Undefined:
    """The value of a variable that may have none; using it is an error that says why."""

    def __init__(self, name: str, why: str = "") -> None:
        self.name = name
        self.why = why

    def used(self) -> NoReturn:
        """The variable is read."""
        if not self.why:
            raise UnboundLocalError(
                f"cannot access local variable {self.name!r} where it is not associated with a "
                "value"
            )
        raise ExportError(
            f"export: {self.name!r} may have no value here: {self.why}; give it one before"
            f"\n  at {site.describe(site.user_site())}"
        )


def _used(self: Undefined, *_: Any) -> NoReturn:
    self.used()


for _word in ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "matmul", "and", "or"):
    for _form in ("__{}__", "__r{}__", "__i{}__"):
        setattr(Undefined, _form.format(_word), _used)


@dataclass(eq=False)
class Change:
    """A value that depends on the condition: two tensors of one shape and dtype."""

    true: Tensor
    false: Tensor


def same_value(a: Any, b: Any) -> bool:
    """True for one tensor, and for equal plain values."""
    if a is b:
        return True
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        return a._node is b._node and a._index == b._index
    if type(a) is not type(b):
        return False
    if isinstance(a, float):
        return a.hex() == b.hex()
    return isinstance(a, bool | int | str | bytes) and bool(a == b)


def as_tensor(x: Any, like: Tensor | None = None) -> Any:
    """A number as a tensor, of the dtype of `like` if given; a tensor in that dtype."""
    if isinstance(x, NUMBERS):
        dtype = like.dtype if like is not None else dtypes.number_dtype(x)
        return Tensor(scalar_node(x, intern((), dtype)))
    if like is not None and isinstance(x, Tensor) and x.dtype is not like.dtype:
        return lookup("cast")(x, like.dtype)
    return x


def filler(x: Tensor) -> Tensor:
    """A tensor like `x` that nobody reads; it does not refer to `x`, which lies in a region."""
    return zeros(x.shape, dtype=x.dtype) if x.shape else as_tensor(0, x)


def merge(name: str, a: Any, b: Any, fills: bool, where: str = "if") -> Any:
    """A Change, or the value where it is the same either way.

    With `fills` a variable that has a value in one branch only gets zeros in the other: the program
    never reads them. Raises ExportError for values that cannot be chosen by a tensor.
    """
    if same_value(a, b):
        return a
    if isinstance(a, Undefined) or isinstance(b, Undefined):
        known = b if isinstance(a, Undefined) else a
        if isinstance(known, Undefined):
            return known
        if not fills or not isinstance(known, Tensor | bool | int | float):
            way = "one branch" if where == "if" else "the loop"
            return Undefined(name, f"it is assigned in {way} of an `{where}` over tensors only")
        tensor = as_tensor(known)
        nothing = filler(tensor)
        return Change(nothing, tensor) if isinstance(a, Undefined) else Change(tensor, nothing)
    if not all(isinstance(x, Tensor | bool | int | float) for x in (a, b)):
        _differ(name, _shown(a), _shown(b), where, "only tensors and numbers may differ")
    dtype = _common(name, a, b, where)
    like = Tensor(scalar_node(0, intern((), dtype)))
    a, b = as_tensor(a, like), as_tensor(b, like)
    if a.shape != b.shape:
        _differ(name, _shown(a), _shown(b), where, "shapes must be the same")
    return Change(a, b)


def _common(name: str, a: Any, b: Any, where: str) -> DType:
    """The dtype of both; numbers give way to tensors."""
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        if a.dtype is not b.dtype and where == "if":
            _differ(name, _shown(a), _shown(b), where, "dtypes must be the same")
        return dtypes.promote(a.dtype, b.dtype)
    if isinstance(a, Tensor) or isinstance(b, Tensor):
        tensor, number = (a, b) if isinstance(a, Tensor) else (b, a)
        found = dtypes.weak(number, tensor.dtype)
        if found is not tensor.dtype and where == "if":
            _differ(name, _shown(tensor), _kind(number), where, "dtypes must be the same")
        return found
    widest = max((a, b), key=lambda x: NUMBERS.index(type(x)))
    return dtypes.number_dtype(widest)


def _differ(name: str, one: str, other: str, where: str, rule: str) -> NoReturn:
    ways = ("where the condition holds", "where it does not")
    if where == "while":
        ways = ("before the loop", "after one run of it")
    shown = "the result" if name.startswith("_rb_") else repr(name)
    raise ExportError(
        f"export: {shown} is {one} {ways[0]}, {other} {ways[1]}; {rule}"
        f"\n  at {site.describe(site.user_site())}"
    )


def _kind(x: Any) -> str:
    return "None" if x is None else f"{x!r:.40}" if isinstance(x, NUMBERS) else type(x).__name__


def _shown(x: Any) -> str:
    return f"{x.dtype.name}{show(x.shape)}" if isinstance(x, Tensor) else _kind(x)

"""Every op of the registry as a user function and, where it has a home, as a Tensor method.

The one place where PyTorch's `dim`, `keepdim`, `input` and `other` become the array API's names,
where arrays and lists become tensors, and where `x.reshape(2, 3)` becomes `x.reshape((2, 3))`.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any, TypeVar, cast

import numpy as np

from rabbet.base.dtypes import DType
from rabbet.graph.op import Op
from rabbet.graph.value import registry
from rabbet.ops.operators import OPERATORS
from rabbet.recorder import Caller, Operator, record
from rabbet.tensor.tensor import Tensor, as_operand

RENAMED = {  # PyTorch's word -> ours, the first that the function knows
    "dim": ("axis",),
    "dims": ("axis", "axes"),
    "keepdim": ("keepdims",),
    "diagonal": ("k",),
    "shifts": ("shift",),
    "exponent": ("x2",),
    "ddof": ("correction",),
    "steps": ("num",),
    "dimension": ("axis",),
}
UNSAID = ("out", "dtype")  # NumPy's functions say None for these to every array
ROLES = {"operand": "o", "optional": "?", "list": "l", "attribute": "a"}  # as in caller.cpp
SCALED = ("add", "subtract")  # take PyTorch's `alpha`, a factor of the second operand
PAIRED = {"max": "maximum", "min": "minimum"}  # what PyTorch's mean with two tensors
F = TypeVar("F", bound=Callable[..., Any])
NUMBERS = (bool, int, float, complex)
functions: dict[str, Any] = {}


def lift(op: Op) -> Callable[..., Any]:
    """The user function of an op."""
    names = [p.name for p in op.parameters]
    packs = len(op.parameters) > 1 and op.parameters[1].annotation.startswith("tuple[int, ...]")
    op.caller = caller = Caller(op, "".join(ROLES[p.role] for p in op.parameters), (DType, type))
    call = caller.call

    def function(*args: Any, **kwargs: Any) -> Any:
        made = call(args, kwargs)
        if made is not NotImplemented:
            return made
        given = args, kwargs
        if kwargs:
            kwargs = {
                _rename(n, names): v
                for n, v in kwargs.items()
                if v is not None or n in names or n not in UNSAID
            }
            if op.name in SCALED and "alpha" in kwargs:
                return _scaled(function, args, kwargs)
        if op.name in PAIRED and len(args) == 2 and isinstance(args[1], Tensor):
            return functions[PAIRED[op.name]](*args)
        if packs and len(args) >= 2 and hasattr(args[1], "__index__"):
            args = (args[0], tuple(args[1:]))
        operands, attrs, form = op.bind(args, kwargs)
        grouped = op.by_groups(operands, attrs)
        if grouped is not None:
            return grouped
        caller.learn(*given, operands, attrs, form)
        return record(op, tensors(operands), attrs, form)

    function.__name__ = function.__qualname__ = op.name
    function.__doc__ = op.doc
    function.__module__ = "rabbet"
    function.__signature__ = _user_signature(op)  # type: ignore[attr-defined]
    function.op = op  # type: ignore[attr-defined]
    return function


def spoken(function: F) -> F:
    """A function that takes PyTorch's names for its parameters too."""
    names = list(inspect.signature(function).parameters)

    @functools.wraps(function)
    def renamed(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **{_rename(name, names): v for name, v in kwargs.items()})

    return cast("F", renamed)


def tensors(operands: list[Any]) -> list[Any]:
    """Operands as the recorder takes them: Tensors and Python numbers."""
    return [o if isinstance(o, Tensor) or type(o) in NUMBERS else _operand(o) for o in operands]


def _operand(value: Any) -> Any:
    """An operand that is neither Tensor nor number: an IntEnum or `x.size` is its number."""
    return int(value) if isinstance(value, int) else as_operand(value)


def _scaled(function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """PyTorch's `add(x1, x2, alpha=...)`: the second operand times alpha."""
    alpha = kwargs.pop("alpha")
    given = dict(zip(("x1", "x2"), args, strict=False)) | kwargs
    return function(**{**given, "x2": given["x2"] * alpha})


def _rename(name: str, names: list[str]) -> str:
    if name in names:
        return name
    for ours in RENAMED.get(name, ()):
        if ours in names:
            return ours
    if name == "input" and names:
        return names[0]
    if name == "other" and len(names) > 1:
        return names[1]
    return name


def _user_signature(op: Op) -> inspect.Signature:
    """The declared signature, in the user's words: a Value is a Tensor."""

    def spoken(note: Any) -> Any:
        return note.replace("Value", "Tensor") if isinstance(note, str) else note

    parameters = op.signature.parameters.values()
    return op.signature.replace(
        parameters=[p.replace(annotation=spoken(p.annotation)) for p in parameters],
        return_annotation=spoken(op.signature.return_annotation),
    )


def _operator(op: Op, swapped: bool) -> Operator:
    """A dunder method of a one- or two-operand op: recorded without a Python call in between."""
    return Operator(op, len(op.operands), swapped, _array_operand)


def _array_operand(value: Any) -> Any:
    """What an operator makes of an operand that is neither Tensor nor number."""
    return _operand(value) if isinstance(value, np.ndarray | np.generic | int) else NotImplemented


def _power(self: Tensor, exponent: Any) -> Any:
    """x ** 2 is a multiplication; every other power is computed as one."""
    if type(exponent) is int and exponent == 2:
        return record(registry["square"], (self,), {}, ())
    return functions["pow"](self, exponent)


def in_place(function: Callable[..., Any]) -> Callable[..., Any]:
    """The method that gives its tensor the result of `function(tensor, ...)`."""

    def method(self: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        return self._update(function(self, *args, **kwargs))

    method.__doc__ = f"In place: this tensor becomes `{function.__name__}(self, ...)`."
    method.is_in_place = True  # type: ignore[attr-defined]
    return method


IN_PLACE_OPERATORS = {
    "__iadd__": "add",
    "__isub__": "subtract",
    "__imul__": "multiply",
    "__itruediv__": "divide",
    "__ifloordiv__": "floor_divide",
    "__imod__": "remainder",
    "__ipow__": "pow",
    "__imatmul__": "matmul",
    "__iand__": "bitwise_and",
    "__ior__": "bitwise_or",
    "__ixor__": "bitwise_xor",
    "__ilshift__": "bitwise_left_shift",
    "__irshift__": "bitwise_right_shift",
}
IN_PLACE_METHODS = {"zero_": "zeros_like", "fill_": "full_like"}
# Elementwise ops have NAME_ anyway.
ALSO_IN_PLACE = {
    *("clip", "lerp", "addcmul", "addcdiv", "fmod", "frac", "logit", "nan_to_num", "xlogy"),
    *("cumulative_sum", "cumulative_prod", "tril", "triu"),
}
ALIASES = {
    **{name: (f"arc{name[1:]}",) for name in ("acos", "acosh", "asin", "asinh", "atan", "atanh")},
    "atan2": ("arctan2",),
    "bitwise_invert": ("bitwise_not",),
    "trunc": ("fix",),
    "cumulative_sum": ("cumsum",),
    "cumulative_prod": ("cumprod",),
    "take_along_axis": ("take_along_dim",),
    "subtract": ("sub",),
    "multiply": ("mul",),
    "divide": ("div", "true_divide"),
    "remainder": ("fmod_floor",),
    "concat": ("cat", "concatenate"),
    "expand": ("broadcast_to",),
    "unsqueeze": ("expand_dims",),
    "clip": ("clamp",),
    "negative": ("neg",),
    "equal": ("eq",),
    "not_equal": ("ne",),
    "less": ("lt",),
    "less_equal": ("le",),
    "greater": ("gt",),
    "greater_equal": ("ge",),
    "permute": ("permute_dims",),
    "swapaxes": ("transpose", "swapdims"),
    "moveaxis": ("movedim",),
    "max": ("amax",),
    "min": ("amin",),
    "sign": ("sgn",),
    "abs": ("absolute",),
}


def install(op: Op) -> None:
    """Make the function and the method of one op."""
    function = functions[op.name] = lift(op)
    aliases = ALIASES.get(op.name, ())
    for alias in aliases:
        functions.setdefault(alias, function)
    for name in (op.method, *aliases) if op.method else ():
        if not hasattr(Tensor, name):
            setattr(Tensor, name, function)
            if keeps_form(op):
                setattr(Tensor, f"{name}_", in_place(function))


def keeps_form(op: Op) -> bool:
    """True where a result of the first operand's shape and dtype is usual: there is NAME_ too."""
    is_plain = op.kind == "elementwise" and op.name != "cast"
    return op.public and (is_plain or op.name in ALSO_IN_PLACE)


def install_all() -> None:
    """Make functions, methods and operators of every op declared so far."""
    for op in registry.values():
        if op.kind != "input" and op.name not in functions:
            install(op)
    for name, (op, swapped) in OPERATORS.items():
        setattr(Tensor, name, _operator(op, swapped))
    Tensor.__pow__ = _power  # type: ignore[method-assign, assignment]
    for name, target in IN_PLACE_OPERATORS.items():
        if target in registry:
            setattr(Tensor, name, in_place(functions[target]))
    for name, target in IN_PLACE_METHODS.items():
        setattr(Tensor, name, in_place(functions[target]))

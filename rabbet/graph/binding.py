"""Binding: how the arguments of a call become operands, attributes and form, and back.

Parameters annotated `Value` are operands, `Value | None` optional operands, `Sequence[Value]` lists
of operands; all others are attributes. Operands lie flat, one after the other. `form` holds one
number per operand parameter where that is not clear from the op alone: -1 for None, 1 for one
operand, 2 + n for a list of n; it is () where every operand parameter is a plain `Value`.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rabbet.base.dtypes import DType, dtype_of
from rabbet.base.shapes import show
from rabbet.base.sizes import SizeExpr
from rabbet.graph.value import Attrs

_BOUND_KEPT = 1000


@dataclass(frozen=True)
class Parameter:
    """One parameter of an op: role is operand, optional, list or attribute."""

    name: str
    role: str
    default: Any
    annotation: str


@dataclass(eq=False, kw_only=True)
class Binding:
    """The parameters of an op, and what to do with arguments for them."""

    name: str
    parameters: tuple[Parameter, ...]

    def __post_init__(self) -> None:
        self.operands = tuple(p for p in self.parameters if p.role != "attribute")
        self._names = [p.name for p in self.operands]
        self.plain = all(p.role == "operand" for p in self.operands)
        self._operands_lead = self.parameters[: len(self.operands)] == self.operands and not any(
            p.role == "list" for p in self.operands
        )
        self._bound: dict[tuple[Any, ...], Attrs] = {}  # attributes as given -> as bound

    def bind(self, args: Sequence[Any], kwargs: dict[str, Any]) -> tuple[list[Any], Attrs, tuple]:
        """Arguments -> (flat operands, canonical attributes, form). Attributes are not to be
        changed: equal ones are one dict.
        """
        count = len(self.operands)
        if kwargs or len(args) < count or not self._leads(args):
            return self._bind(args, kwargs)
        key = _attributes_key(args[count:], {})
        attrs = None if key is None else self._bound.get(key)
        if attrs is None:
            found = self._bind(args, kwargs)
            if key is not None and len(self._bound) < _BOUND_KEPT:
                self._bound[key] = found[1]
            return found
        if self.plain:
            return list(args[:count]), attrs, ()
        operands = [a for a in args[:count] if a is not None]
        return operands, attrs, tuple(-1 if a is None else 1 for a in args[:count])

    def _leads(self, args: Sequence[Any]) -> bool:
        """True where `args` begins with one operand, or None for one that may be left out, each."""
        return self._operands_lead and all(
            a is not None or p.role == "optional" for a, p in zip(args, self.operands, strict=False)
        )

    def _bind(self, args: Sequence[Any], kwargs: dict[str, Any]) -> tuple[list[Any], Attrs, tuple]:
        if len(args) > len(self.parameters):
            raise TypeError(
                f"{self.name}() takes {len(self.parameters)} arguments, got {len(args)}"
            )
        given = dict(zip((p.name for p in self.parameters), args, strict=False))
        for name, argument in kwargs.items():
            if name in given:
                raise TypeError(f"{self.name}() got two values for {name!r}")
            given[name] = argument
        operands: list[Any] = []
        form: list[int] = []
        attrs: Attrs = {}
        for p in self.parameters:
            argument = given.pop(p.name, p.default)
            if argument is inspect.Parameter.empty:
                raise TypeError(f"{self.name}() misses the argument {p.name!r}")
            if p.role == "attribute":
                attrs[p.name] = _canonical(argument, self.name, p.name)
            elif p.role == "list":
                operands.extend(argument)
                form.append(2 + len(argument))
            elif argument is None and p.role == "optional":
                form.append(-1)
            else:
                operands.append(argument)
                form.append(1)
        if given:
            known = ", ".join(p.name for p in self.parameters)
            raise TypeError(f"{self.name}() has no parameter {next(iter(given))!r}; it has {known}")
        return operands, attrs, () if self.plain else tuple(form)

    def arrange(self, flat: Sequence[Any], form: tuple[int, ...]) -> list[Any]:
        """Flat operands -> one argument per operand parameter (None and lists restored)."""
        if not form:
            return list(flat)
        arguments: list[Any] = []
        rest = iter(flat)
        for code in form:
            if code == -1:
                arguments.append(None)
            elif code == 1:
                arguments.append(next(rest))
            else:
                arguments.append([next(rest) for _ in range(code - 2)])
        return arguments

    def flatten(self, arguments: Sequence[Any], form: tuple[int, ...]) -> list[Any]:
        """One item per operand parameter -> one per flat operand (inverse of `arrange`)."""
        if not form:
            return list(arguments)
        flat: list[Any] = []
        for code, argument in zip(form, arguments, strict=True):
            if code == 1:
                flat.append(argument)
            elif code >= 2:
                flat.extend(argument if argument is not None else [None] * (code - 2))
        return flat

    def arguments(self, flat: Sequence[Any], attrs: Attrs, form: tuple[int, ...]) -> dict[str, Any]:
        """Everything by parameter name, as the function was called."""
        return attrs | dict(zip(self._names, self.arrange(flat, form), strict=True))


def parameter(p: inspect.Parameter) -> Parameter:
    """A parameter of the declaring function, its role told by its annotation."""
    note = p.annotation if isinstance(p.annotation, str) else getattr(p.annotation, "__name__", "")
    if note.startswith("Sequence[Value"):
        role = "list"
    elif note.startswith("Value"):
        role = "optional" if "None" in note else "operand"
    else:
        role = "attribute"
    return Parameter(p.name, role, p.default, note)


def _attributes_key(args: Sequence[Any], kwargs: dict[str, Any]) -> tuple[Any, ...] | None:
    """Attributes as given, told apart by type and bits; None where they are not plain numbers."""
    key: list[Any] = []
    for value in (*args, *kwargs.values()):
        kind = type(value)
        if kind is float:
            value = value.hex()
        elif kind is tuple:
            if any(type(v) is not int for v in value):
                return None
        elif value is not None and kind not in (int, bool, str, DType):
            return None
        key += (kind, value)
    return (*key, *kwargs)


def _canonical(argument: Any, op_name: str, name: str) -> Any:
    """An attribute as plain data: lists become tuples, NumPy integers ints, dtype-likes DTypes."""
    if argument is None or isinstance(argument, bool | float | complex | str | DType):
        return argument
    if isinstance(argument, int):
        return int(argument)  # an IntEnum is its number
    if type(argument) is tuple and all([type(a) is int for a in argument]):
        return argument
    if name == "dtype":
        return dtype_of(argument)
    if isinstance(argument, list | tuple):
        return tuple(_canonical(a, op_name, name) for a in argument)
    if isinstance(argument, SizeExpr):
        return argument
    if hasattr(argument, "emit") and argument.ndim:
        raise TypeError(
            f"{op_name}: {name} must be plain data, not a tensor of shape {show(argument.shape)}; "
            "several tensors go together in one list"
        )
    if hasattr(argument, "__index__"):
        return argument.__index__()
    if hasattr(argument, "item") and hasattr(argument, "ndim"):
        return argument.item()
    raise TypeError(f"{op_name}: {name} must be plain data, not {type(argument).__name__}")

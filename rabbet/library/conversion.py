"""Tensors like another one: of a dtype by name, of its shape, new ones of its dtype."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rabbet.base.dtypes import DType, dtype_of
from rabbet.tensor import create
from rabbet.tensor.lift import functions
from rabbet.tensor.tensor import Tensor


def _as(dtype: DType) -> Callable[[Tensor], Tensor]:
    def method(self: Tensor) -> Tensor:
        return self.astype(dtype)

    method.__doc__ = f"As {dtype.name}."
    return method


def _new(make: Callable[..., Tensor]) -> Callable[..., Tensor]:
    def method(self: Tensor, *shape: Any, dtype: Any = None, **options: Any) -> Tensor:
        return make(*shape, dtype=self.dtype if dtype is None else dtype, **options)

    method.__doc__ = f"`rb.{make.__name__}(...)` of this tensor's dtype."
    return method


METHODS: dict[str, Any] = {
    "expand_as": lambda self, other: functions["expand"](self, other.shape),
    "view_as": lambda self, other: self.reshape(other.shape),
    "reshape_as": lambda self, other: self.reshape(other.shape),
    "type_as": lambda self, other: self.astype(other.dtype),
    "half": _as(dtype_of("float16")),
    "bfloat16": _as(dtype_of("bfloat16")),
    "short": _as(dtype_of("int16")),
    "byte": _as(dtype_of("uint8")),
    "char": _as(dtype_of("int8")),
    "new_zeros": _new(create.zeros),
    "new_ones": _new(create.ones),
    "new_empty": _new(create.empty),
    "new_full": _new(create.full),
    "new_tensor": _new(create.tensor),
}

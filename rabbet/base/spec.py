"""Spec: what is known of a tensor before it is computed."""

from __future__ import annotations

from dataclasses import dataclass

from rabbet.base import shapes, sizes
from rabbet.base.dtypes import DType
from rabbet.base.sizes import Dim


@dataclass(frozen=True, slots=True)
class Spec:
    """Shape, dtype and device of a tensor."""

    shape: tuple[Dim, ...]
    dtype: DType
    device: str = "cpu"

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def elements(self) -> Dim:
        return sizes.product(self.shape)

    @property
    def nbytes(self) -> Dim:
        return self.elements * self.dtype.itemsize

    def with_shape(self, shape: tuple[Dim, ...]) -> Spec:
        return Spec(shape, self.dtype, self.device)

    def with_dtype(self, dtype: DType) -> Spec:
        return self if dtype is self.dtype else Spec(self.shape, dtype, self.device)

    def __str__(self) -> str:
        return f"{self.dtype.name}{shapes.show(self.shape)}"


_interned: dict[tuple[tuple[Dim, ...], DType, str], Spec] = {}


def intern(shape: tuple[Dim, ...], dtype: DType, device: str = "cpu") -> Spec:
    """The one Spec with these fields (concrete sizes), so that identity is equality."""
    key = (shape, dtype, device)
    found = _interned.get(key)
    if found is None:
        if len(_interned) > 100_000:  # many shapes over a long life: equality still works
            _interned.clear()
        found = _interned[key] = Spec(shape, dtype, device)
    return found

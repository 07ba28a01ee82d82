"""How many elements there are: the array API's number, and PyTorch's method in one."""

from __future__ import annotations

import math
from typing import Any, Self

from rabbet.base.shapes import axis_of


class Count(int):
    """`x.size`: an int in every way. Called, as in PyTorch, it is the shape, or one size of it.

    >>> x = rb.zeros(2, 3)
    >>> x.size, x.size(), x.size(-1)
    (6, (2, 3), 3)
    """

    shape: tuple[int, ...]

    def __new__(cls, shape: tuple[int, ...]) -> Self:
        count = int.__new__(cls, math.prod(shape))
        count.shape = shape
        return count

    def __call__(self, dim: int | None = None) -> Any:
        if dim is None:
            return self.shape
        return self.shape[axis_of("size", dim, len(self.shape))]

    def __reduce__(self) -> tuple[Any, ...]:  # a copy is a plain number
        return int, (int(self),)

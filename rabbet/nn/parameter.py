"""Parameter: a tensor that belongs to a model and collects gradients."""

from __future__ import annotations

from typing import Any

from rabbet.recorder import current
from rabbet.tensor import Tensor, asarray, flush, functions


class Parameter(Tensor):
    """A tensor that a Module registers as its own when it is assigned to an attribute.

    It has a value of its own, computed at once; `data` may be anything array-like. Ops on it give
    plain tensors. Raises GradientError for integers, unless `requires_grad=False`.

    Example:
        >>> w = Parameter(rb.zeros((2, 3)))
        >>> w.shape, w.requires_grad, w.is_leaf
        ((2, 3), True, True)
    """

    def __init__(self, data: Any, requires_grad: bool = True) -> None:
        value = functions["detach"](asarray(data))
        end_segment()
        super().__init__(value._node, value._index)
        if requires_grad:
            self.requires_grad_()

    @property
    def data(self) -> Tensor:
        """The value, without gradients; assigning it changes this parameter in place."""
        return functions["detach"](self)

    @data.setter
    def data(self, value: Any) -> None:
        replace_value(self, asarray(value))

    def __deepcopy__(self, memo: dict[int, Any]) -> Parameter:
        copy = memo[id(self)] = Parameter(self, self.requires_grad)
        return copy

    def __repr__(self) -> str:
        return f"Parameter containing:\n{super().__repr__()}"


def end_segment() -> None:
    """Compute what was recorded, unless jit is recording: segments end where state is made."""
    if current().capture is None:
        flush()


def replace_value(t: Tensor, value: Tensor) -> None:
    """Make `t` stand for `value`, also of another shape or dtype; it stays the leaf it was."""
    requires_grad = t.requires_grad and t.is_leaf
    t.assign(functions["detach"](value))
    if requires_grad:
        t.requires_grad_()

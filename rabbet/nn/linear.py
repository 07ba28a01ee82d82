"""Linear, tables of vectors, and modules that only change shapes."""

from __future__ import annotations

import math
from typing import Any

from rabbet.base.errors import IndexRangeError
from rabbet.nn import functional, init
from rabbet.nn.module import Module
from rabbet.nn.parameter import Parameter
from rabbet.tensor import Tensor, asarray, no_grad, zeros


class Linear(Module):
    """x @ weight.T + bias: (..., in_features) -> (..., out_features).

    `weight` (out, in) and `bias` (out,) start uniform in +-1 / sqrt(in_features).

    Example:
        >>> nn.Linear(3, 2)(rb.ones((5, 3))).shape
        (5, 2)
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        self.in_features, self.out_features = in_features, out_features
        self.weight = Parameter(zeros((out_features, in_features), dtype=dtype, device=device))
        shift = Parameter(zeros((out_features,), dtype=dtype)) if bias else None
        self.register_parameter("bias", shift)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the parameters anew."""
        start_weights(self.weight, self.bias)

    def forward(self, input: Tensor) -> Tensor:
        return functional.linear(input, self.weight, self.bias)

    def extra_repr(self) -> str:
        return (
            f"in_features={self.in_features}, out_features={self.out_features}, "
            f"bias={self.bias is not None}"
        )


def start_weights(weight: Tensor, bias: Tensor | None) -> None:
    """PyTorch's start of linear and convolution layers: uniform in +-1 / sqrt(fan-in)."""
    init.kaiming_uniform_(weight, a=math.sqrt(5))
    if bias is not None:
        fan_in = max(init.fans(weight.shape)[0], 1)
        init.uniform_(bias, -1 / math.sqrt(fan_in), 1 / math.sqrt(fan_in))


class Embedding(Module):
    """Rows of a table by number: integers (...) -> (..., embedding_dim).

    `weight` (num_embeddings, embedding_dim) starts normal; row `padding_idx` is zero and gets no
    gradient.

    Example:
        >>> nn.Embedding(10, 4)(rb.asarray([1, 2, 3])).shape
        (3, 4)
    """

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        padding_idx: int | None = None,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        self.num_embeddings, self.embedding_dim = num_embeddings, embedding_dim
        if padding_idx is not None:
            if not -num_embeddings <= padding_idx < num_embeddings:
                raise IndexRangeError(
                    f"Embedding: padding_idx={padding_idx} is outside of {num_embeddings} rows"
                )
            padding_idx %= num_embeddings
        self.padding_idx = padding_idx
        self.weight = Parameter(zeros((num_embeddings, embedding_dim), dtype=dtype, device=device))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the table anew."""
        init.normal_(self.weight)
        if self.padding_idx is not None:
            with no_grad():
                self.weight[self.padding_idx] = 0.0

    @classmethod
    def from_pretrained(
        cls, embeddings: Any, freeze: bool = True, padding_idx: int | None = None
    ) -> Embedding:
        """A table with the given rows; it does not train if `freeze`."""
        table = asarray(embeddings)
        rows, width = table.shape
        layer = cls(rows, width, padding_idx, dtype=table.dtype)
        layer.weight = Parameter(table, requires_grad=not freeze)
        return layer

    def forward(self, input: Tensor) -> Tensor:
        return functional.embedding(input, self.weight, padding_idx=self.padding_idx)

    def extra_repr(self) -> str:
        padding = "" if self.padding_idx is None else f", padding_idx={self.padding_idx}"
        return f"{self.num_embeddings}, {self.embedding_dim}{padding}"


class Identity(Module):
    """What goes in comes out; takes and ignores any arguments."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__()

    def forward(self, input: Any) -> Any:
        return input


class Flatten(Module):
    """Axes start_dim to end_dim as one; by default all but the batch axis."""

    def __init__(self, start_dim: int = 1, end_dim: int = -1) -> None:
        super().__init__()
        self.start_dim, self.end_dim = start_dim, end_dim

    def forward(self, input: Tensor) -> Tensor:
        return functional.flatten(input, self.start_dim, self.end_dim)

    def extra_repr(self) -> str:
        return f"start_dim={self.start_dim}, end_dim={self.end_dim}"


class Unflatten(Module):
    """One axis as several of the given sizes (-1: what is left)."""

    def __init__(self, dim: int, unflattened_size: tuple[int, ...]) -> None:
        super().__init__()
        self.dim, self.unflattened_size = dim, tuple(unflattened_size)

    def forward(self, input: Tensor) -> Tensor:
        axis = self.dim % input.ndim
        sizes = list(self.unflattened_size)
        if -1 in sizes:
            known = -math.prod(sizes)
            sizes[sizes.index(-1)] = input.shape[axis] // known if known else 0
        return input.reshape((*input.shape[:axis], *sizes, *input.shape[axis + 1 :]))

    def extra_repr(self) -> str:
        return f"dim={self.dim}, unflattened_size={self.unflattened_size}"

"""Layers that tell a network where in a sequence a token stands."""

from __future__ import annotations

from typing import Any

from rabbet.base.errors import NumberRangeError, ShapeError
from rabbet.base.shapes import show
from rabbet.nn.module import Module
from rabbet.tensor import Tensor, arange, functions


class RotaryEmbedding(Module):
    """Queries or keys (..., positions, dim), turned by their positions: what attention then sees of
    two tokens is how far apart they are.

    Pair number i of `dim / 2` turns by position / base ** (2 i / dim). Its table of
    `max_positions` is a buffer that is not saved. `interleaved`: neighbours are pairs (GPT-J); else
    feature i and i + dim / 2 (GPT-NeoX, Llama). Source: RoFormer (Su et al. 2021,
    arXiv:2104.09864).

    Example:
        >>> turn = nn.RotaryEmbedding(4)
        >>> turn(rb.ones((2, 3, 5, 4))).shape
        (2, 3, 5, 4)
    """

    def __init__(
        self,
        dim: int,
        max_positions: int = 4096,
        base: float = 10000.0,
        interleaved: bool = False,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        if not isinstance(dim, int) or dim < 2 or dim % 2:
            raise NumberRangeError(f"RotaryEmbedding: dim is {dim}, it must be even and positive")
        if max_positions < 1:
            raise NumberRangeError(
                f"RotaryEmbedding: max_positions is {max_positions}, not 1 or more"
            )
        self.dim, self.max_positions = dim, max_positions
        self.base, self.interleaved = base, interleaved
        slowness = base ** (arange(0, dim, 2, dtype="float64") / dim)
        angles = arange(max_positions, dtype="float64").unsqueeze(1) / slowness
        kind = dtype or "float32"
        self.register_buffer("cos", angles.cos().astype(kind), persistent=False)
        self.register_buffer("sin", angles.sin().astype(kind), persistent=False)
        self.cos: Tensor
        self.sin: Tensor

    def forward(self, x: Tensor, positions: Tensor | None = None) -> Tensor:
        """x: (..., n, dim); positions: whole numbers (n,) or (..., n), 0 to n - 1 unless given.

        Raises ShapeError where x has another size or more positions than the table.
        """
        if x.ndim < 2 or x.shape[-1] != self.dim:
            raise ShapeError(
                f"RotaryEmbedding({self.dim}): x {show(x.shape)} must be (..., n, dim)"
            )
        if positions is not None:
            cos, sin = (functions["take"](t, positions, 0) for t in (self.cos, self.sin))
        elif x.shape[-2] > self.max_positions:
            raise ShapeError(
                f"RotaryEmbedding: x {show(x.shape)} has more than {self.max_positions} positions"
            )
        else:
            cos, sin = self.cos[: x.shape[-2]], self.sin[: x.shape[-2]]
        return functions["rotary_embedding"](x, cos, sin, self.interleaved)

    def extra_repr(self) -> str:
        """What `repr` shows."""
        return f"{self.dim}, base={self.base}, interleaved={self.interleaved}"

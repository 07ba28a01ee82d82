"""Multi-head attention, with PyTorch's parameters (one packed input projection)."""

from __future__ import annotations

from typing import Any

from rabbet.base.errors import RabbetError, ShapeError
from rabbet.base.shapes import show
from rabbet.nn import functional, init
from rabbet.nn.linear import Linear
from rabbet.nn.module import Module
from rabbet.nn.parameter import Parameter
from rabbet.tensor import Tensor, functions, zeros


class MultiheadAttention(Module):
    """Attention of several heads: (L, N, E), (S, N, E), (S, N, E) -> (L, N, E) and the weights.

    With `batch_first` the batch comes before the positions; without a batch axis it works too.
    Parameters: `in_proj_weight` (3E, E), `in_proj_bias` (3E,), `out_proj`. As in PyTorch a bool
    mask is True where a query may *not* attend; float masks are added.

    Example:
        >>> x = rb.ones((2, 5, 8))
        >>> y, weights = nn.MultiheadAttention(8, 2, batch_first=True)(x, x, x)
        >>> y.shape, weights.shape
        ((2, 5, 8), (2, 5, 5))
    """

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        dropout: float = 0.0,
        bias: bool = True,
        batch_first: bool = False,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        if embed_dim % num_heads:
            raise ShapeError(
                f"MultiheadAttention: num_heads={num_heads} does not divide embed_dim={embed_dim}"
            )
        self.embed_dim, self.num_heads, self.dropout = embed_dim, num_heads, dropout
        self.batch_first = batch_first
        packed = (3 * embed_dim, embed_dim)
        self.in_proj_weight = Parameter(zeros(packed, dtype=dtype, device=device))
        shift = Parameter(zeros(packed[:1], dtype=dtype)) if bias else None
        self.register_parameter("in_proj_bias", shift)
        self.out_proj = Linear(embed_dim, embed_dim, bias=bias, dtype=dtype)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the input projection anew; biases start at 0."""
        init.xavier_uniform_(self.in_proj_weight)
        for bias in (self.in_proj_bias, self.out_proj.bias):
            if bias is not None:
                init.zeros_(bias)

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        need_weights: bool = True,
        attn_mask: Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        is_batched = query.ndim == 3
        q, k, v = self._heads(query, key, value)  # (N, H, positions, E / H)
        mask = self._mask(q.shape[0], attn_mask, key_padding_mask, q.dtype)
        share = self.dropout if self.training else 0.0
        weights = None
        if need_weights:
            found = functional.attention_weights(q, k, mask, is_causal)
            weights = found.mean(axis=1) if average_attn_weights else found
            weights = weights if is_batched else weights[0]
            mixed = functional.dropout(found, share) @ v
        else:
            mixed = functional.scaled_dot_product_attention(q, k, v, mask, share, is_causal)
        batch, _, length, _ = mixed.shape
        result = mixed.permute((0, 2, 1, 3)).reshape((batch, length, self.embed_dim))
        result = self.out_proj(result)
        if not is_batched:
            return result[0], weights
        return (result if self.batch_first else result.permute((1, 0, 2))), weights

    def _heads(self, *inputs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        ranks = {t.ndim for t in inputs}
        if ranks not in ({2}, {3}) or any(t.shape[-1] != self.embed_dim for t in inputs):
            shapes = ", ".join(show(t.shape) for t in inputs)
            raise ShapeError(
                f"MultiheadAttention: query, key and value {shapes} must all have 2 or all 3 axes, "
                f"the last of size {self.embed_dim}"
            )
        size = self.embed_dim
        found = []
        for number, t in enumerate(inputs):
            weight = self.in_proj_weight[number * size : (number + 1) * size]
            bias = self.in_proj_bias
            shift = None if bias is None else bias[number * size : (number + 1) * size]
            if t.ndim == 2:
                t = t.unsqueeze(0)
            elif not self.batch_first:
                t = t.permute((1, 0, 2))
            wide = functional.linear(t, weight, shift)
            split = (*wide.shape[:2], self.num_heads, size // self.num_heads)
            found.append(wide.reshape(split).permute((0, 2, 1, 3)))
        q, k, v = found
        return q, k, v

    def _mask(
        self, batch: int, attn_mask: Tensor | None, padding: Tensor | None, dtype: Any
    ) -> Tensor | None:
        """Both masks as one that is added to the scores, broadcasting to (N, H, L, S)."""
        total = None
        if attn_mask is not None:
            total = _added(attn_mask, dtype)
            if total.ndim == 3:  # (N * H, L, S)
                total = total.reshape((batch, self.num_heads, *total.shape[1:]))
            elif total.ndim != 2:
                raise ShapeError(
                    f"MultiheadAttention: attn_mask {show(total.shape)} must be (L, S) "
                    "or (N H, L, S)"
                )
        if padding is not None:
            wide = _added(padding, dtype).reshape((batch, 1, 1, padding.shape[-1]))
            total = wide if total is None else total + wide
        return total


def _added(mask: Tensor, dtype: Any) -> Tensor:
    if mask.dtype.kind == "b":
        zero = functions["zeros_like"](mask.astype(dtype))
        return functions["where"](mask, float("-inf"), zero)
    if not mask.dtype.is_float:
        raise RabbetError(
            f"MultiheadAttention: a mask must be bool or float, not {mask.dtype.name}"
        )
    return mask

"""The transformer's layers and stacks (A. Vaswani et al., 2017), with PyTorch's parameters."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

from rabbet.base.errors import RabbetError
from rabbet.nn import functional, init
from rabbet.nn.attention import MultiheadAttention
from rabbet.nn.container import ModuleList
from rabbet.nn.dropout import Dropout
from rabbet.nn.linear import Linear
from rabbet.nn.module import Module
from rabbet.nn.norm import LayerNorm
from rabbet.tensor import Tensor, full, functions

Activation = str | Callable[[Tensor], Tensor]


def _function(activation: Activation) -> Callable[[Tensor], Tensor]:
    if not isinstance(activation, str):
        return activation
    known = {"relu": functional.relu, "gelu": functional.gelu}
    if activation not in known:
        raise RabbetError(f"activation={activation!r} must be 'relu', 'gelu' or a function")
    return known[activation]


class _Layer(Module):
    """What encoder and decoder layers share: attention, two linear maps, norms, dropout."""

    def __init__(
        self,
        d_model: int,
        nhead: int,
        dim_feedforward: int = 2048,
        dropout: float = 0.1,
        activation: Activation = "relu",
        layer_norm_eps: float = 1e-5,
        batch_first: bool = False,
        norm_first: bool = False,
        bias: bool = True,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        made = {"bias": bias, "device": device, "dtype": dtype}
        self.self_attn = MultiheadAttention(
            d_model, nhead, dropout, batch_first=batch_first, **made
        )
        self.linear1 = Linear(d_model, dim_feedforward, **made)
        self.dropout = Dropout(dropout)
        self.linear2 = Linear(dim_feedforward, d_model, **made)
        self.norm_first = norm_first
        self.norm1 = LayerNorm(d_model, layer_norm_eps, **made)
        self.norm2 = LayerNorm(d_model, layer_norm_eps, **made)
        self.dropout1, self.dropout2 = Dropout(dropout), Dropout(dropout)
        self.activation = _function(activation)

    def _attend(
        self, attention: MultiheadAttention, x: Tensor, memory: Tensor, *masks: Any
    ) -> Tensor:
        mask, padding, causal = masks
        return attention(
            *(x, memory, memory),
            attn_mask=mask,
            key_padding_mask=padding,
            need_weights=False,
            is_causal=causal and mask is None,
        )[0]

    def _feed(self, x: Tensor) -> Tensor:
        return self.linear2(self.dropout(self.activation(self.linear1(x))))


class TransformerEncoderLayer(_Layer):
    """Self-attention and two linear maps, each around a sum and a norm.

    (L, N, E) -> (L, N, E); with `batch_first` (N, L, E). Masks as in MultiheadAttention.

    Example:
        >>> nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)(rb.ones((2, 5, 8))).shape
        (2, 5, 8)
    """

    def forward(
        self,
        src: Tensor,
        src_mask: Tensor | None = None,
        src_key_padding_mask: Tensor | None = None,
        is_causal: bool = False,
    ) -> Tensor:
        masks = (src_mask, src_key_padding_mask, is_causal)
        x = src
        if self.norm_first:
            y = self.norm1(x)
            x = x + self.dropout1(self._attend(self.self_attn, y, y, *masks))
            return x + self.dropout2(self._feed(self.norm2(x)))
        x = self.norm1(x + self.dropout1(self._attend(self.self_attn, x, x, *masks)))
        return self.norm2(x + self.dropout2(self._feed(x)))


class TransformerDecoderLayer(_Layer):
    """Self-attention, attention to `memory`, and two linear maps: (L, N, E), (S, N, E).

    Arguments as in TransformerEncoderLayer.
    """

    def __init__(
        self,
        d_model: int,
        nhead: int,
        dim_feedforward: int = 2048,
        dropout: float = 0.1,
        activation: Activation = "relu",
        layer_norm_eps: float = 1e-5,
        batch_first: bool = False,
        norm_first: bool = False,
        bias: bool = True,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(
            *(d_model, nhead, dim_feedforward, dropout, activation, layer_norm_eps),
            *(batch_first, norm_first, bias, device, dtype),
        )
        made = {"bias": bias, "device": device, "dtype": dtype}
        self.multihead_attn = MultiheadAttention(
            d_model, nhead, dropout, batch_first=batch_first, **made
        )
        self.norm3 = LayerNorm(d_model, layer_norm_eps, **made)
        self.dropout3 = Dropout(dropout)

    def forward(
        self,
        tgt: Tensor,
        memory: Tensor,
        tgt_mask: Tensor | None = None,
        memory_mask: Tensor | None = None,
        tgt_key_padding_mask: Tensor | None = None,
        memory_key_padding_mask: Tensor | None = None,
        tgt_is_causal: bool = False,
        memory_is_causal: bool = False,
    ) -> Tensor:
        own = (tgt_mask, tgt_key_padding_mask, tgt_is_causal)
        other = (memory_mask, memory_key_padding_mask, memory_is_causal)
        x = tgt
        if self.norm_first:
            y = self.norm1(x)
            x = x + self.dropout1(self._attend(self.self_attn, y, y, *own))
            y = self.norm2(x)
            x = x + self.dropout2(self._attend(self.multihead_attn, y, memory, *other))
            return x + self.dropout3(self._feed(self.norm3(x)))
        x = self.norm1(x + self.dropout1(self._attend(self.self_attn, x, x, *own)))
        x = self.norm2(x + self.dropout2(self._attend(self.multihead_attn, x, memory, *other)))
        return self.norm3(x + self.dropout3(self._feed(x)))


class _Stack(Module):
    """Copies of one layer, one after the other; the copies start alike, as in PyTorch."""

    def __init__(self, layer: Module, num_layers: int, norm: Module | None = None) -> None:
        super().__init__()
        self.layers = ModuleList([copy.deepcopy(layer) for _ in range(num_layers)])
        self.num_layers, self.norm = num_layers, norm


class TransformerEncoder(_Stack):
    """A stack of TransformerEncoderLayers, and a norm behind it if there is one."""

    def forward(
        self,
        src: Tensor,
        mask: Tensor | None = None,
        src_key_padding_mask: Tensor | None = None,
        is_causal: bool = False,
    ) -> Tensor:
        x = src
        for layer in self.layers:
            x = layer(x, mask, src_key_padding_mask, is_causal)
        return x if self.norm is None else self.norm(x)


class TransformerDecoder(_Stack):
    """A stack of TransformerDecoderLayers, and a norm behind it if there is one."""

    def forward(self, tgt: Tensor, memory: Tensor, *masks: Any, **named: Any) -> Tensor:
        x = tgt
        for layer in self.layers:
            x = layer(x, memory, *masks, **named)
        return x if self.norm is None else self.norm(x)


class Transformer(Module):
    """An encoder and a decoder: (S, N, E), (L, N, E) -> (L, N, E).

    Example:
        >>> net = nn.Transformer(8, 2, 1, 1, 16, batch_first=True)
        >>> net(rb.ones((2, 5, 8)), rb.ones((2, 3, 8))).shape
        (2, 3, 8)
    """

    def __init__(
        self,
        d_model: int = 512,
        nhead: int = 8,
        num_encoder_layers: int = 6,
        num_decoder_layers: int = 6,
        dim_feedforward: int = 2048,
        dropout: float = 0.1,
        activation: Activation = "relu",
        layer_norm_eps: float = 1e-5,
        batch_first: bool = False,
        norm_first: bool = False,
        bias: bool = True,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        given = (
            *(d_model, nhead, dim_feedforward, dropout, activation, layer_norm_eps),
            *(batch_first, norm_first, bias, device, dtype),
        )
        made = {"bias": bias, "device": device, "dtype": dtype}
        encoder, decoder = TransformerEncoderLayer(*given), TransformerDecoderLayer(*given)
        self.encoder = TransformerEncoder(
            encoder, num_encoder_layers, LayerNorm(d_model, layer_norm_eps, **made)
        )
        self.decoder = TransformerDecoder(
            decoder, num_decoder_layers, LayerNorm(d_model, layer_norm_eps, **made)
        )
        for parameter in self.parameters():
            if parameter.ndim > 1:
                init.xavier_uniform_(parameter)

    def forward(
        self,
        src: Tensor,
        tgt: Tensor,
        src_mask: Tensor | None = None,
        tgt_mask: Tensor | None = None,
        memory_mask: Tensor | None = None,
        src_key_padding_mask: Tensor | None = None,
        tgt_key_padding_mask: Tensor | None = None,
        memory_key_padding_mask: Tensor | None = None,
    ) -> Tensor:
        memory = self.encoder(src, src_mask, src_key_padding_mask)
        return self.decoder(
            *(tgt, memory, tgt_mask, memory_mask),
            *(tgt_key_padding_mask, memory_key_padding_mask),
        )

    @staticmethod
    def generate_square_subsequent_mask(size: int) -> Tensor:
        """A mask to be added under which no position sees those behind it."""
        return functions["triu"](full((size, size), float("-inf")), 1)

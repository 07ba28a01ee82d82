"""RNN, LSTM and GRU over sequences, and their cells, with PyTorch's parameters and options.

What inputs contribute to all steps is one product; the steps run in one kernel for each layer and
direction (ops/recurrent.py).
"""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import Any, ClassVar, NamedTuple

from rabbet.base.errors import RabbetError, ShapeError
from rabbet.base.shapes import show
from rabbet.nn import functional, init
from rabbet.nn.module import Module
from rabbet.nn.parameter import Parameter
from rabbet.nn.sequences import (
    PackedSequence,
    at_ends,
    pack_padded_sequence,
    pad_packed_sequence,
    turned,
)
from rabbet.tensor import Tensor, functions, zeros

State = Tensor | tuple[Tensor, ...]


class _Weights(NamedTuple):
    """The weights of one direction of one layer."""

    ih: Tensor
    hh: Tensor
    bias_ih: Tensor | None
    bias_hh: Tensor | None

    def bias(self) -> Tensor | None:
        """Both biases in one: they are only ever added."""
        if self.bias_ih is None or self.bias_hh is None:
            return None
        return self.bias_ih + self.bias_hh


class _Cells(Module):
    """What layers and cells share: parameters, and a scan over (steps, batch, features)."""

    gates: ClassVar[int]
    states: ClassVar[int] = 1  # tensors that make up the state: h, or h and c

    def _parameters_of(
        self, suffix: str, inputs: int, units: int, bias: bool, dtype: Any, device: Any
    ) -> None:
        rows = self.gates * units
        for kind, columns in (("ih", inputs), ("hh", units)):
            shape = (rows, columns)
            weight = Parameter(zeros(shape, dtype=dtype, device=device))
            self.register_parameter(f"weight_{kind}{suffix}", weight)
        for kind in ("ih", "hh"):
            made = Parameter(zeros((rows,), dtype=dtype, device=device)) if bias else None
            self.register_parameter(f"bias_{kind}{suffix}", made)

    def reset_parameters(self) -> None:
        """Draw the parameters anew: uniform in +-1 / sqrt(hidden_size)."""
        bound = 1 / math.sqrt(self.hidden_size) if self.hidden_size else 0.0
        for p in self.parameters():
            init.uniform_(p, -bound, bound)

    def _scan(
        self, x: Tensor, suffix: str, state: tuple[Tensor, ...], reverse: bool
    ) -> tuple[Tensor, ...]:
        """h (and c) of all steps."""
        names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        weights = _Weights(*(getattr(self, f"{name}{suffix}") for name in names))
        return self._steps(x, weights, state, reverse)

    @abstractmethod
    def _steps(
        self, x: Tensor, weights: _Weights, state: tuple[Tensor, ...], reverse: bool
    ) -> tuple[Tensor, ...]:
        """The outputs of all steps."""


class _LSTMSteps(_Cells):
    gates, states = 4, 2

    def _steps(
        self, x: Tensor, weights: _Weights, state: tuple[Tensor, ...], reverse: bool
    ) -> tuple[Tensor, ...]:
        wide = functional.linear(x, weights.ih, weights.bias())
        found: tuple[Tensor, ...] = functions["lstm_scan"](
            wide, weights.hh, *state, reverse=reverse
        )
        return found


class _GRUSteps(_Cells):
    gates = 3

    def _steps(
        self, x: Tensor, weights: _Weights, state: tuple[Tensor, ...], reverse: bool
    ) -> tuple[Tensor, ...]:
        units, bias = weights.hh.shape[1], weights.bias_ih
        own = zeros((units,), dtype=x.dtype)
        if bias is not None and weights.bias_hh is not None:
            shift = functions["concat"]([weights.bias_hh[: 2 * units], own])
            bias, own = bias + shift, weights.bias_hh[2 * units :]
        wide = functional.linear(x, weights.ih, bias)
        return (functions["gru_scan"](wide, weights.hh, own, *state, reverse=reverse),)


class _RNNSteps(_Cells):
    gates = 1
    nonlinearity: str

    def _steps(
        self, x: Tensor, weights: _Weights, state: tuple[Tensor, ...], reverse: bool
    ) -> tuple[Tensor, ...]:
        wide = functional.linear(x, weights.ih, weights.bias())
        relu = self.nonlinearity == "relu"
        found = functions["rnn_scan"](wide, weights.hh, *state, relu=relu, reverse=reverse)
        return (found,)


# ---- layers --------------------------------------------------------------------------------------


class _Layers(_Cells):
    """Layers of steps, one way or both ways through time."""

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        proj_size: int = 0,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        name = type(self).__name__
        if proj_size:
            raise RabbetError(f"{name}: proj_size is not there; put a Linear behind the layer")
        if num_layers < 1 or hidden_size < 1 or input_size < 0:
            raise ShapeError(
                f"{name}: input_size={input_size}, hidden_size={hidden_size} and "
                f"num_layers={num_layers} must be positive"
            )
        self.input_size, self.hidden_size, self.num_layers = input_size, hidden_size, num_layers
        self.bias, self.batch_first, self.dropout = bias, batch_first, dropout
        self.bidirectional = bidirectional
        inputs = input_size
        for layer in range(num_layers):
            for suffix in self._suffixes(layer):
                self._parameters_of(suffix, inputs, hidden_size, bias, dtype, device)
            inputs = hidden_size * len(self._suffixes(layer))
        self.reset_parameters()

    def _suffixes(self, layer: int) -> tuple[str, ...]:
        ways = ("", "_reverse") if self.bidirectional else ("",)
        return tuple(f"_l{layer}{way}" for way in ways)

    def forward(self, input: Any, hx: State | None = None) -> tuple[Any, State]:
        if isinstance(input, PackedSequence):
            return self._packed(input, hx)
        is_batched = input.ndim == 3
        x = self._sequence(input)
        x, last = self._run(x, self._start(x, hx, is_batched), None)
        if not is_batched:
            x, last = x[:, 0], tuple(e[:, 0] for e in last)
        elif self.batch_first:
            x = x.permute((1, 0, 2))
        return x, last if self.states > 1 else last[0]

    def _packed(self, input: PackedSequence, hx: State | None) -> tuple[PackedSequence, State]:
        """Steps behind a sequence's end are computed, and neither seen nor in its last state."""
        if input.data.ndim != 2 or input.data.shape[1] != self.input_size:
            raise ShapeError(
                f"{type(self).__name__}: packed data {show(input.data.shape)} must be "
                f"(elements, {self.input_size})"
            )
        sorted_ = PackedSequence(input.data, input.batch_sizes)
        x, lengths = pad_packed_sequence(sorted_)
        state = self._start(x, hx, True)
        order, back = input.sorted_indices, input.unsorted_indices
        if order is not None and hx is not None:
            state = tuple(functions["take"](s, order, 1) for s in state)
        x, last = self._run(x, state, lengths)
        if back is not None:
            last = tuple(functions["take"](e, back, 1) for e in last)
        data = pack_padded_sequence(x, lengths).data
        return input._replace(data=data), last if self.states > 1 else last[0]

    def _run(
        self, x: Tensor, state: tuple[Tensor, ...], lengths: Tensor | None
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """All layers over (steps, batch, features): the outputs and the last states."""
        ends: list[list[Tensor]] = [[] for _ in range(self.states)]
        for layer in range(self.num_layers):
            found = []
            for suffix in self._suffixes(layer):
                number, reverse = len(ends[0]), suffix.endswith("_reverse")
                start = tuple(s[number] for s in state)
                made, last = self._way(x, suffix, start, reverse, lengths)
                for end, state_ in zip(ends, last, strict=True):
                    end.append(state_)
                found.append(made)
            x = found[0] if len(found) == 1 else functions["concat"](found, axis=-1)
            if layer + 1 < self.num_layers:
                x = functional.dropout(x, self.dropout if self.training else 0.0)
        return x, tuple(functions["stack"](e, axis=0) for e in ends)

    def _way(
        self,
        x: Tensor,
        suffix: str,
        start: tuple[Tensor, ...],
        reverse: bool,
        lengths: Tensor | None,
    ) -> tuple[Tensor, list[Tensor]]:
        """One direction of one layer: its outputs and its last state."""
        if lengths is None:
            made = self._scan(x, suffix, start, reverse)
            return made[0], [steps[0 if reverse else -1] for steps in made]
        made = self._scan(turned(x, lengths) if reverse else x, suffix, start, False)
        last = [at_ends(steps, lengths) for steps in made]
        return turned(made[0], lengths) if reverse else made[0], last

    def _sequence(self, input: Tensor) -> Tensor:
        """The input as (steps, batch, features)."""
        if input.ndim not in (2, 3) or input.shape[-1] != self.input_size:
            raise ShapeError(
                f"{type(self).__name__}: input {show(input.shape)} must have 2 or 3 axes, the last "
                f"of size {self.input_size}"
            )
        if input.ndim == 2:
            return input.unsqueeze(1)
        return input.permute((1, 0, 2)) if self.batch_first else input

    def _start(self, x: Tensor, hx: State | None, is_batched: bool) -> tuple[Tensor, ...]:
        """The states at first, (layers * ways, batch, hidden) each."""
        count = self.num_layers * len(self._suffixes(0))
        shape = (count, x.shape[1], self.hidden_size)
        if hx is None:
            return tuple(zeros(shape, dtype=x.dtype) for _ in range(self.states))
        given = hx if isinstance(hx, tuple | list) else (hx,)
        if len(given) != self.states:
            raise ShapeError(
                f"{type(self).__name__}: hx must be {self.states} tensors, got {len(given)}"
            )
        state = tuple(s if is_batched else s.unsqueeze(1) for s in given)
        for s in state:
            if s.shape != shape:
                raise ShapeError(f"{type(self).__name__}: hx {show(s.shape)} must be {show(shape)}")
        return state

    def extra_repr(self) -> str:
        return f"{self.input_size}, {self.hidden_size}, num_layers={self.num_layers}"


class LSTM(_Layers, _LSTMSteps):
    """Layers of long short-term memory: (L, N, input_size) -> (L, N, D * hidden_size), (h, c).

    `batch_first`: (N, L, ...); without a batch axis it works too. D is 2 if `bidirectional`; h and
    c are (D * num_layers, N, hidden_size). `dropout` acts between layers. Parameters are PyTorch's:
    `weight_ih_l0` (4 hidden, input), gates i, f, g, o. Raises ShapeError for other shapes.

    Example:
        >>> y, (h, c) = nn.LSTM(3, 5, batch_first=True)(rb.ones((2, 7, 3)))
        >>> y.shape, h.shape, c.shape
        ((2, 7, 5), (1, 2, 5), (1, 2, 5))
    """


class GRU(_Layers, _GRUSteps):
    """Layers of gated recurrent units: (L, N, input_size) -> (L, N, D * hidden_size), h.

    Options as in LSTM; gates r, z, n, with the reset after the product, as in PyTorch.

    Example:
        >>> y, h = nn.GRU(3, 5, bidirectional=True)(rb.ones((7, 2, 3)))
        >>> y.shape, h.shape
        ((7, 2, 10), (2, 2, 5))
    """


class RNN(_Layers, _RNNSteps):
    """Layers of h' = tanh(W x + b + U h + d), or relu: (L, N, input_size) -> (L, N, D * hidden), h.

    Options as in LSTM, and `nonlinearity`: "tanh" or "relu".

    Example:
        >>> y, h = nn.RNN(3, 5, nonlinearity="relu")(rb.ones((7, 2, 3)))
        >>> y.shape, h.shape
        ((7, 2, 5), (1, 2, 5))
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        nonlinearity: str = "tanh",
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        _check_nonlinearity("RNN", nonlinearity)
        options = (bias, batch_first, dropout, bidirectional)
        super().__init__(input_size, hidden_size, num_layers, *options, device=device, dtype=dtype)
        self.nonlinearity = nonlinearity


def _check_nonlinearity(name: str, nonlinearity: str) -> None:
    if nonlinearity not in ("tanh", "relu"):
        raise RabbetError(f"{name}: nonlinearity is {nonlinearity!r}, it must be 'tanh' or 'relu'")


# ---- cells ---------------------------------------------------------------------------------------


class _Cell(_Cells):
    """One step: (N, input_size) or (input_size,)."""

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        self.input_size, self.hidden_size, self.bias = input_size, hidden_size, bias
        self._parameters_of("", input_size, hidden_size, bias, dtype, device)
        self.reset_parameters()

    def forward(self, input: Tensor, hx: State | None = None) -> State:
        if input.ndim not in (1, 2) or input.shape[-1] != self.input_size:
            raise ShapeError(
                f"{type(self).__name__}: input {show(input.shape)} must have 1 or 2 axes, the last "
                f"of size {self.input_size}"
            )
        is_batched = input.ndim == 2
        x = input if is_batched else input.unsqueeze(0)
        shape = (x.shape[0], self.hidden_size)
        if hx is None:
            state = tuple(zeros(shape, dtype=x.dtype) for _ in range(self.states))
        else:
            given = hx if isinstance(hx, tuple | list) else (hx,)
            state = tuple(s if is_batched else s.unsqueeze(0) for s in given)
        if len(state) != self.states or any(s.shape != shape for s in state):
            raise ShapeError(f"{type(self).__name__}: hx must be {self.states} of {show(shape)}")
        found = tuple(s[0] for s in self._scan(x.unsqueeze(0), "", state, False))
        found = found if is_batched else tuple(s[0] for s in found)
        return found if self.states > 1 else found[0]

    def extra_repr(self) -> str:
        return f"{self.input_size}, {self.hidden_size}"


class LSTMCell(_Cell, _LSTMSteps):
    """One step of an LSTM: (N, input_size), (h, c) -> (h, c), each (N, hidden_size).

    Example:
        >>> h, c = nn.LSTMCell(3, 5)(rb.ones((2, 3)))
        >>> h.shape, c.shape
        ((2, 5), (2, 5))
    """


class GRUCell(_Cell, _GRUSteps):
    """One step of a GRU: (N, input_size), h -> h (N, hidden_size).

    Example:
        >>> nn.GRUCell(3, 5)(rb.ones((2, 3))).shape
        (2, 5)
    """


class RNNCell(_Cell, _RNNSteps):
    """One step of an RNN: (N, input_size), h -> h (N, hidden_size).

    Example:
        >>> nn.RNNCell(3, 5, nonlinearity="relu")(rb.ones((2, 3))).shape
        (2, 5)
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        nonlinearity: str = "tanh",
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        _check_nonlinearity("RNNCell", nonlinearity)
        super().__init__(input_size, hidden_size, bias, device, dtype)
        self.nonlinearity = nonlinearity

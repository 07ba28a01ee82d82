"""Losses and distances for `functional` whose arguments come in another order than the op's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from rabbet.base.dtypes import dtype_of
from rabbet.base.errors import IndexRangeError, RabbetError, ShapeError
from rabbet.base.shapes import show
from rabbet.ops.checks import need_integer
from rabbet.ops.loss_reduction import reduce_loss
from rabbet.tensor import Tensor, asarray, functions, zeros
from rabbet.tensor.create import arange


def multi_margin_loss(
    input: Tensor,
    target: Tensor,
    p: int = 1,
    margin: float = 1.0,
    weight: Tensor | None = None,
    reduction: str = "mean",
) -> Tensor:
    """The mean over classes of max(0, margin - input[target] + input[other])^p: (N, C), (N,)."""
    return functions["multi_margin_loss"](input, target, weight, p, margin, reduction)


def poisson_nll_loss(
    input: Tensor,
    target: Tensor,
    log_input: bool = True,
    full: bool = False,
    eps: float = 1e-8,
    reduction: str = "mean",
) -> Tensor:
    """exp(input) - target * input, or input - target * log(input + eps) without `log_input`.

    `full` adds Stirling's approximation of log(target!) where target > 1.
    """
    return functions["poisson_nll_loss"](input, target, log_input, full, eps, reduction)


def triplet_margin_with_distance_loss(
    anchor: Tensor,
    positive: Tensor,
    negative: Tensor,
    *,
    distance_function: Callable[[Tensor, Tensor], Tensor] | None = None,
    margin: float = 1.0,
    swap: bool = False,
    reduction: str = "mean",
) -> Tensor:
    """max(0, distance(anchor, positive) - distance(anchor, negative) + margin).

    The distance is any function of two tensors; pairwise_distance unless given.
    """
    distance = distance_function or functions["pairwise_distance"]
    near, far = distance(anchor, positive), distance(anchor, negative)
    if swap:
        far = functions["minimum"](far, distance(positive, negative))
    loss = functions["relu"](near - far + margin)
    return reduce_loss("triplet_margin_with_distance_loss", loss, reduction)


def ctc_loss(
    log_probs: Tensor,
    targets: Tensor,
    input_lengths: Any,
    target_lengths: Any,
    blank: int = 0,
    reduction: str = "mean",
    zero_infinity: bool = False,
) -> Tensor:
    """Connectionist temporal classification (A. Graves et al., 2006).

    log_probs (T, N, C) or (T, C); targets (N, S), or all of them in one vector. Lengths are given
    per example. The mean is that of loss / target length. Losses are infinite where a target does
    not fit; with `zero_infinity` they and their gradients are 0. The lengths of targets in one
    vector are read, so they are not to come from under `vmap`.
    """
    single = log_probs.ndim == 2
    rows = log_probs.unsqueeze(1) if single else log_probs
    targets = asarray(targets)
    frames = _lengths("input_lengths", input_lengths, rows.shape[0])
    counts = _lengths("target_lengths", target_lengths, targets.shape[-1] if targets.ndim else 1)
    if rows.ndim != 3:
        raise ShapeError(f"ctc_loss: log_probs {show(log_probs.shape)} must be (T, N, C) or (T, C)")
    labels = targets.unsqueeze(0) if single and targets.ndim == 1 else targets
    if labels.ndim == 1:
        labels = _in_rows(labels, counts)
    loss = functions["ctc"](rows, labels, frames, counts, blank)
    if zero_infinity:
        loss = functions["where"](functions["isinf"](loss), 0.0, loss)
    if reduction == "mean":
        return (loss / functions["clip"](counts, 1, None).astype(loss.dtype)).mean()
    found = reduce_loss("ctc_loss", loss, reduction)
    return found[0] if single and reduction == "none" else found


def _lengths(name: str, lengths: Any, most: int) -> Tensor:
    """One length per example; what was not a tensor is checked by its name at once."""
    if not isinstance(lengths, Tensor):
        lengths = np.asarray(lengths, None if np.size(lengths) else np.int64)
        need_integer("ctc_loss", name, dtype_of(lengths.dtype))
        for place, n in enumerate(lengths.reshape(-1).tolist()):
            if not 0 <= n <= most:
                raise IndexRangeError(f"ctc_loss: {name}[{place}]={n} must be from 0 to {most}")
        lengths = asarray(lengths)
    need_integer("ctc_loss", name, lengths.dtype)
    return lengths.reshape((-1,)).astype("int64")


def _in_rows(labels: Tensor, counts: Tensor) -> Tensor:
    """Targets in one vector as rows; how many each has is read for the width."""
    numbers = counts.numpy()
    if numbers.min(initial=0) < 0:
        raise IndexRangeError(f"ctc_loss: target_lengths {numbers.tolist()} must be 0 or more")
    if int(numbers.sum()) != labels.shape[0]:
        raise ShapeError(
            f"ctc_loss: target_lengths add up to {int(numbers.sum())}, targets are "
            f"{show(labels.shape)}"
        )
    width = int(numbers.max(initial=1))
    begin = functions["unsqueeze"](functions["cumulative_sum"](counts) - counts, 1)
    place = functions["clip"](begin + arange(width), 0, labels.shape[0])
    more = functions["concat"]([labels, zeros((1,), dtype=labels.dtype)])  # where nothing is used
    return functions["take"](more, place, 0)


def pdist(input: Tensor, p: float = 2.0) -> Tensor:
    """Distances of pairs of rows: (N, D) -> (N (N - 1) / 2,): (0, 1), (0, 2), ..., (1, 2), ..."""
    if input.ndim != 2:
        raise ShapeError(f"pdist: input {show(input.shape)} must be (N, D)")
    n = input.shape[0]
    rows = [i for i in range(n) for _ in range(i + 1, n)]
    columns = [j for i in range(n) for j in range(i + 1, n)]
    if not rows:
        return input.sum(axis=1)[:0]
    one, two = (functions["take"](input, _index(k), 0) for k in (rows, columns))
    return functions["pairwise_distance"](one, two, p, 0.0)


def _index(places: list[int]) -> Tensor:
    return functions["positive"](places)


def bilinear(input1: Tensor, input2: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """input1^T weight[o] input2 + bias[o]: (..., A), (..., B), (O, A, B) -> (..., O)."""
    if weight.ndim != 3 or weight.shape[1:] != (input1.shape[-1], input2.shape[-1]):
        raise ShapeError(
            f"bilinear: weight {show(weight.shape)} must be (O, {input1.shape[-1]}, "
            f"{input2.shape[-1]})"
        )
    outs, a, b = weight.shape
    both = (input1.unsqueeze(-1) * input2.unsqueeze(-2)).reshape((*input1.shape[:-1], a * b))
    return functions["linear"](both, weight.reshape((outs, a * b)), bias)


def embedding_bag(
    input: Tensor,
    weight: Tensor,
    offsets: Tensor | None = None,
    mode: str = "mean",
    per_sample_weights: Tensor | None = None,
    padding_idx: int | None = None,
) -> Tensor:
    """Sums, means or largest elements of the rows of bags: (B, n) -> (B, width).

    Or a vector of numbers whose bags start at `offsets`. Rows `padding_idx` do not count; an empty
    bag gives zeros. Weights per number go with mode="sum".
    """
    if mode not in ("sum", "mean", "max"):
        raise RabbetError(f"embedding_bag: mode={mode!r} must be 'sum', 'mean' or 'max'")
    if per_sample_weights is not None and mode != "sum":
        raise RabbetError("embedding_bag: per_sample_weights need mode='sum'")
    if (input.ndim == 2) == (offsets is not None):
        raise ShapeError("embedding_bag: a vector of numbers needs offsets, a matrix takes none")
    if offsets is None:
        count, bag = input.shape[0], functions["zeros_like"](input)
        bag = bag + functions["cumulative_sum"](functions["ones_like"](bag), 0) - 1
    else:
        count = offsets.shape[0]
        at = functions["cumulative_sum"](functions["ones_like"](input), 0) - 1
        bag = functions["searchsorted"](offsets.astype(at.dtype), at, "right") - 1
        if count and int(offsets[0].item()) != 0:
            raise IndexRangeError("embedding_bag: the first bag starts at offsets[0], it must be 0")
    flat, bag = input.reshape((-1,)), bag.reshape((-1,))
    if padding_idx is not None:
        row = padding_idx % weight.shape[0]
        bag = functions["where"](flat == row, count, bag)  # a bag that is thrown away
    rows = functions["take"](weight, flat, 0)
    if per_sample_weights is not None:
        rows = rows * per_sample_weights.reshape((-1, 1))
    if mode == "max":
        found = functions["segment_max"](rows, bag, count + 1)
        found = functions["where"](functions["isinf"](found), 0.0, found)
    else:
        found = functions[f"segment_{mode}"](rows, bag, count + 1)
    return found[:count]

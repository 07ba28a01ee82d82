"""Metrics: functions of (output, target) that give a 0-d tensor, the mean over a batch.

They are recorded with the training step and read only when somebody looks.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

from rabbet.base.errors import DTypeError, ShapeError
from rabbet.base.shapes import show
from rabbet.base.words import meant
from rabbet.nn.loss import BCEWithLogitsLoss
from rabbet.tensor import Tensor, functions

Function = Callable[[Any, Any], Any]


class Metric(NamedTuple):
    """A name for the reports, and what computes it."""

    name: str
    function: Function


def accuracy(output: Tensor, target: Tensor, threshold: float = 0.5) -> Tensor:
    """The share of right answers.

    Scores (N, C, ...) against class numbers (N, ...) or scores of the target; a single score per
    sample against 0 or 1 means yes above `threshold`. ShapeError where the shapes fit neither.
    """
    if target.ndim == output.ndim - 1 and output.shape[1] > 1 and target.dtype.is_integer:
        return _share(output.argmax(axis=1) == target)
    if target.shape == output.shape and output.ndim > 1 and output.shape[1] > 1:
        return _share(output.argmax(axis=1) == target.argmax(axis=1))
    return binary_accuracy(output, target, threshold)


def binary_accuracy(output: Tensor, target: Tensor, threshold: float = 0.5) -> Tensor:
    """The share of samples where "output > threshold" is what the target (0 or 1) says."""
    if output.size != target.size or output.shape[:1] != target.shape[:1]:
        raise ShapeError(f"accuracy: output {show(output.shape)}, target {show(target.shape)}")
    return _share((output > threshold) == (target.reshape(output.shape) > 0.5))


def top_k_accuracy(output: Tensor, target: Tensor, k: int = 5) -> Tensor:
    """The share of samples whose class is among the k highest scores; ties count as right."""
    if not target.dtype.is_integer or output.ndim != 2 or target.shape != output.shape[:1]:
        raise ShapeError(
            f"top_k_accuracy: needs scores (N, C) and class numbers (N,), the shapes are "
            f"{show(output.shape)} and {show(target.shape)}"
        )
    chosen = functions["one_hot"](target, output.shape[1]) > 0
    own = functions["where"](chosen, output, float("-inf")).max(axis=1, keepdims=True)
    return _share((output > own).astype("int64").sum(axis=1) < k)


def mean_squared_error(output: Tensor, target: Tensor) -> Tensor:
    """The mean of squared differences."""
    difference = output - _fitting("mean_squared_error", output, target)
    return (difference * difference).mean()


def mean_absolute_error(output: Tensor, target: Tensor) -> Tensor:
    """The mean of absolute differences."""
    return abs(output - _fitting("mean_absolute_error", output, target)).mean()


METRICS: dict[str, Function] = {
    "accuracy": accuracy,
    "acc": accuracy,
    "binary_accuracy": binary_accuracy,
    "top_k_accuracy": top_k_accuracy,
    "mean_squared_error": mean_squared_error,
    "mse": mean_squared_error,
    "mean_absolute_error": mean_absolute_error,
    "mae": mean_absolute_error,
}


def find_metric(given: Any, loss: Any) -> Metric:
    """A metric from a name or a callable; ValueError for an unknown name."""
    if isinstance(given, str):
        if given not in METRICS:
            known = ", ".join(METRICS)
            hint = meant(given, METRICS)
            raise ValueError(f"no metric is called {given!r}; there are {known}{hint}")
        function = METRICS[given]
        if isinstance(loss, BCEWithLogitsLoss) and function in (accuracy, binary_accuracy):
            # The loss takes logits, so 0 is where yes and no are equally likely.
            function = functools.partial(function, threshold=0.0)
        return Metric(given, function)
    if not callable(given):
        raise TypeError(f"a metric must be a name or a function, not {type(given).__name__}")
    name = getattr(given, "name", None) or getattr(given, "__name__", type(given).__name__)
    return Metric(str(name), given)


def _share(right: Tensor) -> Tensor:
    return right.astype("float32").mean()


def _fitting(name: str, output: Tensor, target: Tensor) -> Tensor:
    """The target in output's shape: (N,) beside (N, 1) must not broadcast to (N, N)."""
    if output.size != target.size or output.shape[:1] != target.shape[:1]:
        raise ShapeError(f"{name}: output {show(output.shape)}, target {show(target.shape)}")
    if target.dtype.is_float and target.dtype is not output.dtype:
        raise DTypeError(
            f"{name}: output is {output.dtype.name} and target is {target.dtype.name}; "
            f"cast one of them, e.g. target.astype(rb.{output.dtype.name})"
        )
    return target.reshape(output.shape).astype(output.dtype)

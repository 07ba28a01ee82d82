"""What `Trainer` accepts as a loss, and a loss in which classes have weights."""

from __future__ import annotations

import copy
import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from rabbet.base.errors import RabbetError, ShapeError
from rabbet.base.words import meant
from rabbet.nn import Module, functional
from rabbet.tensor import asarray, functions

KERAS = {  # Keras's words -> ours; an error names them, since some want logits where Keras does not
    "sparse_categorical_crossentropy": "cross_entropy",
    "categorical_crossentropy": "cross_entropy",
    "binary_crossentropy": "binary_cross_entropy_with_logits",
    "mean_squared_error": "mse",
    "mean_absolute_error": "l1",
    "mae": "l1",
    "kl_divergence": "kl_div",
}


def find_loss(loss: Any) -> Callable[..., Any] | None:
    """A loss by its name in `nn.functional`, with or without `_loss`; a function as it is."""
    if isinstance(loss, str):
        found = getattr(functional, loss, None) or getattr(functional, f"{loss}_loss", None)
        if found is None:
            losses = [name for name in dir(functional) if name.endswith("_loss")]
            losses += ["cross_entropy", *(name.removesuffix("_loss") for name in losses)]
            hint = f"; use {KERAS[loss]!r}" if loss in KERAS else meant(loss, losses)
            raise ValueError(f"nn.functional has no loss called {loss!r}{hint}")
        return found
    if loss is not None and not callable(loss):
        raise TypeError(f"loss must be a function, a module or a name, not {type(loss).__name__}")
    return loss


def weighted(loss: Callable[..., Any], class_weight: Mapping[int, float]) -> Callable[..., Any]:
    """The mean of each sample's loss times the weight of its class (1 where none is given)."""
    each = _per_sample(loss)
    largest = max((int(number) for number in class_weight), default=0)
    table = np.ones(largest + 2, np.float64)  # the last row is for all classes beyond
    for number, weight in class_weight.items():
        if int(number) < 0:
            raise ValueError(f"fit: class_weight has the class {number}; classes count from 0")
        table[int(number)] = weight
    weights = asarray(table)

    def loss_of(output: Any, target: Any) -> Any:
        if not target.dtype.is_integer or target.ndim != 1:
            raise ShapeError("fit: class_weight needs targets that are class numbers (N,)")
        value = each(output, target)
        rows = functions["take"](weights, target.clip(0, largest + 1), axis=0)
        return (value * rows.astype(value.dtype)).mean()

    return loss_of


def _per_sample(loss: Callable[..., Any]) -> Callable[..., Any]:
    """The same loss without its reduction."""
    if isinstance(loss, Module) and hasattr(loss, "reduction"):
        each = copy.copy(loss)
        each.reduction = "none"
        return each
    declared = getattr(loss, "op", None)
    names = (
        [p.name for p in declared.parameters]
        if declared is not None
        else list(inspect.signature(loss).parameters)
    )
    if "reduction" in names:
        return functools.partial(loss, reduction="none")
    raise RabbetError(
        "fit: class_weight needs a loss that has a `reduction`, to weight each sample"
    )

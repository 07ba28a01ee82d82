"""A softmax over very many classes, of which a few are frequent."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from rabbet.base.errors import IndexRangeError, RabbetError, ShapeError
from rabbet.base.shapes import show
from rabbet.nn import functional
from rabbet.nn.container import ModuleList, Sequential
from rabbet.nn.linear import Linear
from rabbet.nn.module import Module
from rabbet.ops.checks import need_integer
from rabbet.tensor import Tensor, functions, zeros
from rabbet.tensor.tensor import from_numpy


class ASMoutput(NamedTuple):
    """What AdaptiveLogSoftmaxWithLoss gives: a logarithm for each example, and the loss."""

    output: Tensor
    loss: Tensor


class AdaptiveLogSoftmaxWithLoss(Module):
    """log softmax of classes in order of frequency, rare ones in clusters with fewer features.

    E. Grave et al., "Efficient softmax approximation for GPUs" (2017). input (N, in_features) or
    (in_features,), target (N,) or (): the class; its logarithm for each example, and the mean of
    minus these. Cluster i holds the classes from cutoffs[i] on, with in_features /
    div_value^(i + 1) features. Only examples of a cluster are computed for it, so the targets'
    values are read. Raises IndexRangeError for a target that is no class.

    Example:
        >>> m = nn.AdaptiveLogSoftmaxWithLoss(8, 20, cutoffs=[4, 10], div_value=2.0)
        >>> m(rb.ones((3, 8)), rb.asarray([0, 5, 19])).output.shape
        (3,)
    """

    def __init__(
        self,
        in_features: int,
        n_classes: int,
        cutoffs: Sequence[int],
        div_value: float = 4.0,
        head_bias: bool = False,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        ends = [operator.index(c) if hasattr(c, "__index__") else c for c in cutoffs]
        if not all(isinstance(end, int) for end in ends):
            raise RabbetError(f"AdaptiveLogSoftmaxWithLoss: cutoffs={ends} must be ints")
        ascending = ends == sorted(set(ends)) and ends and min(ends) > 0
        if not ascending or max(ends) > n_classes - 1:
            raise RabbetError(
                f"AdaptiveLogSoftmaxWithLoss: cutoffs={ends} must ascend from 1 or more to less "
                f"than n_classes={n_classes}"
            )
        self.in_features, self.n_classes, self.div_value = in_features, n_classes, div_value
        self.cutoffs, self.head_bias = [*ends, n_classes], head_bias
        self.shortlist_size, self.n_clusters = ends[0], len(ends)
        self.head_size = self.shortlist_size + self.n_clusters
        given = {"device": device, "dtype": dtype}
        self.head = Linear(in_features, self.head_size, bias=head_bias, **given)
        parts = []
        for i in range(self.n_clusters):
            hidden = int(in_features // div_value ** (i + 1))
            size = self.cutoffs[i + 1] - self.cutoffs[i]
            first = Linear(in_features, hidden, bias=False, **given)
            parts.append(Sequential(first, Linear(hidden, size, bias=False, **given)))
        self.tail = ModuleList(parts)

    def reset_parameters(self) -> None:
        """Draw the parameters anew."""
        self.head.reset_parameters()
        for layer in self.tail.modules():
            if isinstance(layer, Linear):
                layer.reset_parameters()

    def forward(self, input: Tensor, target: Tensor) -> ASMoutput:
        single = target.ndim == 0
        x = input.unsqueeze(0) if single else input
        if x.ndim != 2 or x.shape[1] != self.in_features or input.ndim != target.ndim + 1:
            raise ShapeError(
                f"AdaptiveLogSoftmaxWithLoss: input {show(input.shape)} and target "
                f"{show(target.shape)} must be (N, {self.in_features}) and (N,)"
            )
        need_integer("AdaptiveLogSoftmaxWithLoss", "target", target.dtype)
        classes = target.detach().numpy().reshape(-1)
        if len(classes) != x.shape[0]:
            raise ShapeError(
                f"AdaptiveLogSoftmaxWithLoss: {x.shape[0]} examples, {len(classes)} targets"
            )
        if classes.size and not (0 <= classes.min() and classes.max() < self.n_classes):
            raise IndexRangeError(
                f"AdaptiveLogSoftmaxWithLoss: targets from {classes.min()} to {classes.max()} are "
                f"not among {self.n_classes} classes"
            )
        cluster = np.searchsorted(self.cutoffs, classes, side="right")
        place = np.where(cluster == 0, classes, self.shortlist_size + cluster - 1)
        output = _chosen(functional.log_softmax(self.head(x), -1), place)
        for i, part in enumerate(self.tail):
            (rows,) = np.nonzero(cluster == i + 1)
            if len(rows):
                at = from_numpy(rows)
                found = functional.log_softmax(part(functions["take"](x, at, 0)), -1)
                own = _chosen(found, classes[rows] - self.cutoffs[i])
                more = zeros(output.shape, dtype=output.dtype)
                output = output + functions["scatter_add"](more, at, own, 0)
        loss = -output.mean()
        return ASMoutput(output.squeeze(0) if single else output, loss)

    def log_prob(self, input: Tensor) -> Tensor:
        """The logarithms of all classes' chances: (..., in_features) -> (..., n_classes)."""
        head = functional.log_softmax(self.head(input), -1)
        parts = [head[..., : self.shortlist_size]]
        for i, part in enumerate(self.tail):
            own = functional.log_softmax(part(input), -1)
            at = self.shortlist_size + i
            parts.append(own + head[..., at : at + 1])
        return functions["concat"](parts, -1)

    def predict(self, input: Tensor) -> Tensor:
        """The most likely class of each example: (..., in_features) -> (...,)."""
        return self.log_prob(input).argmax(-1)

    def extra_repr(self) -> str:
        return (
            f"in_features={self.in_features}, n_classes={self.n_classes}, "
            f"cutoffs={self.cutoffs[:-1]}, div_value={self.div_value}"
        )


def _chosen(x: Tensor, places: np.ndarray) -> Tensor:
    """x[i, places[i]]."""
    at = from_numpy(places.astype(np.int64).reshape(-1, 1))
    return functions["take_along_axis"](x, at, 1)[:, 0]

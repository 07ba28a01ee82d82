"""Layers that find out how many inputs they have when they are first called.

Until then such a layer has no parameters: call the model once (or load a saved state) before the
optimizer is made. Afterwards it is the plain layer, also by its type.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from rabbet.base.errors import RabbetError, ShapeError
from rabbet.base.shapes import show
from rabbet.nn import conv, linear, norm
from rabbet.nn.module import Module
from rabbet.recorder import current
from rabbet.tensor import Tensor


class Lazy(Module):
    """Derive from it and name the layer, and which axis of its input counts."""

    layer: ClassVar[type[Module]]
    axis: ClassVar[int] = 1
    weight_axis: ClassVar[int] = 1  # of the weight in a saved state, where the same number stands
    kept: ClassVar[str] = "weight"

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__()
        self._given = (args, kwargs)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        shape = args[0].shape if args and isinstance(args[0], Tensor) else ()
        if len(shape) <= max(self.axis, 0):
            raise ShapeError(f"{type(self).__name__}: an input {show(shape)} has too few axes")
        self.materialize(int(shape[self.axis]))
        return self(*args, **kwargs)

    def materialize(self, inputs: int) -> None:
        """Become the plain layer with this many inputs."""
        if current().capture is not None:
            raise RabbetError(
                f"{type(self).__name__}: call the model once before rb.jit, to make its parameters"
            )
        layer: Any = self.layer
        args, kwargs = self._given
        before, after, training = self._hooks_before, self._hooks_after, self._training
        backward = self._hooks_backward
        del self._given
        self.__class__ = layer
        layer.__init__(self, inputs, *args, **kwargs)
        self._hooks_before, self._hooks_after, self._hooks_backward = before, after, backward
        self.training = training

    def materialize_from(self, state: Mapping[str, Any], prefix: str) -> None:
        """The same, by the shapes of a saved state, where they are in it."""
        found = state.get(prefix + self.kept)
        if found is not None:
            self.materialize(int(np.shape(found)[self.weight_axis]))

    def extra_repr(self) -> str:
        return "its inputs are counted at the first call"


class LazyLinear(Lazy):
    """Linear without `in_features`: the last axis of the first input counts.

    Example:
        >>> fc = nn.LazyLinear(2)
        >>> fc(rb.ones((5, 3))).shape, fc
        ((5, 2), Linear(in_features=3, out_features=2, bias=True))
    """

    layer, axis = linear.Linear, -1


class LazyConv1d(Lazy):
    """Conv1d without `in_channels`."""

    layer = conv.Conv1d


class LazyConv2d(Lazy):
    """Conv2d without `in_channels`.

    Example:
        >>> nn.LazyConv2d(4, 3)(rb.ones((1, 2, 5, 5))).shape
        (1, 4, 3, 3)
    """

    layer = conv.Conv2d


class LazyConv3d(Lazy):
    """Conv3d without `in_channels`."""

    layer = conv.Conv3d


class LazyConvTranspose1d(Lazy):
    """ConvTranspose1d without `in_channels`."""

    layer, weight_axis = conv.ConvTranspose1d, 0


class LazyConvTranspose2d(Lazy):
    """ConvTranspose2d without `in_channels`."""

    layer, weight_axis = conv.ConvTranspose2d, 0


class LazyConvTranspose3d(Lazy):
    """ConvTranspose3d without `in_channels`."""

    layer, weight_axis = conv.ConvTranspose3d, 0


class LazyBatchNorm1d(Lazy):
    """BatchNorm1d without `num_features`."""

    layer, weight_axis, kept = norm.BatchNorm1d, 0, "running_mean"


class LazyBatchNorm2d(Lazy):
    """BatchNorm2d without `num_features`."""

    layer, weight_axis, kept = norm.BatchNorm2d, 0, "running_mean"


class LazyBatchNorm3d(Lazy):
    """BatchNorm3d without `num_features`."""

    layer, weight_axis, kept = norm.BatchNorm3d, 0, "running_mean"


class LazyInstanceNorm1d(Lazy):
    """InstanceNorm1d without `num_features`."""

    layer, weight_axis = norm.InstanceNorm1d, 0


class LazyInstanceNorm2d(Lazy):
    """InstanceNorm2d without `num_features`."""

    layer, weight_axis = norm.InstanceNorm2d, 0


class LazyInstanceNorm3d(Lazy):
    """InstanceNorm3d without `num_features`."""

    layer, weight_axis = norm.InstanceNorm3d, 0

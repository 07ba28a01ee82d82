"""ParamGroup: parameters that share hyper-parameters, some of which are 0-d tensors.

A rate, momentum or decay that a schedule may change is state, not a constant of the compiled step:
a new value needs neither compiling nor recording. Outside of jit it still reads as a plain float.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, MutableMapping
from typing import Any

import numpy as np

from rabbet.base import dtypes
from rabbet.base.dtypes import DType
from rabbet.base.errors import ShapeError
from rabbet.recorder import current
from rabbet.tensor import Tensor, asarray, no_grad, zeros


class ParamGroup(MutableMapping[str, Any]):
    """A dict of hyper-parameters and "params"; those named in `rates` are held as 0-d tensors.

    Example:
        >>> group = ParamGroup({"params": [], "lr": 0.1}, rates=("lr",))
        >>> group["lr"] *= 0.5
        >>> group["lr"]
        0.05
    """

    def __init__(self, values: Mapping[str, Any], rates: tuple[str, ...]) -> None:
        self._plain: dict[str, Any] = {}
        self._rates: dict[str, Tensor] = {name: zeros((), dtype="float64") for name in rates}
        self._in_use: dict[str, bool] = {}
        # How often the group took a step, and how many of these each parameter had no gradient.
        self.steps = zeros((), dtype="float64")
        self.missed = zeros((len(values["params"]),), dtype="float64")
        self.late: frozenset[int] = frozenset()  # positions of parameters that missed a step
        for name, value in values.items():
            self[name] = value

    def __getitem__(self, name: str) -> Any:
        if name not in self._rates:
            return self._plain[name]
        rate = self._rates[name]
        # In a jit recording a number would be frozen into the program; a tensor is read anew.
        return rate.item() if current().capture is None else rate.clone()

    def __setitem__(self, name: str, value: Any) -> None:
        if name not in self._rates:
            self._plain[name] = value
            return
        if np.shape(value) != ():
            raise ShapeError(f"{name}: must be one number, the shape is {np.shape(value)}")
        if not isinstance(value, Tensor):
            value = asarray(np.float64(value))
            self._in_use[name] = value.item() != 0
        else:
            self._in_use[name] = True
        with no_grad():
            self._rates[name].copy_(value.detach())

    def __delitem__(self, name: str) -> None:
        del self._plain[name]

    def __iter__(self) -> Iterator[str]:
        return iter((*self._plain, *self._rates))

    def __len__(self) -> int:
        return len(self._plain) + len(self._rates)

    def __repr__(self) -> str:
        told = [f"{len(self['params'])} parameters"]
        told += [f"{name}={self[name]}" for name in sorted(self) if name != "params"]
        return f"ParamGroup({', '.join(told)})"

    def rate(self, name: str, dtype: DType = dtypes.float64) -> Tensor:
        """A rate as the tensor it is, for arithmetic with tensors of `dtype`."""
        return self._rates[name].astype(dtype)

    def uses(self, name: str) -> bool:
        """False for a rate set to the number 0: its arithmetic is left out."""
        return self._in_use[name]

    def decayed(self, p: Tensor, g: Tensor) -> Tensor:
        """The gradient of a parameter, with weight_decay * p where there is some."""
        return g + p * self.rate("weight_decay", p.dtype) if self.uses("weight_decay") else g

    def shrunk(self, p: Tensor) -> Tensor:
        """A parameter without lr * weight_decay of it: decay that the gradient knows nothing of."""
        return p * self.share_kept(p.dtype) if self.uses("weight_decay") else p

    def share_kept(self, dtype: DType) -> Tensor:
        """1 - lr * weight_decay."""
        return (1.0 - self.rate("lr") * self.rate("weight_decay")).astype(dtype)

    def structure(self) -> tuple[Any, ...]:
        """What decides which ops a step records, rather than which values they get."""
        plain = tuple((k, v) for k, v in self._plain.items() if k not in ("params", "initial_lr"))
        return (*plain, tuple(self._in_use.items()), len(self["params"]), self.late)

    def count_step(self, has_gradient: list[bool]) -> None:
        """Note that a step is taken, and which parameters have no part in it."""
        self.steps.add_(1.0)
        if not all(has_gradient):
            without = np.array([not has for has in has_gradient], np.float64)
            self.missed.add_(asarray(without))
            self.late |= {i for i, has in enumerate(has_gradient) if not has}

    def steps_of(self, position: int) -> Tensor:
        """How many steps a parameter took part in: 0-d float64."""
        return self.steps - self.missed[position] if position in self.late else self.steps

    def set_steps(self, counts: list[float]) -> None:
        """Set how many steps each parameter took part in."""
        most = max(counts, default=0.0)
        self.steps.copy_(asarray(np.float64(most)))
        self.missed.copy_(asarray(np.array([most - c for c in counts], np.float64)))
        self.late = frozenset(i for i, count in enumerate(counts) if count != most)

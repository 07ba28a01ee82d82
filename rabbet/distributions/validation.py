"""Whether a distribution's parameters are what they may be.

What is written in Python (numbers, lists, NumPy arrays) is checked always: that costs next to
nothing. The values of tensors may not be there yet, and reading them would end a segment (and keep
`rb.jit` from replaying), so they are checked only with `validate_args=True`, or after
`Distribution.set_default_validate_args(True)`; then values given to `log_prob` are checked too.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import numpy as np

from rabbet.base.errors import ParameterError
from rabbet.distributions.constraints import Constraint
from rabbet.tensor import Tensor, asarray

MOST_SHOWN = 16  # numbers of an event that a message shows

# What each parameter must be; one that depends on others is a function of all arguments.
Constraints: TypeAlias = Mapping[str, Constraint | Callable[[Mapping[str, Any]], Constraint]]


def check(owner: str, name: str, value: Any, constraint: Constraint, is_asked: bool | None) -> None:
    """ParameterError unless `value` lies in the set; tensors are read only if `is_asked`."""
    is_plain = not isinstance(value, Tensor) and constraint.event_dim < 2
    if is_asked is False or not (is_plain or is_asked):
        return
    given: Any = np.asarray(value) if is_plain else asarray(value)
    if given.ndim < constraint.event_dim:
        return  # the wrong shape, for which there is another error
    holds = constraint.holds(given)
    if isinstance(holds, Tensor) and not is_asked:
        return
    if not bool(holds.all()):
        where, allowed = _first_outside(np.asarray(given), np.asarray(holds), constraint)
        shown = f"{name}={value!r}" if given.ndim == 0 else f"{name}{where}"
        raise ParameterError(f"{owner}: {shown} is outside of {allowed!r}")


def _first_outside(
    given: np.ndarray, holds: np.ndarray, constraint: Constraint
) -> tuple[str, Constraint]:
    """The first event that is outside, as text: where it stands and what it is; and its set."""
    place = tuple(int(i) for i in np.argwhere(~holds)[0])
    event = given.shape[given.ndim - constraint.event_dim :]
    found = np.broadcast_to(given, (*holds.shape, *event))[place]
    number = ", ".join(map(str, place[holds.ndim - given.ndim + len(event) :]))
    what = f"={found.tolist()}" if found.size <= MOST_SHOWN else ""
    return (f"[{number}]" if number else "") + what, constraint.at(place, holds.shape)


def validated(start: Callable[..., None]) -> Callable[..., None]:
    """A distribution's `__init__` that also takes `validate_args` and checks the arguments."""
    signature = inspect.signature(start)
    if "validate_args" in signature.parameters:
        return start

    @functools.wraps(start)
    def checked(self: Any, *args: Any, validate_args: bool | None = None, **given: Any) -> None:
        if type(self).__init__ is checked:  # not one that a subclass's calls
            wanted = self.validates if validate_args is None else bool(validate_args)
            bound = signature.bind(self, *args, **given)
            bound.apply_defaults()
            for name, constraint in self.arg_constraints.items():
                if bound.arguments.get(name) is not None:
                    known = constraint if isinstance(constraint, Constraint) else None
                    known = known or constraint(bound.arguments)
                    check(type(self).__name__, name, bound.arguments[name], known, wanted)
            if wanted is not self.validates:
                self.validates = wanted
        start(self, *args, **given)

    extra = inspect.Parameter(
        "validate_args", inspect.Parameter.KEYWORD_ONLY, default=None, annotation="bool | None"
    )
    own = list(signature.parameters.values())
    last = len(own) - (bool(own) and own[-1].kind is inspect.Parameter.VAR_KEYWORD)
    vars(checked)["__signature__"] = signature.replace(parameters=[*own[:last], extra, *own[last:]])
    return checked


def validated_density(density: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """A distribution's `log_prob` that checks the value where that was asked for."""

    @functools.wraps(density)
    def checked(self: Any, value: Any) -> Tensor:
        if self.validates and type(self).log_prob is checked:
            check(type(self).__name__, "value", value, self.support, True)
        return density(self, value)

    return checked

"""Optimizer: what all of them share. State exists from construction; a step is tensor ops.

A step is part of the segment that computed the gradients, and ends it; so one program runs forward,
backward and update.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar, NamedTuple, Self
from weakref import WeakKeyDictionary

import numpy as np

from rabbet.base.errors import RabbetError
from rabbet.base.interrupt import Interrupts
from rabbet.base.words import check_keywords
from rabbet.optim.group import ParamGroup
from rabbet.recorder import current
from rabbet.tensor import Tensor, asarray, enable_grad, flush, functions, no_grad, zeros

# Called at each step before the update, with the owner and the parameters that will change: whoever
# must see gradients complete (averaged over machines, say) enters itself here, and leaves by dying.
before_update: WeakKeyDictionary[Any, Callable[[Any, list[Tensor]], None]] = WeakKeyDictionary()

SYNONYMS = {  # Keras's words -> PyTorch's
    "learning_rate": "lr",
    "epsilon": "eps",
    "rho": "alpha",
    "decay": "weight_decay",
    "beta_1": "betas",
    "beta_2": "betas",
}


class Item(NamedTuple):
    """A parameter that has a gradient, at the time of a step."""

    position: int  # in its group
    parameter: Tensor
    gradient: Tensor
    state: dict[str, Any]


class Optimizer:
    """Derive from it, name the state in `slots`, and write `update(group, items)`.

    Args of every optimizer: `params`, an iterable of tensors, of (name, tensor) pairs, or of dicts
    with "params" and hyper-parameters of their own. Raises ValueError for no parameters, the same
    one twice, or numbers that make no sense.
    """

    rates: ClassVar[tuple[str, ...]] = ("lr",)  # held as 0-d tensors, so schedules cost nothing
    slots: tuple[str, ...] = ()  # names of state tensors that have the parameter's shape
    scalars: ClassVar[frozenset[str]] = frozenset()  # those that are one number instead
    counts_steps: bool = False

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        if kwargs:
            check_keywords(cls.__name__, cls.__init__, kwargs, SYNONYMS)
        return super().__new__(cls)

    def __init__(self, params: Any, defaults: Mapping[str, Any]) -> None:
        self.defaults = dict(defaults)
        self.state: dict[Tensor, dict[str, Any]] = defaultdict(dict)
        self.param_groups: list[ParamGroup] = []
        if isinstance(params, Tensor):
            raise TypeError("params must be an iterable of tensors or dicts, not one tensor")
        if not isinstance(params, Iterable):
            kind = type(params).__name__
            hint = f"; write {kind.lower()}.parameters()" if hasattr(params, "parameters") else ""
            raise TypeError(f"params must be an iterable of tensors or dicts, not {kind}{hint}")
        given = list(params)
        if not given:
            raise ValueError(
                f"{type(self).__name__}: got no parameters (modules in a plain list or dict are no "
                "parts of a model: use nn.ModuleList or nn.ModuleDict)"
            )
        groups = given if isinstance(given[0], Mapping) else [{"params": given}]
        for group in groups:
            self._add(group)
        _end_segment()

    def add_param_group(self, param_group: Mapping[str, Any]) -> None:
        """Optimise more parameters: a dict with "params" and, if they differ, hyper-parameters."""
        self._add(param_group)
        _end_segment()

    def _add(self, param_group: Mapping[str, Any]) -> None:
        params = _plain_tensors(param_group["params"])
        known = {id(p) for group in self.param_groups for p in group["params"]}
        for p in params:
            if not isinstance(p, Tensor) or not p.dtype.is_float or not p.is_leaf:
                raise ValueError(f"{type(self).__name__}: can only optimise floating leaves")
            if id(p) in known:
                raise ValueError(f"{type(self).__name__}: a parameter appears twice")
            known.add(id(p))
        values = {**self.defaults, **param_group, "params": params}
        unknown = set(values) - set(self.defaults) - {"params", "initial_lr"}
        if unknown:
            raise ValueError(f"{type(self).__name__}: no hyper-parameter {unknown.pop()!r}")
        self.check(values)
        group = ParamGroup(values, tuple(name for name in self.rates if name in values))
        self.param_groups.append(group)
        for p in params:
            for slot, shape in self._slot_shapes(group, p):
                self.state[p][slot] = zeros(shape, dtype=p.dtype)

    # ---- what an optimizer writes --------------------------------------------------------------

    def check(self, values: Mapping[str, Any]) -> None:
        """ValueError for hyper-parameters that make no sense."""
        for name in ("lr", "momentum", "weight_decay", "eps"):
            value = values.get(name, 0.0)
            if not isinstance(value, Tensor) and not 0 <= value:
                raise ValueError(f"{type(self).__name__}: {name}={value} must be 0 or more")

    def slots_of(self, group: ParamGroup) -> tuple[str, ...]:
        """Names of the state tensors of parameters in `group`."""
        return self.slots

    def slot_shape(self, slot: str, p: Tensor) -> tuple[int, ...] | None:
        """The shape of a state tensor of `p`, None where `p` has no such state."""
        return () if slot in self.scalars else p.shape

    def _slot_shapes(self, group: ParamGroup, p: Tensor) -> list[tuple[str, tuple[int, ...]]]:
        shapes = [(slot, self.slot_shape(slot, p)) for slot in self.slots_of(group)]
        return [(slot, shape) for slot, shape in shapes if shape is not None]

    def update(self, group: ParamGroup, items: list[Item]) -> None:
        """Change the parameters in place; runs under `no_grad`."""
        raise NotImplementedError(f"{type(self).__name__} has no update()")

    # ---- steps ---------------------------------------------------------------------------------

    @property
    def structure(self) -> tuple[Any, ...]:
        """What decides which ops a step records; jit records anew when it changes."""
        return tuple(group.structure() for group in self.param_groups)

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Change every parameter that has a gradient; returns what `closure`, if any, returned."""
        loss = None
        if closure is not None:
            with enable_grad():
                loss = closure()
        for owner, prepare in list(before_update.items()):
            prepare(owner, [p for group in self.param_groups for p in group["params"]])
        with Interrupts(), no_grad():  # no update is recorded for some of the parameters only
            for group in self.param_groups:
                self._step_group(group)
        capture = current().capture
        if capture is not None:
            capture.guard(self, "structure", self.structure)
        _end_segment()
        return loss

    def _step_group(self, group: ParamGroup) -> None:
        found = [(p, p.grad) for p in group["params"]]
        if all(g is None for _, g in found):
            return
        if self.counts_steps:
            group.count_step([g is not None for _, g in found])
        items = [
            Item(i, p, -g if group.get("maximize") else g, self.state[p])
            for i, (p, g) in enumerate(found)
            if g is not None
        ]
        self.update(group, items)

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients of all parameters, or set them to zero."""
        for group in self.param_groups:
            for p in group["params"]:
                if set_to_none:  # whether there was one is not asked: jit would record both cases
                    p.grad = None
                elif p.grad is not None:
                    p.grad = functions["zeros_like"](p.grad)

    # ---- saved states --------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """State and hyper-parameters in PyTorch's form: parameters are numbered over all groups."""
        state: dict[int, dict[str, Any]] = {}
        groups = []
        number = 0
        for group in self.param_groups:
            steps = group.steps.item() - group.missed.numpy() if self.counts_steps else None
            for i, p in enumerate(group["params"]):
                own: dict[str, Any] = {} if steps is None else {"step": float(steps[i])}
                own |= {k: v.detach() for k, v in self.state[p].items() if isinstance(v, Tensor)}
                state[number + i] = own
            count = len(group["params"])
            saved = {name: value for name, value in group.items() if name != "params"}
            groups.append({**saved, "params": list(range(number, number + count))})
            number += count
        return {"state": state, "param_groups": groups}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Go on from a saved state; RabbetError, with nothing changed, where it does not fit."""
        name = type(self).__name__
        for key in ("state", "param_groups"):
            if not isinstance(state_dict, Mapping) or key not in state_dict:
                raise RabbetError(f"{name}: this is no state of an optimizer: it has no {key!r}")
        saved = state_dict["param_groups"]
        if not isinstance(saved, list | tuple):
            raise RabbetError(f"{name}: param_groups of the state is no list, but {saved!r}")
        for number, group in enumerate(saved):
            if not isinstance(group, Mapping) or "params" not in group:
                raise RabbetError(f"{name}: param_groups[{number}] of the state has no 'params'")
        sizes = [len(group["params"]) for group in saved]
        if sizes != [len(group["params"]) for group in self.param_groups]:
            raise RabbetError(
                f"{type(self).__name__}: the state has groups of {sizes} parameters, the optimizer "
                f"of {[len(group['params']) for group in self.param_groups]}"
            )
        own = [
            self._find(state_dict["state"], numbers, group)
            for numbers, group in zip((g["params"] for g in saved), self.param_groups, strict=True)
        ]
        with no_grad():
            for group, values, states in zip(self.param_groups, saved, own, strict=True):
                self._load_group(group, values, states)
        _end_segment()

    def _find(self, state: Mapping[Any, Any], numbers: Iterable[Any], group: ParamGroup) -> list:
        found = []
        for number, p in zip(numbers, group["params"], strict=True):
            own = state.get(number, state.get(str(number), {}))
            if not isinstance(own, Mapping):
                raise RabbetError(
                    f"{type(self).__name__}: the state of parameter {number}, of type "
                    f"{type(own).__name__}, is no mapping of names to values"
                )
            values = dict(own)
            for slot, wanted in self._slot_shapes(group, p):
                try:
                    given = None if values.get(slot) is None else asarray(values[slot])
                except (RabbetError, TypeError, ValueError) as error:
                    raise RabbetError(
                        f"{type(self).__name__}: {slot} of parameter {number}, of type "
                        f"{type(values[slot]).__name__}, is no array of numbers"
                    ) from error
                shape = wanted if given is None else given.shape
                if shape != wanted:
                    raise RabbetError(
                        f"{type(self).__name__}: {slot} of parameter {number} has shape {shape}, "
                        f"not {wanted} as the parameter asks"
                    )
            found.append(values)
        return found

    def _load_group(self, group: ParamGroup, values: Mapping[str, Any], states: list) -> None:
        for name, value in values.items():
            if name != "params" and (name in group or name == "initial_lr"):
                group[name] = tuple(value) if isinstance(value, list) else value
        if self.counts_steps:
            # A state without a count but with values is PyTorch's SGD: past its first step.
            counts = [own.get("step", 1.0 if own else 0.0) for own in states]
            group.set_steps([float(np.asarray(count)) for count in counts])
        for p, own in zip(group["params"], states, strict=True):
            for slot, _ in self._slot_shapes(group, p):
                value = own.get(slot)
                self.state[p][slot].copy_(0.0 if value is None else asarray(value))

    def __repr__(self) -> str:
        groups = [f"  ({i}): {group!r}\n" for i, group in enumerate(self.param_groups)]
        return f"{type(self).__name__}(\n{''.join(groups)})"


def _plain_tensors(params: Any) -> list[Tensor]:
    given = [params] if isinstance(params, Tensor) else list(params)
    return [p[1] if isinstance(p, tuple) else p for p in given]


def _end_segment() -> None:
    """Compute what was recorded, unless jit is recording the step."""
    if current().capture is None:
        flush()

"""A module as a function of its parameters."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from rabbet.nn.module import Module
from rabbet.tensor import Tensor


def functional_call(
    module: Module,
    parameters_and_buffers: Module | Mapping[str, Tensor] | Sequence[Mapping[str, Tensor]],
    args: Any = (),
    kwargs: Mapping[str, Any] | None = None,
    *,
    strict: bool = False,
) -> Any:
    """module(*args, **kwargs) with these tensors in place of its own parameters and buffers.

    Names are those of `state_dict`; another module of the same form stands for its tensors; `args`
    that is no tuple is one argument. Tensors that are left out stay the module's own, unless
    `strict`. Raises KeyError for a name the module does not have (or, if `strict`, lacks).

    Gradients flow to the tensors given; the module is as before afterwards.

    Example:
        >>> fc = nn.Linear(2, 1, bias=False)
        >>> functional_call(fc, {"weight": rb.ones((1, 2))}, rb.ones((3, 2))).tolist()
        [[2.0], [2.0], [2.0]]
    """
    given: dict[str, Tensor] = {}
    maps = parameters_and_buffers
    for one in [maps] if isinstance(maps, Mapping | Module) else maps:
        given |= _by_name(one) if isinstance(one, Module) else one
    with _replaced(module, given, strict):
        return module(*(args if isinstance(args, tuple) else (args,)), **(kwargs or {}))


def _by_name(module: Module) -> dict[str, Tensor]:
    return {
        **dict(module.named_parameters(remove_duplicate=False)),
        **dict(module.named_buffers(remove_duplicate=False)),
    }


@contextmanager
def _replaced(module: Module, given: Mapping[str, Tensor], strict: bool) -> Iterator[None]:
    homes = {
        f"{path}.{name}" if path else name: (home, name)
        for path, part in module.named_modules(remove_duplicate=False)
        for home in (part._parameters, part._buffers)
        for name, t in home.items()
        if t is not None
    }
    unknown = [n for n in given if n not in homes]
    missing = [n for n in homes if n not in given] if strict else []
    if unknown or missing:
        what = f"has no {unknown[0]!r}" if unknown else f"also needs {missing[0]!r}"
        raise KeyError(f"functional_call: the {type(module).__name__} {what}")
    before = {name: homes[name][0][homes[name][1]] for name in given}
    # A parameter that the module has under several names is one tensor under all of them.
    same = {id(t): given[name] for name, t in before.items()}
    changed = [(home, key, home[key]) for home, key in homes.values() if id(home[key]) in same]
    try:
        for home, key, old in changed:
            home[key] = same[id(old)]
        for name, t in given.items():
            home, key = homes[name]
            home[key] = t
        yield
    finally:
        for home, key, old in changed:
            home[key] = old

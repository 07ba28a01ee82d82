"""A module as a function of its parameters."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from rabbet.base.errors import RabbetError
from rabbet.nn.module import Module
from rabbet.tensor import Tensor
from rabbet.tensor.tensor import stacked


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


def stack_module_state(
    models: Sequence[Module],
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Parameters and buffers of modules of one form, stacked along a new first axis, by name.

    `rb.vmap` of a `functional_call` over them runs all modules at once. The stacked parameters are
    leaves that require gradients. Raises RabbetError for no modules or of several forms.

    Example:
        >>> models = [nn.Linear(4, 2) for _ in range(3)]
        >>> params, buffers = rb.func.stack_module_state(models)
        >>> call = lambda p, b, x: functional_call(models[0], (p, b), (x,))
        >>> rb.vmap(call, in_axes=(0, 0, None))(params, buffers, rb.ones(5, 4)).shape
        (3, 5, 2)
    """
    if not models or any(type(m) is not type(models[0]) for m in models):
        raise RabbetError("stack_module_state: modules of one form are needed")
    params = [dict(m.named_parameters()) for m in models]
    buffers = [dict(m.named_buffers()) for m in models]
    forms = [{n: t.shape for n, t in (p | b).items()} for p, b in zip(params, buffers, strict=True)]
    if any(form != forms[0] for form in forms):
        raise RabbetError("stack_module_state: modules of one form are needed")
    wanted = {n: stacked([p[n] for p in params]).detach() for n in params[0]}
    for name, t in wanted.items():
        t.requires_grad_(params[0][name].requires_grad)
    return wanted, {n: stacked([b[n] for b in buffers]) for n in buffers[0]}


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

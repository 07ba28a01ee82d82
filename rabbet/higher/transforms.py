"""Functions of functions beyond `grad`: vjp, jvp, Jacobians, Hessians.

Forward mode needs no rules of its own: a gradient is linear in what is sent backward, so the
transpose of the gradient is the derivative forward (the "double backward" identity; J. Townsend,
2017). What the second backward does not use is never computed.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

from rabbet.base import tree
from rabbet.base.errors import GradientError
from rabbet.base.shapes import show
from rabbet.base.tree import Structure
from rabbet.engine import backward
from rabbet.graph.value import lookup
from rabbet.higher.functional import Primal, grad, inside_transform, linear_probe, trees_of
from rabbet.higher.vmap import vmap
from rabbet.recorder import current
from rabbet.tensor.modes import enable_grad
from rabbet.tensor.tensor import Tensor


def vjp(function: Callable[..., Any], *primals: Any, has_aux: bool = False) -> tuple[Any, ...]:
    """(function(*primals), pull), where pull(cotangents) gives a gradient for every primal.

    Primals and results are trees of tensors; `cotangents` has the form of the result. With
    `has_aux` the function returns (result, aux), and (result, pull, aux) comes back.

    >>> y, pull = rb.vjp(lambda x: x * x, rb.tensor([1.0, 2.0]))
    >>> pull(rb.tensor([1.0, 1.0]))
    (tensor([2., 4.]),)
    """
    given, result, aux = _run(function, primals, has_aux)
    inputs = [x for p in given for x in p.inputs]
    leaves, structure = tree.flatten(result)
    keep = _is_differentiated(given)

    def pull(cotangents: Any) -> tuple[Any, ...]:
        sent = _matching("vjp", cotangents, structure, leaves)
        found = _gradients(leaves, sent, inputs, create_graph=keep or _carries(sent))
        return tuple(trees_of(given, found))

    shown = result if keep else tree.map_leaves(_detached, result)
    return (shown, pull, aux) if has_aux else (shown, pull)


def jvp(
    function: Callable[..., Any],
    primals: Sequence[Any],
    tangents: Sequence[Any],
    has_aux: bool = False,
) -> tuple[Any, ...]:
    """(function(*primals), its derivative along `tangents`): forward mode.

    `tangents` has the form of `primals`. With `has_aux`, (result, derivative, aux).

    >>> rb.jvp(rb.sin, (rb.tensor(0.0),), (rb.tensor(2.0),))
    (tensor(0.), tensor(2.))
    """
    if len(primals) != len(tangents):
        raise ValueError(f"jvp: {len(primals)} primals, {len(tangents)} tangents")
    given, result, aux = _run(function, tuple(primals), has_aux)
    inputs = [x for p in given for x in p.inputs]
    leaves, structure = tree.flatten(result)
    along: list[Tensor] = []
    for p, primal, tangent in zip(given, primals, tangents, strict=True):
        along += p.chosen(_matching("jvp", tangent, p.structure, tree.flatten(primal)[0]))
    keep = _is_differentiated(given) or _carries(along)
    probes = [linear_probe(y) if _has_path(y) else None for y in leaves]
    pairs = [(y, u) for y, u in zip(leaves, probes, strict=True) if u is not None]
    moved: list[Any] = [None] * len(pairs)
    if pairs:
        ys, us = [y for y, _ in pairs], [u for _, u in pairs]
        sent = _gradients(ys, us, inputs, create_graph=True, zeros=False)
        used = [(g, t) for g, t in zip(sent, along, strict=True) if g is not None and _has_path(g)]
        if used:
            moved = backward.gradients(
                [g for g, _ in used],
                [t for _, t in used],
                us,
                create_graph=keep,
                retain_graph=True,
            )
    found = iter(moved)
    outs = [
        _or_zeros(next(found) if u is not None else None, y)
        for y, u in zip(leaves, probes, strict=True)
    ]
    if not keep:
        outs, leaves = [_detached(x) for x in outs], [_detached(y) for y in leaves]
    value, derivative = tree.unflatten(structure, leaves), tree.unflatten(structure, outs)
    return (value, derivative, aux) if has_aux else (value, derivative)


def hvp(function: Callable[..., Any], primals: Sequence[Any], tangents: Sequence[Any]) -> Any:
    """The Hessian of a function with a 0-d result times `tangents`, without the Hessian.

    For one primal the product itself; for several a tuple of them.

    >>> rb.hvp(lambda x: (x ** 3).sum(), (rb.tensor([1.0, 2.0]),), (rb.tensor([1.0, 0.0]),))
    tensor([6., 0.])
    """
    numbers = 0 if len(primals) == 1 else tuple(range(len(primals)))
    return jvp(grad(function, numbers), primals, tangents)[1]


def jacrev(function: Callable[..., Any], argnums: int | Sequence[int] = 0) -> Callable[..., Any]:
    """The Jacobian by reverse mode: one backward for every element of the result, all at once.

    For a result of shape r and an argument of shape a, an array of shape (*r, *a); for trees, a
    tree of results holding trees of arguments. Best where results are small.

    >>> rb.jacrev(lambda x: x * x)(rb.tensor([1.0, 2.0]))
    tensor([[2., 0.],
            [0., 4.]])
    """

    @functools.wraps(function)
    def wrapped(*args: Any) -> Any:
        numbers, partial = _chosen(function, argnums, args)
        y, pull = vjp(partial, *(args[n] for n in numbers))
        leaves, structure = tree.flatten(y)
        rows = []
        for number, leaf in enumerate(leaves):

            def pull_one(u: Tensor, number: int = number) -> Any:
                sent = [u if i == number else lookup("zeros_like")(x) for i, x in enumerate(leaves)]
                return pull(tree.unflatten(structure, sent))

            found = vmap(pull_one)(_basis(leaf))
            flat, form = tree.flatten(found)
            shaped = [lookup("reshape")(g, (*leaf.shape, *g.shape[1:])) for g in flat]
            made = tree.unflatten(form, shaped)
            rows.append(made[0] if isinstance(argnums, int) else made)
        return tree.unflatten(structure, rows)

    return wrapped


def jacfwd(function: Callable[..., Any], argnums: int | Sequence[int] = 0) -> Callable[..., Any]:
    """The Jacobian by forward mode: one push for every element of the arguments, all at once.

    The form of the result is that of `jacrev`. Best where arguments are small.

    >>> rb.jacfwd(lambda x: x.sum() * x)(rb.tensor([1.0, 2.0]))
    tensor([[4., 1.],
            [2., 5.]])
    """

    @functools.wraps(function)
    def wrapped(*args: Any) -> Any:
        numbers, partial = _chosen(function, argnums, args)
        primals = tuple(args[n] for n in numbers)
        leaves, structure = tree.flatten(primals)
        columns: list[Any] = []
        for number, leaf in enumerate(leaves):

            def push_one(t: Tensor, number: int = number) -> Any:
                sent = [t if i == number else lookup("zeros_like")(x) for i, x in enumerate(leaves)]
                return jvp(partial, primals, tree.unflatten(structure, sent))[1]

            columns.append(vmap(push_one, out_axes=-1)(_basis(leaf)))
        results, form = tree.flatten(columns[0])
        rows = []
        for i in range(len(results)):
            parts = [tree.flatten(column)[0][i] for column in columns]
            shaped = [
                lookup("reshape")(g, (*g.shape[:-1], *x.shape))
                for g, x in zip(parts, leaves, strict=True)
            ]
            trees = tree.unflatten(structure, shaped)
            rows.append(trees[0] if isinstance(argnums, int) else trees)
        return tree.unflatten(form, rows)

    return wrapped


def hessian(function: Callable[..., Any], argnums: int | Sequence[int] = 0) -> Callable[..., Any]:
    """The second derivatives of a function with a 0-d result: forward mode over reverse mode.

    >>> rb.hessian(lambda x: (x ** 3).sum())(rb.tensor([1.0, 2.0]))
    tensor([[ 6.,  0.],
            [ 0., 12.]])
    """
    return jacfwd(jacrev(function, argnums), argnums)


def stop_gradient(x: Any) -> Any:
    """The same values without gradients through them, for a tensor or a tree of tensors.

    >>> rb.grad(lambda x: x * rb.stop_gradient(x))(rb.tensor(3.0))
    tensor(3.)
    """
    return tree.map_leaves(_detached, x)


# ---- parts ---------------------------------------------------------------------------------------


def _run(
    function: Callable[..., Any], primals: Sequence[Any], has_aux: bool
) -> tuple[list[Primal], Any, Any]:
    """Call the function on fresh inputs: (the arguments, result, aux)."""
    given = [Primal(primal) for primal in primals]
    with inside_transform(), enable_grad():
        made = function(*(p.fresh for p in given))
    result, aux = made if has_aux else (made, None)
    for x in tree.flatten(result)[0]:
        if not isinstance(x, Tensor):
            raise GradientError(f"the function returned a {type(x).__name__}; tensors are needed")
    return given, result, aux


def _is_differentiated(given: Sequence[Primal]) -> bool:
    """True where somebody outside may want gradients through this transform."""
    wanted = current().grad_enabled and any(p.carries for p in given)
    return inside_transform.depth() > 0 or wanted


def _carries(tensors: Sequence[Any]) -> bool:
    if not current().grad_enabled:
        return False
    return any(isinstance(x, Tensor) and x.requires_grad for x in tensors)


def _has_path(y: Any) -> bool:
    return bool(y.requires_grad and y.dtype.kind in "fc")


def _gradients(
    ys: Sequence[Tensor],
    cotangents: Sequence[Tensor],
    inputs: Sequence[Tensor],
    *,
    create_graph: bool,
    zeros: bool = True,
) -> list[Any]:
    pairs = [(y, g) for y, g in zip(ys, cotangents, strict=True) if _has_path(y)]
    found: list[Any] = [None] * len(inputs)
    if pairs:
        found = backward.gradients(
            [y for y, _ in pairs],
            [g for _, g in pairs],
            inputs,
            create_graph=create_graph,
            retain_graph=True,
        )
    return [_or_zeros(g, x) for g, x in zip(found, inputs, strict=True)] if zeros else found


def _or_zeros(g: Any, x: Tensor) -> Any:
    return g if g is not None else lookup("zeros_like")(x)


def _detached(x: Any) -> Any:
    return x.detach() if isinstance(x, Tensor) and x.requires_grad else x


def _matching(name: str, given: Any, structure: Structure, like: Sequence[Tensor]) -> list[Tensor]:
    leaves, form = tree.flatten(given)
    if form != structure:
        raise GradientError(f"{name}: what is sent has another form than what it belongs to")
    for x, y in zip(leaves, like, strict=True):
        if not isinstance(x, Tensor) or x.shape != y.shape or x.dtype is not y.dtype:
            what = x.spec if isinstance(x, Tensor) else type(x).__name__
            raise GradientError(f"{name}: {y.dtype.name}{show(y.shape)} is needed, not {what}")
    return leaves


def _chosen(
    function: Callable[..., Any], argnums: int | Sequence[int], args: tuple[Any, ...]
) -> tuple[tuple[int, ...], Callable[..., Any]]:
    """The numbers of the arguments, and the function of them alone."""
    numbers = (argnums,) if isinstance(argnums, int) else tuple(argnums)

    def partial(*chosen: Any) -> Any:
        filled = list(args)
        for number, value in zip(numbers, chosen, strict=True):
            filled[number] = value
        return function(*filled)

    return numbers, partial


def _basis(x: Tensor) -> Tensor:
    """The unit vectors of x's space: (elements, *shape)."""
    n = x.numel()
    eye = lookup("eye").like(x, n, n, 0, x.dtype)
    unit: Tensor = lookup("reshape")(eye, (n, *x.shape))
    return unit

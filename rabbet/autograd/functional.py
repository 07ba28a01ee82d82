"""rb.autograd.functional: derivatives of a function at given inputs, as PyTorch has them there.

`inputs` is a tensor or a tuple of several; results have that form. Without `create_graph` they
carry no gradients themselves. (`rb.jacrev` and its like make functions of functions.)
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rabbet.base import tree
from rabbet.base.errors import GradientError
from rabbet.graph.value import lookup
from rabbet.higher import transforms
from rabbet.higher.functional import grad
from rabbet.tensor.modes import enable_grad, no_grad
from rabbet.tensor.tensor import Tensor

__all__ = ["hessian", "hvp", "jacobian", "jvp", "vhp", "vjp"]

Function = Callable[..., Any]
FORWARD, REVERSE = "forward-mode", "reverse-mode"


def jacobian(
    func: Function,
    inputs: Any,
    create_graph: bool = False,
    *,
    vectorize: bool = True,
    strategy: str = REVERSE,
) -> Any:
    """The Jacobian: (*output, *input); for several outputs and inputs a tuple of tuples.

    All rows are found at once, so `vectorize` changes nothing; `strategy` is "reverse-mode", or
    "forward-mode" where the inputs are smaller than the outputs.

    >>> rb.autograd.functional.jacobian(lambda x: x * x, rb.tensor([1.0, 2.0]))
    tensor([[2., 0.],
            [0., 4.]])
    """
    if strategy not in (FORWARD, REVERSE):
        raise GradientError(f"jacobian: strategy={strategy!r} must be {REVERSE!r} or {FORWARD!r}")
    by = transforms.jacfwd if strategy == FORWARD else transforms.jacrev
    return _at(by, func, inputs, create_graph)


def hessian(
    func: Function, inputs: Any, create_graph: bool = False, *, vectorize: bool = True
) -> Any:
    """The second derivatives of a function with a 0-d result: (*input, *input), or tuples of them.

    >>> rb.autograd.functional.hessian(lambda x: (x ** 3).sum(), rb.tensor([1.0, 2.0]))
    tensor([[ 6.,  0.],
            [ 0., 12.]])
    """
    return _at(transforms.hessian, func, inputs, create_graph)


def vjp(func: Function, inputs: Any, v: Any = None, create_graph: bool = False) -> tuple[Any, Any]:
    """(outputs, v^T Jacobian); `v` has the form of the outputs, and is 1 for a single number.

    >>> rb.autograd.functional.vjp(lambda x: x * x, rb.tensor([1.0, 2.0]), rb.tensor([1.0, 0.0]))
    (tensor([1., 4.]), tensor([2., 0.]))
    """

    def run() -> tuple[Any, Any]:
        outputs, pull = transforms.vjp(func, *_listed(inputs))
        found = pull(_vector("vjp", v, outputs))
        return outputs, found if isinstance(inputs, tuple | list) else found[0]

    return _result(run, create_graph)


def jvp(func: Function, inputs: Any, v: Any = None, create_graph: bool = False) -> tuple[Any, Any]:
    """(outputs, Jacobian v); `v` has the form of the inputs, and is 1 for a single number.

    >>> rb.autograd.functional.jvp(lambda x: x * x, rb.tensor([1.0, 2.0]), rb.tensor([1.0, 0.0]))
    (tensor([1., 4.]), tensor([2., 0.]))
    """

    def run() -> tuple[Any, Any]:
        given, along = _listed(inputs), _listed(_vector("jvp", v, inputs))
        outputs, found = transforms.jvp(func, given, along)
        return outputs, found

    return _result(run, create_graph)


def vhp(func: Function, inputs: Any, v: Any = None, create_graph: bool = False) -> tuple[Any, Any]:
    """(output, v^T Hessian) of a function with a 0-d result, backward twice.

    >>> x = rb.tensor([1.0, 2.0])
    >>> rb.autograd.functional.vhp(lambda x: (x ** 3).sum(), x, rb.tensor([1.0, 1.0]))
    (tensor(9.), tensor([ 6., 12.]))
    """

    def run() -> tuple[Any, Any]:
        given, along = _listed(inputs), _listed(_vector("vhp", v, inputs))
        slopes, pull = transforms.vjp(grad(func, tuple(range(len(given)))), *given)
        found = pull(tuple(along))
        return func(*given), found if isinstance(inputs, tuple | list) else found[0]

    return _result(run, create_graph)


def hvp(func: Function, inputs: Any, v: Any = None, create_graph: bool = False) -> tuple[Any, Any]:
    """(output, Hessian v) of a function with a 0-d result, forward over backward.

    >>> x = rb.tensor([1.0, 2.0])
    >>> rb.autograd.functional.hvp(lambda x: (x ** 3).sum(), x, rb.tensor([1.0, 1.0]))
    (tensor(9.), tensor([ 6., 12.]))
    """

    def run() -> tuple[Any, Any]:
        given, along = _listed(inputs), _listed(_vector("hvp", v, inputs))
        found = transforms.hvp(func, given, along)
        alone = len(given) == 1 and isinstance(inputs, tuple | list)
        return func(*given), (found,) if alone else found

    return _result(run, create_graph)


def _listed(inputs: Any) -> tuple[Any, ...]:
    return tuple(inputs) if isinstance(inputs, tuple | list) else (inputs,)


def _at(transform: Function, func: Function, inputs: Any, create_graph: bool) -> Any:
    given = _listed(inputs)
    many = isinstance(inputs, tuple | list)
    numbers = tuple(range(len(given))) if many else 0
    return _result(lambda: transform(func, numbers)(*given), create_graph)


def _result(run: Callable[[], Any], create_graph: bool) -> Any:
    with enable_grad() if create_graph else no_grad():
        found = run()
    if create_graph:
        return found
    return tree.map_leaves(lambda x: x.detach() if isinstance(x, Tensor) else x, found)


def _vector(name: str, v: Any, like: Any) -> Any:
    if v is not None:
        return v
    ones = _listed(like)
    if len(ones) != 1 or ones[0].numel() != 1:
        raise GradientError(f"{name}: v may be left out for a single number only")
    one = lookup("ones_like")(ones[0])
    return (one,) if isinstance(like, tuple | list) else one

"""checkpoint: intermediate values are computed again in backward instead of being kept.

The call is recorded as one op that hands its results through; its gradient rule records the ops of
the call once more. They are the recorded ops, not another run of the Python: random draws are the
same draws, buffers are not updated twice. A barrier (ops/barrier.py) keeps the second computation
apart from the first, and behind the gradient that needs it. (A. Griewank and A. Walther, Algorithm
799: revolve, 2000; T. Chen et al., Training deep nets with sublinear memory cost, 2016.)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from rabbet.base import tree
from rabbet.engine import backward
from rabbet.engine.region import Region, region_of
from rabbet.graph.op import make_op, op_for_one_call
from rabbet.graph.value import Builder, Value, lookup
from rabbet.recorder import Node, current, record
from rabbet.tensor.modes import enable_grad, no_grad
from rabbet.tensor.tensor import Tensor, make_leaf
from rabbet.transform.gradient import gradient, replay


def checkpoint(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """function(*args, **kwargs), whose intermediate values backward computes again.

    Gradients go to the arguments and to whatever else the function uses (parameters of a module it
    closes over). Between forward and backward only the call's inputs and results are kept: a chain
    of n such calls holds n values instead of all intermediate ones, for one more forward pass.
    Results are the same bits with and without. Inside `vmap` nothing is saved.

    >>> x = rb.tensor([1.0, 2.0], requires_grad=True)
    >>> rb.checkpoint(lambda x: rb.exp(rb.sin(x)), x).sum().backward()
    """
    tape = current()
    if not tape.grad_enabled or tape.interpreter is not None:
        return function(*args, **kwargs)
    since = Node().sequence
    leaves, structure = tree.flatten(function(*args, **kwargs))
    places = [i for i, y in enumerate(leaves) if _is_computed(y, since)]
    keys = [(leaves[i]._node, leaves[i]._index) for i in places]
    found = region_of(keys, since) if keys else None
    if found is None:
        return tree.unflatten(structure, leaves)
    region, outside = found
    with no_grad():
        outs = [leaves[i].detach() for i in places]
    inputs = [Tensor(node, index) for node, index in outside]
    made = record(
        op_for_one_call(_MODEL, _Rule(region)),
        [*outs, *inputs],
        {},
        (2 + len(outs), 2 + len(inputs)),
    )
    for i, y in zip(places, made if isinstance(made, tuple) else (made,), strict=True):
        leaves[i] = y
    return tree.unflatten(structure, leaves)


def _is_computed(y: Any, since: int) -> bool:
    return isinstance(y, Tensor) and y.requires_grad and y._node.sequence > since


@dataclass(frozen=True, eq=False)
class _Rule:
    """The gradient rule of one call: the region again, on inputs behind a barrier."""

    region: Region

    def __call__(self, g: Any, y: Any, outs: list, inputs: list) -> tuple[Any, ...]:
        sent = list(g) if isinstance(g, tuple) else [g]
        arrived = [x for x in sent if x is not None]
        held = list(inputs)
        for until in arrived:
            held = [lookup("barrier")(x, until) for x in held]
        if not self.region.is_opaque:
            found = self._by_rules(sent, held)
        elif isinstance(arrived[0], Value):  # a dry run: what is needed is all that goes in
            found = [lookup("zeros_like")(x) for x in held]
        else:
            found = self._on_tape(sent, held)
        return [None] * len(outs), found

    def _by_rules(self, sent: list, held: list) -> list[Any]:
        """The gradients as a graph, recorded where the gradients given live."""
        builder = Builder()
        xs = [builder.input(x.spec) for x in held]
        ys = self.region.replay(xs, xs[0])
        pairs = [(v, builder.input(v.spec), g) for v, g in zip(ys, sent, strict=True) if _has(g)]
        wrt = [x for x in xs if x.dtype.is_inexact]
        grads = gradient([v for v, _, _ in pairs], [u for _, u, _ in pairs], wrt)
        bindings = dict(zip(xs, held, strict=True)) | {u: g for _, u, g in pairs}
        made = iter(replay(grads, bindings, pairs[0][2]))
        return [next(made) if x.dtype.is_inexact else None for x in xs]

    def _on_tape(self, sent: Sequence[Any], held: list) -> list[Any]:
        """The same where a rule inside must see tensors."""
        further = current().grad_enabled
        with enable_grad():
            xs = [_opened(x, further) for x in held]
            ys = self.region.replay(xs, xs[0])
        pairs = [(y, g) for y, g in zip(ys, sent, strict=True) if _has(g) and y.requires_grad]
        wrt = [x for x in xs if x.requires_grad]
        found = backward.gradients(
            [y for y, _ in pairs],
            [g for _, g in pairs],
            wrt,
            create_graph=further,
            retain_graph=True,
        )
        made = iter(found)
        return [next(made) if x.requires_grad else None for x in xs]


def _has(g: Any) -> bool:
    return g is not None


def _opened(x: Tensor, further: bool) -> Tensor:
    """A value to differentiate by; with `further` what it was computed from stays behind it."""
    if further and x.requires_grad:
        return x
    fresh: Tensor = x.detach()
    if x.dtype.is_inexact:
        make_leaf(fresh)
    return fresh


def _handed_through(outs: Sequence[Value], inputs: Sequence[Value]) -> tuple[Value, ...]:
    """The results of a call whose inside is computed again in backward."""
    return tuple(outs)


# One name for all: the program of every such op is the same, the rule is no part of it.
_MODEL = make_op(_handed_through, name="checkpoint", kind="composite", public=False, reference=None)

"""custom_vjp and custom_jvp: functions that bring their own derivative.

Such a call is recorded as one op that hands its results through; the op's gradient rule is the
user's function. Compiled programs never see more than the results.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from rabbet.base import tree
from rabbet.base.errors import GradientError
from rabbet.base.shapes import show
from rabbet.base.tree import Structure
from rabbet.engine import backward
from rabbet.graph.op import Op, make_op, op_for_one_call
from rabbet.graph.value import Value, lookup
from rabbet.higher.functional import linear_probe
from rabbet.recorder import current, record
from rabbet.tensor.modes import enable_grad, no_grad
from rabbet.tensor.tensor import Tensor

OPS_KEPT = 256


class Custom:
    """A function whose calls are recorded with a gradient rule of their own."""

    kind = ""
    __name__: str

    def __init__(self, function: Callable[..., Any]) -> None:
        functools.update_wrapper(self, function)  # type: ignore[arg-type]
        self.function = function
        self.ops: dict[Any, Op] = {}

    def _is_needed(self, args: Sequence[Any]) -> bool:
        if not current().grad_enabled:
            return False
        leaves = tree.flatten(list(args))[0]
        return any(isinstance(x, Tensor) and x.requires_grad for x in leaves)

    def _attach(self, out: Any, residuals: Any, args: Sequence[Any], pull: Any) -> Any:
        """`out` with the gradient `pull(residuals, g)` towards the tensors in `args`."""
        outs, structure = tree.flatten(out)
        for x in outs:
            if not isinstance(x, Tensor):
                raise GradientError(
                    f"{self.kind}: the function returned a {type(x).__name__}; tensors are needed"
                )
        inputs, arguments = _split(list(args))
        kept, frame = _split(residuals)
        form = (2 + len(outs), 2 + len(inputs), 2 + len(kept))
        op = self._op(_Rule(self.kind, structure, arguments, frame, pull))
        made = record(op, [*outs, *inputs, *kept], {}, form)
        return tree.unflatten(structure, list(made) if isinstance(made, tuple) else [made])

    def _op(self, rule: _Rule) -> Op:
        """One op for all calls of one form, so that its recipe is found again."""
        key = (rule.structure, rule.arguments, rule.residuals, rule.pull)
        try:
            known = self.ops.get(key)
        except TypeError:  # a residual that cannot be hashed
            return op_of_one_call(rule)
        if known is None:
            if len(self.ops) >= OPS_KEPT:
                self.ops.pop(next(iter(self.ops)))
            known = self.ops[key] = op_of(rule)
        return known


class custom_vjp(Custom):
    """A function with a backward pass of its own: decorate it, then call `defvjp`.

    `forward(*args)` gives (result, residuals); `backward(residuals, g)` a gradient (or None) for
    every argument, as a tuple.

    >>> @rb.custom_vjp
    ... def clipped(x):
    ...     return x
    >>> clipped.defvjp(lambda x: (x, None), lambda _, g: (rb.clip(g, -1.0, 1.0),))
    >>> rb.grad(lambda x: (5 * clipped(x)).sum())(rb.tensor([1.0, 2.0]))
    tensor([1., 1.])
    """

    kind = "custom_vjp"

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__(function)
        self.forward: Callable[..., Any] | None = None
        self.backward: Callable[..., Any] | None = None

    def defvjp(self, forward: Callable[..., Any], backward: Callable[..., Any]) -> None:
        """Say how to compute results with residuals, and gradients from them."""
        self.forward, self.backward = forward, backward

    def __call__(self, *args: Any) -> Any:
        if not self._is_needed(args):
            return self.function(*args)
        if self.forward is None or self.backward is None:
            raise GradientError(f"custom_vjp: {self.__name__}.defvjp(forward, backward) is missing")
        with no_grad():
            out, residuals = self.forward(*args)
        return self._attach(out, residuals, args, self.backward)


class custom_jvp(Custom):
    """A function with a derivative rule of its own: decorate it, then call `defjvp`.

    `rule(primals, tangents)` gives (result, its derivative along the tangents), linear in them; the
    backward pass is its transpose.

    >>> @rb.custom_jvp
    ... def f(x):
    ...     return rb.sqrt(x)
    >>> _ = f.defjvp(lambda primals, tangents: (f(*primals), 7 * tangents[0]))
    >>> rb.grad(f)(rb.tensor(4.0))
    tensor(7.)
    """

    kind = "custom_jvp"

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__(function)
        self.rule: Callable[..., Any] | None = None

    def defjvp(self, rule: Callable[..., Any]) -> Callable[..., Any]:
        """Say how to compute the derivative; usable as a decorator."""
        self.rule = rule
        return rule

    def __call__(self, *args: Any) -> Any:
        if not self._is_needed(args):
            return self.function(*args)
        if self.rule is None:
            raise GradientError(f"custom_jvp: {self.__name__}.defjvp(rule) is missing")
        with no_grad():
            out = self.function(*args)
        return self._attach(out, tuple(args), args, self._transposed)

    def _transposed(self, primals: tuple[Any, ...], g: Any) -> tuple[Any, ...]:
        """Gradients for the primals: what their tangents do to the result, backward."""
        assert self.rule is not None
        keep = current().grad_enabled  # off where nobody will differentiate these gradients
        leaves, structure = tree.flatten(list(primals))
        floating = [isinstance(x, Tensor) and x.dtype.kind in "fc" for x in leaves]
        probes = [linear_probe(x) if f else None for x, f in zip(leaves, floating, strict=True)]
        with enable_grad():
            tangents = tree.unflatten(structure, probes)
            moved = self.rule(primals, tuple(tangents))[1]
        ends, _ = tree.flatten(moved)
        pairs = [(y, u) for y, u in zip(ends, tree.flatten(g)[0], strict=True) if y.requires_grad]
        wanted = [p for p in probes if isinstance(p, Tensor)]
        found: list[Any] = [None] * len(wanted)
        if pairs:
            found = backward.gradients(
                [y for y, _ in pairs], [u for _, u in pairs], wanted, create_graph=keep
            )
        rest = iter(found)
        flat = [next(rest) if isinstance(p, Tensor) else None for p in probes]
        return tuple(tree.unflatten(structure, flat))


@dataclass(frozen=True)
class _Frame:
    """A tree without its tensors: `statics` has HOLE where one was."""

    structure: Structure
    statics: tuple[Any, ...]

    def filled(self, tensors: Sequence[Any]) -> Any:
        """The tree with tensors."""
        rest = iter(tensors)
        leaves = [next(rest) if x is HOLE else x for x in self.statics]
        return tree.unflatten(self.structure, leaves)


HOLE = object()


def _split(value: Any) -> tuple[list[Tensor], _Frame]:
    leaves, structure = tree.flatten(value)
    statics = tuple(HOLE if isinstance(x, Tensor) else x for x in leaves)
    return [x for x in leaves if isinstance(x, Tensor)], _Frame(structure, statics)


@dataclass(frozen=True)
class _Rule:
    """The gradient rule of the calls of one form."""

    kind: str
    structure: Structure  # of the result
    arguments: _Frame
    residuals: _Frame
    pull: Callable[..., Any]

    def __call__(self, g: Any, y: Any, outs: list, inputs: list, kept: list) -> tuple[Any, ...]:
        zeros = lookup("zeros_like")
        sent = list(g) if isinstance(g, tuple) else [g]
        sent = [zeros(o) if s is None else s for s, o in zip(sent, outs, strict=True)]
        if isinstance(sent[0], Value):  # a dry run: what is needed is all that was kept
            return [None] * len(outs), self._opaque(sent, inputs, kept), [None] * len(kept)
        kept = [_as_result(k, outs, y) for k in kept]
        made = self.pull(self.residuals.filled(kept), tree.unflatten(self.structure, sent))
        return [None] * len(outs), self._checked(made, inputs), [None] * len(kept)

    def _opaque(self, sent: list, inputs: list, kept: list) -> list[Any]:
        zeros = [lookup("zeros_like")(x) for x in inputs]
        form = (2 + len(zeros), 2 + len(sent), 2 + len(kept))
        made = sent[0].emit(op_of_one_call(self), [*zeros, *sent, *kept], {}, form)
        return list(made) if isinstance(made, tuple) else [made]

    def _checked(self, made: Any, inputs: list) -> list[Any]:
        args = tree.unflatten(self.arguments.structure, list(self.arguments.statics))
        if not isinstance(made, tuple | list) or len(made) != len(args):
            raise GradientError(
                f"{self.kind}: the gradients must be a tuple with one for each of {len(args)} "
                "arguments (None: none)"
            )
        flat: list[Any] = []
        for arg, gradient in zip(args, made, strict=True):
            leaves, form = tree.flatten(arg)
            if gradient is None:
                given: list[Any] = [None] * len(leaves)
            else:
                given, found = tree.flatten(gradient)
                if found != form:
                    raise GradientError(
                        f"{self.kind}: a gradient has another form than its argument"
                    )
            flat += [x for x, a in zip(given, leaves, strict=True) if a is HOLE]
        for gradient, x in zip(flat, inputs, strict=True):
            if gradient is None:
                continue
            if not isinstance(gradient, Tensor):
                kind = type(gradient).__name__
                raise GradientError(f"{self.kind}: a gradient is a {kind}; a tensor is needed")
            if gradient.shape != x.shape:
                raise GradientError(
                    f"{self.kind}: a gradient has shape {show(gradient.shape)}, its argument "
                    f"{show(x.shape)}"
                )
        return flat


def _as_result(kept: Any, outs: list, y: Any) -> Any:
    """A residual that is a result: as this op gives it, so that it can be differentiated again."""
    for out, result in zip(outs, y if isinstance(y, tuple) else (y,), strict=True):
        if kept._node is out._node and kept._index == out._index:
            return result
    return kept


def _handed_through(
    outs: Sequence[Value], inputs: Sequence[Value], residuals: Sequence[Value]
) -> tuple[Value, ...]:
    """The results of a function with a derivative of its own."""
    return tuple(outs)


# One name for all: the program of every such op is the same, the rule is no part of it.
_MODEL = make_op(
    _handed_through, name="custom", kind="composite", public=False, reference=None, is_opaque=True
)


def op_of(rule: _Rule) -> Op:
    """The op that hands results through with this gradient rule."""
    made = copy.copy(_MODEL)
    made.grad = rule
    return made


def op_of_one_call(rule: _Rule) -> Op:
    """The same for a rule that only one call has."""
    return op_for_one_call(_MODEL, rule)

"""vmap: a function of one example as a function of many.

While the function runs, its tensors stand for one example: nodes that lie on no tape and have no
value. Each op on them is taken by an Interpreter, which records the op's batched form on real
tensors at once; the nodes keep what gradients need (op and inputs), so `rb.grad` works inside.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Any

from rabbet.base import tree
from rabbet.base.dtypes import DType
from rabbet.base.errors import RabbetError, ShapeError
from rabbet.base.shapes import axis_of, show
from rabbet.base.spec import Spec, intern
from rabbet.engine.outline import Memo, Outline
from rabbet.engine.recipes import follows_from_specs
from rabbet.graph.op import Op
from rabbet.graph.value import Attrs, Builder, lookup
from rabbet.recorder import Autocast, Node, current, scalar_node
from rabbet.tensor.tensor import Tensor
from rabbet.transform.batch import BATCHED, DRAWN, PLAIN, batch_call, repeated

NO_VALUE = (
    "vmap: inside the function a tensor stands for every example at once and has no value (bool(), "
    "item(), print and numpy() need one); use rb.where instead of `if`, and read after vmap"
)


class Interpreter:
    """One vmap in progress: `values` has the real outputs of nodes that stand for one example."""

    def __init__(self, size: int, is_drawn_by_each: bool) -> None:
        self.size = size
        self.outer = current().interpreter
        self.values: dict[Node, list[Any]] = {}
        self.no_value = RabbetError(NO_VALUE)
        self.is_drawn_by_each = is_drawn_by_each
        self.copies = size if is_drawn_by_each else 1
        if self.outer is not None:
            self.copies *= self.outer.copies

    def stand_in(self, real: Tensor) -> Tensor:
        """One example of `real`, whose axis 0 counts examples."""
        spec = intern(real.shape[1:], real.dtype)
        return self._node((spec,), [real], real.requires_grad)

    def _node(self, specs: tuple[Spec, ...], reals: list[Any], requires_grad: bool) -> Tensor:
        node = Node()
        node.specs = specs
        node.requires_grad = requires_grad
        node.error = self.no_value
        self.values[node] = reals
        return Tensor(node, 0)

    def is_batched(self, x: Any) -> bool:
        """True where `x` stands for one of several examples, here or further out."""
        return x._node in self.values or self.outer is not None and self.outer.is_batched(x)

    def any(self, x: Any) -> bool:
        """True where `x` is true for some example."""
        level: Interpreter | None = self
        while level is not None:
            found = level.values.get(x._node)
            x = x if found is None else found[x._index]
            level = level.outer
        tape = current()
        before, tape.interpreter = tape.interpreter, None
        try:
            return bool(x.any())
        finally:
            tape.interpreter = before

    def real(self, x: Any) -> tuple[Any, int]:
        """An operand as the outer level knows it, and its state (see transform/batch.py)."""
        found = self.values.get(x._node)
        if found is not None:
            return found[x._index], BATCHED
        drawn = self.is_drawn_by_each and x._node.offset is not None
        return x, DRAWN if drawn else PLAIN

    def __call__(
        self, op: Op, operands: tuple[Any, ...], attrs: Attrs, form: tuple[int, ...]
    ) -> Any:
        """What an op gives on these operands (see Tape.interpreter)."""
        tape = current()
        states = [self.real(x)[1] if isinstance(x, Tensor) else PLAIN for x in operands]
        if not any(states):
            if self.outer is None:
                return NotImplemented
            tape.interpreter = self.outer
            try:
                return self.outer(op, operands, attrs, form)
            finally:
                tape.interpreter = self
        way = self._way(op, operands, states, attrs, form)
        inputs = operands if way.dtypes is None else self._promoted(way.dtypes, operands)
        reals = [self.real(x)[0] for x in inputs]
        tape.interpreter = self.outer
        try:
            # What autocast asks for is done; it knows nothing of the ops that this one is made of.
            with nullcontext() if tape.narrow is None else Autocast(None):
                if way.outline is not None:
                    made, state = way.outline.record(reals, Tensor), way.state
                else:
                    made, state = batch_call(op, self.size, reals, states, attrs, form)
        finally:
            tape.interpreter = self
        visible = len(way.specs) - op.residuals
        if state != BATCHED:  # zeros_like and its kin: the same for every example
            return made[0] if visible == 1 else tuple(made[:visible])
        needs = tape.grad_enabled and op.differentiable
        first = self._node(way.specs, made, needs and any(x._node.requires_grad for x in inputs))
        node = first._node
        node.op, node.attrs, node.form = op, attrs, form
        node.inputs = tuple((x._node, x._index) for x in inputs)
        if visible == 1:
            return first
        return (first, *(Tensor(node, i) for i in range(1, visible)))

    def _way(
        self,
        op: Op,
        operands: tuple[Any, ...],
        states: list[int],
        attrs: Attrs,
        form: tuple[int, ...],
    ) -> _Way:
        """How such a call is taken, found once."""
        narrow = current().narrow
        kinds = [x._node.specs[x._index] if isinstance(x, Tensor) else type(x) for x in operands]
        key = (op, form, self.size, narrow, tuple(states), tuple([id(k) for k in kinds]))
        found: _Way | None = _ways.get(attrs, key)
        if found is None:
            found = self._new_way(op, operands, states, attrs, form, narrow)
            if follows_from_specs(op):
                _ways.put(attrs, key, found, *kinds)
        return found

    def _new_way(
        self,
        op: Op,
        operands: tuple[Any, ...],
        states: list[int],
        attrs: Attrs,
        form: tuple[int, ...],
        narrow: Any,
    ) -> _Way:
        given = [x.spec if isinstance(x, Tensor) else x for x in operands]
        dtypes = op.operand_dtypes(given, narrow)
        specs = [
            intern(s.shape, d, s.device) if isinstance(s, Spec) else intern((), d)
            for s, d in zip(given, dtypes, strict=True)
        ]
        outputs = tuple(intern(s.shape, s.dtype) for s in op.infer_specs(specs, attrs, form))
        way = _Way(None if specs == given else dtypes, outputs)
        if follows_from_specs(op):
            builder = Builder()
            reals = [
                builder.input(replace(s, shape=(self.size, *s.shape)) if state == BATCHED else s)
                for s, state in zip(specs, states, strict=True)
            ]
            made, way.state = batch_call(op, self.size, reals, states, attrs, form)
            way.outline = Outline(reals, made)
        return way

    def _promoted(self, dtypes: Sequence[DType], operands: tuple[Any, ...]) -> list[Tensor]:
        """Operands of the dtypes the op wants, numbers as tensors."""
        found = []
        for x, dtype in zip(operands, dtypes, strict=True):
            if not isinstance(x, Tensor):
                x = Tensor(scalar_node(x, intern((), dtype)))
            elif x.dtype is not dtype:
                x = lookup("cast")(x, dtype)
            found.append(x)
        return found


@dataclass(eq=False)
class _Way:
    """How calls of one kind are taken: the dtypes that operands are brought to (None: they have
    them), the Specs of one example's results, and, where the rule need not be asked again, its
    outline and the state of what it gives.
    """

    dtypes: Sequence[DType] | None
    specs: tuple[Spec, ...]
    outline: Outline | None = None
    state: int = BATCHED


_ways = Memo()


def vmap(
    function: Callable[..., Any],
    in_axes: Any = 0,
    out_axes: Any = 0,
    randomness: str = "different",
) -> Callable[..., Any]:
    """`function` of one example as a function of many: each op works on all of them at once.

    `in_axes` says along which axis an argument's tensors count examples: a number, None (the same
    tensor for all), or a tuple with one for each argument; for an argument that is a dict, list or
    tuple it may have that form too. Keyword arguments count along axis 0. `out_axes` says the same
    of the result. Random draws differ between examples, or are the `"same"` for all.

    It nests, works over `rb.grad` and under it, under `rb.jit`, and on data-independent Python
    only: a branch on a tensor's value raises RabbetError. Raises ShapeError where the numbers of
    examples differ.

    >>> rb.vmap(rb.vecdot)(rb.ones((2, 3)), rb.ones((2, 3)))
    tensor([3., 3.])
    """
    if randomness not in ("different", "same"):
        raise ValueError(f'vmap: randomness is "different" or "same", not {randomness!r}')

    @functools.wraps(function)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        axes = _for_arguments(in_axes, args)
        leaves, structure = tree.flatten((list(args), kwargs))
        places = [
            *(a for arg, axis in zip(args, axes, strict=True) for a in _for_leaves(axis, arg)),
            *_for_leaves(0, kwargs),
        ]
        fronted = [_front(x, a) for x, a in zip(leaves, places, strict=True)]
        size = _common_size(fronted, places)
        tape = current()
        level = Interpreter(size, randomness == "different")
        given = [
            x if a is None or not isinstance(x, Tensor) else level.stand_in(x)
            for x, a in zip(fronted, places, strict=True)
        ]
        one_args, one_kwargs = tree.unflatten(structure, given)
        tape.interpreter = level
        try:
            result = function(*one_args, **one_kwargs)
        finally:
            tape.interpreter = level.outer
        return _results(level, result, out_axes)

    return wrapped


def _for_arguments(in_axes: Any, args: Sequence[Any]) -> list[Any]:
    if isinstance(in_axes, list | tuple):
        if len(in_axes) != len(args):
            raise ValueError(f"vmap: in_axes has {len(in_axes)} items for {len(args)} arguments")
        return list(in_axes)
    return [in_axes] * len(args)


def _for_leaves(axes: Any, value: Any) -> list[int | None]:
    """The axis of every leaf of `value`; `axes` may stop at any container."""
    if axes is None or isinstance(axes, int):
        count = len(tree.flatten(value)[0])
        return [axes] * count
    if isinstance(axes, dict) and isinstance(value, dict) and axes.keys() == value.keys():
        return [a for key in value for a in _for_leaves(axes[key], value[key])]
    if (
        isinstance(axes, list | tuple)
        and isinstance(value, list | tuple)
        and len(axes) == len(value)
    ):
        return [a for x, v in zip(axes, value, strict=True) for a in _for_leaves(x, v)]
    raise ValueError(f"vmap: the axes {axes!r} do not fit a {type(value).__name__}")


def _front(x: Any, axis: int | None) -> Any:
    """The axis of examples first."""
    if axis is None or not isinstance(x, Tensor):
        return x
    at = axis_of("vmap", axis, x.ndim)
    if at == 0:
        return x
    return lookup("permute")(x, (at, *(a for a in range(x.ndim) if a != at)))


def _common_size(leaves: Sequence[Any], places: Sequence[int | None]) -> int:
    sizes: dict[int, Tensor] = {}
    for x, axis in zip(leaves, places, strict=True):
        if axis is not None and isinstance(x, Tensor):
            sizes.setdefault(x.shape[0], x)
    if not sizes:
        raise ValueError("vmap: no argument counts examples; in_axes is None for all of them")
    if len(sizes) > 1:
        shown = " and ".join(f"{n} in {show(x.shape)}" for n, x in sizes.items())
        raise ShapeError(f"vmap: the arguments have different numbers of examples: {shown}")
    return next(iter(sizes))


def _results(level: Interpreter, result: Any, out_axes: Any) -> Any:
    leaves, structure = tree.flatten(result)
    places = _for_leaves(out_axes, result)
    found = []
    for x, axis in zip(leaves, places, strict=True):
        if not isinstance(x, Tensor):
            raise TypeError(f"vmap: the function returned a {type(x).__name__}; tensors are needed")
        real, state = level.real(x)
        if axis is None:
            if state == BATCHED:
                raise ValueError("vmap: out_axes is None for a result that differs by example")
            found.append(real)
            continue
        real = real if state == BATCHED else repeated(real, level.size)
        at = axis_of("vmap", axis, real.ndim)
        order = (*range(1, at + 1), 0, *range(at + 1, real.ndim))
        found.append(real if at == 0 else lookup("permute")(real, order))
    return tree.unflatten(structure, found)

"""What a pack is for, as a rule: the first tier, and the layers of small networks.

- Every op by itself and its gradient, on the operands of its samples, in float32 where it takes
  that; elementwise ops also with numbers, rows and columns against arrays of every rank.
- Products in every orientation; slices, pads, sums and joined arrays along every axis.
- Small networks of every common layer, with each activation, loss and optimizer: their forward
  passes, gradients and updates, op by op and fused, for one row and for several.

Kernels hold no sizes, so small arrays stand for all. Nothing is compiled here: programs run on the
NumPy reference, and the graphs that a compiler would be given are written down.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from itertools import permutations, product
from typing import Any, NamedTuple

import numpy as np

from rabbet import nn, optim
from rabbet.base.config import config
from rabbet.base.errors import RabbetError
from rabbet.base.sizes import SizeScope
from rabbet.engine.flush import flush
from rabbet.engine.programs import families
from rabbet.graph import sample
from rabbet.graph.op import Op
from rabbet.graph.sample import Sample
from rabbet.graph.value import Graph, registry
from rabbet.higher.functional import grad, value_and_grad
from rabbet.higher.vmap import vmap
from rabbet.library.joining import split
from rabbet.nn.stateless import functional_call
from rabbet.recorder import record
from rabbet.runtime import program
from rabbet.tensor import asarray, functions

SHAPE = (2, 3, 4, 5)  # its last axes are an array of fewer
COMMON = ("add", "subtract", "multiply", "divide", "maximum", "minimum", "where", "equal", "less")
OFTEN = (  # composites that come in all forms of their samples
    *("mse_loss", "cross_entropy", "mean", "sum", "var", "std", "topk", "one_hot"),
    *("put_along_axis", "take_along_axis", "index_reduce", "index_add"),
)
REDUCTIONS = ("sum", "mean", "max", "argmax")
ALONG = ("softmax", "log_softmax", "cumulative_sum", "sort", "argsort")
ROWS_OF = (("concat", (1,)), ("concat", (1, 4)), ("stack", ()), ("stack", (4,)))
MOST_ROWS = 16  # put together, each of them an operand
BATCH, M, N, K = 3, 0, 1, 2  # axes of a product
ACTIVATIONS = ("ReLU", "Tanh", "Sigmoid", "GELU", "SiLU", "LeakyReLU", "ELU", "Softplus")
OPTIMIZERS: tuple[Callable[[Any], Any], ...] = (
    lambda p: optim.SGD(p, lr=0.1),
    lambda p: optim.SGD(p, lr=0.1, momentum=0.9),
    lambda p: optim.Adam(p, lr=0.1),
    lambda p: optim.AdamW(p, lr=0.1),
)
ROWS = (1, 3)
MANY, WIDE = 20, 48  # rows, and a size as long as several vectors
STEPS = 3  # op by op, then fused


class Wanted(NamedTuple):
    """A graph to be compiled, as `compile_stages` takes it."""

    graph: Graph
    scope: SizeScope | None
    fuse: bool
    single: Single | None = None


class Single(NamedTuple):
    """What a program of one op is known by: the op with its operands, sizes, kept outputs."""

    family: bytes
    dims: tuple[int | str, ...]
    keep: tuple[tuple[int, int], ...]


def wanted() -> list[Wanted]:
    """Every graph whose kernels belong into a pack."""
    found: list[Wanted] = []
    with written_down(found, fuse=False):
        for op in registry.values():
            for run in singles(op):
                run()
        for run in (*products(), *moves()):
            run()
    with written_down(found):
        for run in networks():
            run()
    return found


# ---- one op --------------------------------------------------------------------------------------


def singles(op: Op) -> Iterator[Callable[[], None]]:
    """An op on its samples, with its gradient; elementwise ones in every layout."""
    if op.samples is None or op.kind in ("input", "control", "host"):
        return
    cases = list(op.samples())
    for case in cases[:1] if op.kind == "composite" and op.name not in OFTEN else cases:
        shapes = [d.shape for d in sample.draws(case)]
        for dtype in _dtypes(op, case):
            yield partial(_one, op, case, shapes, dtype)
    if op.kind == "elementwise":
        yield from _layouts(op, cases[0])
    if "shape" in op.sizes and not any(shapes):  # made out of nothing, or numbers
        for rank in range(1, 5):
            drawn = replace(case, attrs=case.attrs | {"shape": SHAPE[:rank]})
            yield partial(_one, op, drawn, shapes, _dtypes(op, case)[0])


def _dtypes(op: Op, case: Sample) -> list[str]:
    """float32, or what comes first; whole numbers too where indices are computed."""
    first = "float32" if "float32" in case.dtypes else case.dtypes[0]
    also = {
        "elementwise": ("int64", "bool"),
        "movement": ("int64",),
        "gather": ("int64", "bool"),
    }.get(op.kind, ())
    return [first, *(d for d in also if d in case.dtypes and d != first)]


def _layouts(op: Op, case: Sample) -> Iterator[Callable[[], None]]:
    """One operand after the other in every layout, against whole arrays of every rank."""
    count = len(sample.draws(case))
    places = range(count) if count > 1 else ()
    for dtype in _dtypes(op, case)[:2]:
        is_common = op.name in COMMON and dtype == "float32"
        for rank in range(5):
            whole = SHAPE[4 - rank :]
            yield partial(_one, op, case, [whole] * count, dtype)
            met = _against(whole) if is_common or rank == 2 else [()][: dtype == "int64"]
            for shape, place in product(met, places):
                shapes = [shape if i == place else whole for i in range(count)]
                yield partial(_one, op, case, shapes, dtype)
        if is_common:
            yield partial(_one, op, case, [(3, 1), (1, 4), (3, 4)][:count], dtype)
            yield partial(_one, op, case, [(2, 3, 1)] * count, dtype)


def _against(whole: tuple[int, ...]) -> list[tuple[int, ...]]:
    """What meets an array: numbers, rows, columns, and arrays with one axis of one element."""
    found = [(), whole[-1:], whole[1:]]
    found += [(*whole[:at], 1, *whole[at + 1 :]) for at in range(len(whole))]
    if len(whole) == 4:
        found.append((whole[1], 1, 1))
    return [shape for shape in dict.fromkeys(found) if shape != whole]


def _one(op: Op, case: Sample, shapes: Sequence[tuple[int, ...]], dtype: str) -> None:
    """One call and its gradient; nothing where the op refuses these operands."""
    draws, source = sample.draws(case), np.random.default_rng(0)
    if len(shapes) != len(draws):
        return
    defaults = {p.name: p.default for p in op.parameters if p.role == "attribute"}
    holes: dict[str, Any] = {p.name: [] if p.role == "list" else None for p in op.operands}
    try:
        attrs = op.bind((), holes | defaults | case.attrs)[1]
        arrays = [
            sample.array(replace(draw, shape=shape), dtype, source)
            for draw, shape in zip(draws, shapes, strict=True)
        ]
        operands = [asarray(array) for array in arrays]
        for operand in operands:
            operand.requires_grad = op.differentiable and operand.dtype.is_inexact
        made = record(op, operands, attrs, sample.form(case))
        results = made if isinstance(made, tuple) else (made,)
        flush()
        _differentiate(*results)
    except RabbetError:
        return


def _differentiate(*results: Any) -> None:
    """The gradients of what has some."""
    for result in results:
        if result.requires_grad:
            result.backward(asarray(np.ones(result.shape, result.dtype.numpy)))
            flush()


def products() -> Iterator[Callable[[], None]]:
    """Products of matrices in every orientation, of one and of many, with a side of one."""
    size = {BATCH: 2, M: 3, N: 5, K: 8}
    for batch, alone in product(("", "both", "a", "b", "sum"), (None, M, N, K)):
        if alone is None or batch in ("", "both"):
            for a, b, out in product(permutations((M, K)), permutations((K, N)), ((M, N), (N, M))):
                axes = {
                    "a_axes": (BATCH,) * (batch in ("both", "a", "sum")) + a,
                    "b_axes": (BATCH,) * (batch in ("both", "b", "sum")) + b,
                    "out_axes": (BATCH,) * (batch in ("both", "a", "b")) + out,
                }
                yield partial(_product, axes, size | ({} if alone is None else {alone: 1}))
    for rows, ends, has_bias in product(((), (1,), (3,), (2, 3)), (1, 5), (False, True)):
        yield partial(_linear, rows, ends, has_bias)


def _product(axes: dict[str, tuple[int, ...]], size: dict[int, int]) -> None:
    operands = [_floats(*(size[axis] for axis in axes[name])) for name in ("a_axes", "b_axes")]
    found = record(registry["contract"], operands, axes, ())
    flush()  # of what is alive
    del found


def _linear(rows: tuple[int, ...], ends: int, has_bias: bool) -> None:
    operands = [_floats(*rows, 8), _floats(ends, 8), *([_floats(ends)] if has_bias else [])]
    for operand in operands:
        operand.requires_grad = True
    found = functions["linear"](*operands)
    flush()
    _differentiate(found)


def moves() -> Iterator[Callable[[], None]]:
    """Elements and parts of arrays, arrays put together, and sums along each axis, with their
    gradients.
    """
    for rank, dtype in product(range(1, 5), sample.ALL):
        yield partial(_moved, lambda x: x[(0,) * x.ndim], (4, 5, 3, 6)[:rank], dtype)
    for rank, dtype in product(range(1, 5), ("float32", "int64")):
        for move in _moves(rank):
            yield partial(_moved, move, (4, 5, 3, 6)[:rank], dtype)
        for at, count, size in product({0, rank - 1}, (2, 3, 4), (1, 3)):
            shape = tuple(size if axis == at else 4 for axis in range(rank))
            yield partial(_joined, "concat", [_ones(shape, dtype) for _ in range(count)], at)
    for count, (name, shape) in product(range(2, MOST_ROWS + 1), ROWS_OF):
        yield partial(_joined, name, [_ones(shape, "float32") for _ in range(count)], 0)


def _moves(rank: int) -> Iterator[Callable[[Any], Any]]:
    for at in range(rank):
        for part in (0, slice(1, 3)):  # where it begins makes no difference
            yield partial(_part, at, part)
        for name, keeps in product(REDUCTIONS, (False, True)):
            yield partial(functions[name], axis=at, keepdims=keeps)
        for name in (*ALONG, "flip"):
            yield partial(functions[name], axis=at)
        for other in range(at):
            yield partial(functions["swapaxes"], axis1=at, axis2=other)
    yield partial(functions["expand_dims"], axis=0)


def _part(axis: int, part: int | slice, x: Any) -> Any:
    return x[(slice(None),) * axis + (part,)]


def _ones(shape: tuple[int, ...], dtype: str) -> Any:
    found = asarray(np.ones(shape, dtype))
    found.requires_grad = dtype == "float32"
    return found


def _joined(name: str, parts: list[Any], axis: int) -> None:
    found = functions[name](parts, axis=axis)
    flush()
    _differentiate(found)


def _moved(move: Callable[[Any], Any], shape: tuple[int, ...], dtype: str) -> None:
    x = _ones(shape, dtype)
    try:
        found = move(x)
        flush()
        _differentiate(found)
    except RabbetError:
        return


# ---- networks ------------------------------------------------------------------------------------


def networks() -> Iterator[Callable[[], None]]:
    """Small programs: each trains something for a few steps."""
    features, classes = 8, 5
    yield from _perceptrons(features)
    for ends in (1, 2):
        yield partial(_tasks, ends)
    linear = nn.Linear(features, classes)  # as many rows as classes: one size less
    yield _training(linear, _floats(classes, features), _classes, OPTIMIZERS[2])
    for optimizer in OPTIMIZERS:
        net = nn.Sequential(nn.Linear(features, 6), nn.Tanh(), nn.Linear(6, classes))
        yield _training(net, _floats(3, features), _classes, optimizer)
    for body, x in _bodies(features):
        yield _training(nn.Sequential(body, nn.Linear(features, classes)), x, _classes, optim.Adam)
    images = nn.Sequential(
        *(nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(4, 4, 3), nn.ReLU(), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(4, classes)),
    )
    yield _training(images, _floats(3, 3, 8, 8), _classes, OPTIMIZERS[1])
    for rows in ROWS:
        yield _training(_Cells(features, classes), _floats(rows, features), _classes, optim.Adam)


def _perceptrons(features: int) -> Iterator[Callable[[], None]]:
    for rows, name in product(ROWS, ACTIVATIONS):
        act = getattr(nn, name)
        net = nn.Sequential(nn.Linear(features, 6), act(), nn.Linear(6, 4), act(), nn.Linear(4, 1))
        yield _training(net, _floats(rows, features), _squares, OPTIMIZERS[2])
        if name in ACTIVATIONS[:2]:  # as wide as deep: one size less, so kernels of their own
            square = nn.Sequential(
                nn.Linear(features, features), act(), nn.Linear(features, features)
            )
            yield _training(square, _floats(rows, features), _squares, OPTIMIZERS[2])
    for rows, ends in product((*ROWS, MANY), (1, 2)):  # many terms and few results, and back
        net = nn.Sequential(nn.Linear(ends, WIDE), nn.Tanh(), nn.Linear(WIDE, ends))
        yield _training(net, _floats(rows, ends), _squares, OPTIMIZERS[2])


def _bodies(features: int) -> Iterator[tuple[nn.Module, Any]]:
    """Modules that end in `features` features, with an input each."""
    for rows in ROWS:
        words = asarray(np.arange(rows) % 5)
        yield nn.Embedding(5, features), words
        yield nn.LayerNorm(features), _floats(rows, features)
        yield nn.RMSNorm(features), _floats(rows, features)
        yield nn.Dropout(0.5), _floats(rows, features)
    yield nn.BatchNorm1d(features), _floats(3, features)
    yield nn.TransformerEncoderLayer(features, 2, 16, batch_first=True), _floats(3, 4, features)


class _Cells(nn.Module):
    """Recurrent cells written by hand from gates, and the state of several put together."""

    def __init__(self, features: int, classes: int) -> None:
        super().__init__()
        self.gates = nn.Linear(features, 4 * features)
        self.below = nn.Linear(features, 4 * features, bias=False)
        self.square = nn.Linear(features, features)
        self.both = nn.Linear(2 * features, classes)

    def forward(self, x: Any) -> Any:
        """(rows, classes) from (rows, features)."""
        h, c = x, x
        sigmoid, tanh, concat = (functions[name] for name in ("sigmoid", "tanh", "concat"))
        states = []
        for _ in range(2):
            parts = split(self.gates(x) + self.below(h), x.shape[1], axis=1)
            i, f, o = map(sigmoid, parts[:3])
            g = tanh(parts[3])
            c = f * c + i * g
            h = sigmoid(self.square(x) + o) * tanh(c)
            states.append(h)
        rows = [self.both(concat(states, axis=1)) for _ in range(2)]
        return concat(rows, axis=0)[: x.shape[0]]


def _training(
    net: nn.Module, x: Any, loss: Callable[[Any], Any], optimizer: Callable[[Any], Any]
) -> Callable[[], None]:
    def run() -> None:
        steps = optimizer(net.parameters())
        for _ in range(STEPS):
            error = loss(net(x))
            steps.zero_grad()
            error.backward()
            steps.step()
            float(error.item())

    return run


def _tasks(ends: int) -> None:
    """A network for each of several tasks: a step of gradient descent on its own, and the gradient
    through that step of what all share.
    """
    net = nn.Sequential(
        *(nn.Linear(ends, WIDE), nn.ReLU(), nn.Linear(WIDE, WIDE), nn.ReLU()),
        nn.Linear(WIDE, ends),
    )
    shared = dict(net.named_parameters())

    def loss(params: Any, x: Any) -> Any:
        return _squares(functional_call(net, params, (x,)))

    def after_a_step(params: Any, x: Any) -> Any:
        slopes = grad(loss)(params, x)
        return loss({name: p - 0.1 * slopes[name] for name, p in params.items()}, x)

    def together(params: Any) -> Any:
        return vmap(after_a_step, in_axes=(None, 0))(params, _floats(MANY, 12, ends)).mean()

    steps = OPTIMIZERS[2](shared.values())
    for _ in range(STEPS):
        value, slopes = value_and_grad(together)({n: p.detach() for n, p in shared.items()})
        for name, p in shared.items():
            p.grad = slopes[name]
        steps.step()
        float(value.item())


def _floats(*shape: int) -> Any:
    return asarray(np.random.default_rng(0).normal(size=shape).astype(np.float32))


def _squares(y: Any) -> Any:
    return ((y - _floats(*y.shape)) ** 2).mean()


def _classes(y: Any) -> Any:
    y = y.reshape(-1, y.shape[-1])
    return nn.functional.cross_entropy(y, asarray(np.arange(y.shape[0]) % y.shape[1]))


@contextmanager
def written_down(found: list[Wanted], *, fuse: bool = True) -> Iterator[None]:
    """Within, programs run on the reference, and `found` gets the graphs they are made of; without
    `fuse` all are op by op.
    """

    def note(graph: Graph, scope: SizeScope | None, fused: bool, parts: Any) -> None:
        single = None if fused or parts is None else Single(parts[0], parts[1][0], parts[2])
        found.append(Wanted(graph, scope, fused, single))

    before = config.engine, config.fuse
    config.engine, config.fuse = "reference", fuse and config.fuse
    families.clear()
    program.observers.append(note)
    try:
        yield
    finally:
        program.observers.remove(note)
        families.clear()
        config.engine, config.fuse = before

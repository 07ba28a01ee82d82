"""What a pack is for, as a rule: the first tier, and the layers of small networks.

- Every op by itself, on the operands of its samples (a composite: of its first), in float32 where
  it takes that; elementwise ops also with whole arrays, rows, columns and numbers against a matrix.
- Small networks of every common layer, with each activation, loss and optimizer: their forward
  passes, gradients and updates, op by op and fused, for one row and for several.

Kernels hold no sizes, so small arrays stand for all. Nothing is compiled here: programs run on the
NumPy reference, and the graphs that a compiler would be given are written down.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import product
from typing import Any, NamedTuple

import numpy as np

from rabbet import nn, optim
from rabbet.base.config import config
from rabbet.base.errors import RabbetError
from rabbet.base.sizes import SizeScope
from rabbet.base.spec import Spec
from rabbet.graph import sample
from rabbet.graph.op import Op
from rabbet.graph.sample import Sample
from rabbet.graph.value import Builder, Graph, registry
from rabbet.nn.stateless import functional_call
from rabbet.runtime import program
from rabbet.tensor import asarray, functions
from rabbet.tensor.functional import grad, value_and_grad
from rabbet.tensor.several import split
from rabbet.tensor.vmap import vmap

MATRIX = (3, 4)
AGAINST = (MATRIX, (4,), (3, 1), ())
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


def wanted() -> list[Wanted]:
    """Every graph whose kernels belong into a pack."""
    found = [Wanted(graph, None, False) for op in registry.values() for graph in singles(op)]
    with written_down(found):
        for run in networks():
            run()
    return found


# ---- one op --------------------------------------------------------------------------------------


def singles(op: Op) -> Iterator[Graph]:
    """An op's samples as graphs of one call, elementwise ones in every layout."""
    if op.samples is None or op.kind in ("input", "control", "host"):
        return
    cases = list(op.samples())
    for case in cases[:1] if op.kind == "composite" else cases:
        yield from _single(op, case, [d.shape for d in sample.draws(case)])
    if op.kind == "elementwise":
        count = len(sample.draws(cases[0]))
        for shape, place in product(AGAINST, range(count)):
            yield from _single(
                op, cases[0], [shape if i == place else MATRIX for i in range(count)]
            )


def _single(op: Op, case: Sample, shapes: list[tuple[int, ...]]) -> Iterator[Graph]:
    """The graph of one call; none where the op refuses these operands."""
    draws = sample.draws(case)
    if len(shapes) != len(draws):
        return
    dtype = "float32" if "float32" in case.dtypes else case.dtypes[0]
    builder = Builder()
    specs = [Spec(s, sample.drawn_dtype(d, dtype)) for s, d in zip(shapes, draws, strict=True)]
    defaults = {p.name: p.default for p in op.parameters if p.role == "attribute"}
    operands: dict[str, Any] = {p.name: [] if p.role == "list" else None for p in op.operands}
    try:
        kinds = op.operand_dtypes(specs)
        inputs = [builder.input(s.with_dtype(k)) for s, k in zip(specs, kinds, strict=True)]
        attrs = op.bind((), operands | defaults | case.attrs)[1]
        made = op.infer_specs([v.spec for v in inputs], attrs, sample.form(case))
    except RabbetError:
        return
    outputs = builder.call(op, tuple(inputs), attrs, sample.form(case), made)
    yield Graph(inputs, list(outputs))


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
def written_down(found: list[Wanted]) -> Iterator[None]:
    """Within, programs run on the reference, and `found` gets the graphs they are made of."""

    def note(graph: Graph, scope: SizeScope | None, fuse: bool) -> None:
        found.append(Wanted(graph, scope, fuse))

    engine, config.engine = config.engine, "reference"
    program.observers.append(note)
    try:
        yield
    finally:
        program.observers.remove(note)
        config.engine = engine

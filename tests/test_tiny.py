"""Every stage once, in seconds: what to run while changing things."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import rabbet as rb
from rabbet import nn, targets
from rabbet.base.spec import Spec
from rabbet.codegen import machine
from rabbet.codegen.build import build
from rabbet.graph import interpret
from rabbet.graph.value import Builder, Graph, lookup
from rabbet.kernel.fuse import Fusion
from rabbet.kernel.lower import lower
from rabbet.kernel.show import show
from rabbet.optim import SGD
from rabbet.runtime.compile import compile_plan
from rabbet.transform.decompose import decompose
from rabbet.transform.gradient import gradient

DATA = np.random.default_rng(0).normal(size=(4, 20)).astype(np.float32)


@pytest.fixture
def graph() -> Graph:
    """softmax(x) * 2, a graph."""
    x = Builder().input(Spec((4, 20), rb.float32))
    return Graph([x], [lookup("multiply")(lookup("softmax")(x), 2.0)])


def test_graph_and_reference(graph: Graph) -> None:
    """A graph runs in the interpreter, whole and decomposed."""
    (whole,) = interpret.run(graph, [DATA])
    primitive, _ = decompose(graph)
    (parts,) = interpret.run(primitive, [DATA])
    assert np.allclose(whole.sum(axis=1), 2, rtol=1e-5) and np.allclose(whole, parts, rtol=1e-5)
    assert all(c.op.kind != "composite" for c in primitive.calls())


def test_gradient(graph: Graph) -> None:
    """The gradient is a graph; that of a sum of softmax is 0."""
    (x,), (y,) = graph.inputs, graph.outputs
    (g,) = gradient([y], [lookup("ones_like")(y)], [x])
    assert g is not None and np.allclose(interpret.run(Graph([x], [g]), [DATA])[0], 0, atol=1e-5)


def test_kernels_and_machine_code(graph: Graph) -> None:
    """Softmax is one kernel, readable as text, and becomes object code."""
    fusion = Fusion(decompose(graph)[0], set())
    kernels = [lower(g, fusion).kernel for g in fusion.order()]
    assert len(kernels) == 1 and "exp" in show(kernels[0])
    target = targets.host()
    assert len(machine.object_code(build(kernels[0], target).text, target)) > 100


def test_plan(graph: Graph) -> None:
    """A plan is words that begin with the magic."""
    compiled = compile_plan(graph, targets.host())
    assert compiled.words[:8] == b"RABBETP1" and len(compiled.kernels) == 1


def test_tensors() -> None:
    """First sight, second sight, replay: the same bits as the interpreter's shape of things."""

    def f(x: rb.Tensor) -> rb.Tensor:
        return rb.softmax(x, axis=1) * 2

    x, jitted = rb.asarray(DATA), rb.jit(f)
    found = [function(x).numpy().tobytes() for function in (f, f, f, jitted, jitted)]
    assert len(set(found)) == 1


def test_training() -> None:
    """A layer learns."""
    rb.manual_seed(0)
    layer = nn.Linear(20, 2)
    stepper = SGD(layer.parameters(), lr=0.5)
    losses = []
    for _ in range(5):
        loss = nn.functional.cross_entropy(layer(rb.asarray(DATA)), rb.tensor([0, 1, 0, 1]))
        stepper.zero_grad()
        loss.backward()
        stepper.step()
        losses.append(loss.item())
    assert losses == sorted(losses, reverse=True) and losses[-1] < losses[0]


def test_export(tmp_path: Path) -> None:
    """A program file gives what the model gives, for another batch size too."""
    layer = nn.Linear(20, 3).eval()
    file = tmp_path / "layer.rbt"
    rb.export(layer, (rb.asarray(DATA),), file, dynamic={"input": {0: "batch"}})
    program = rb.load_program(file)
    for rows in (4, 2):
        wanted = layer(rb.asarray(DATA[:rows])).detach().numpy()
        assert np.array_equal(program(rb.asarray(DATA[:rows])).numpy(), wanted)

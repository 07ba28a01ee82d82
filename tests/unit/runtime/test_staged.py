"""Programs with host ops: stages, jit, gradients, errors, refusal in native code."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import rabbet as rb
from rabbet import targets
from rabbet.base.spec import Spec
from rabbet.graph.value import Builder, Graph, lookup
from rabbet.runtime.compile import compile_plan, compile_stages


def _graph() -> Graph:
    """Two rounds of host calls with compiled work before, between and after them."""
    builder = Builder()
    x = builder.input(Spec((3, 3), rb.float64))
    b = builder.input(Spec((3, 2), rb.float64))
    first = lookup("solve")(x * 2.0, b)
    other = lookup("solve")(x, b)  # needs no compiled part before it
    second = lookup("solve")(lookup("permute")(x, axes=(1, 0)), first + other)
    return Graph([x, b], [second * 3.0, first])


def test_stages_are_as_few_as_the_chain_of_host_calls_allows() -> None:
    staging = compile_stages(_graph(), targets.host())
    names = [getattr(getattr(s, "op", None), "name", "part") for s in staging.stages]
    assert names.count("part") == 3 and names.count("solve") == 3
    assert names[0] == "part" and names[-1] == "part"


def test_a_plan_refuses_a_host_op_by_name() -> None:
    with pytest.raises(rb.CompileError, match="solve runs on the host"):
        compile_plan(_graph(), targets.host())


def test_native_code_refuses_a_host_op(tmp_path: Path) -> None:
    class Model(rb.nn.Module):
        def forward(self, x: Any) -> Any:
            return rb.linalg.solve(x, x) + 1

    path = tmp_path / "m.rbt"
    x = rb.asarray(np.eye(3, dtype=np.float32) * 2)
    rb.export(Model().eval(), (x,), path)
    np.testing.assert_allclose(rb.load_program(path)(x).numpy(), np.eye(3) + 1)
    with pytest.raises(rb.RabbetError, match="solve runs on the host"):
        rb.build(path, target="native", output=tmp_path / "out")


def test_first_sight_fused_and_jit_agree(rng: np.random.Generator) -> None:
    def f(a: rb.Tensor, b: rb.Tensor) -> rb.Tensor:
        return (rb.linalg.solve(a * 2.0, rb.exp(b)).T @ a).sum(axis=0)

    a, b = rng.random((5, 5)) + np.eye(5) * 5, rng.random((5, 2))
    given = rb.asarray(a), rb.asarray(b)
    wanted = (np.linalg.solve(a * 2, np.exp(b)).T @ a).sum(0)
    jitted = rb.jit(f)
    runs = [f(*given), f(*given), f(*given), jitted(*given), jitted(*given)]
    np.testing.assert_allclose(runs[0].numpy(), wanted, 1e-12)
    assert len({r.numpy().tobytes() for r in runs}) == 1
    assert jitted.stats == {"recorded": 1, "replayed": 1}


def test_sizes_that_change_become_symbols(rng: np.random.Generator) -> None:
    for n in (2, 3, 5, 4, 6):
        a, b = rng.random((n, n)) + np.eye(n) * n, rng.random((n, 2))
        found = rb.linalg.solve(rb.asarray(a) + 1.0, rb.asarray(b)) * 2.0
        np.testing.assert_allclose(found.numpy(), np.linalg.solve(a + 1, b) * 2, 1e-10)


def test_an_error_on_the_host_names_the_line() -> None:
    singular = rb.linalg.solve(rb.zeros(2, 2), rb.ones(2))
    with pytest.raises(rb.LinAlgError, match=r"solve: Singular matrix\n  at .*test_staged.py"):
        singular.numpy()


def test_explain_times_the_stages() -> None:
    rb.linalg.solve(rb.eye(3) * 2.0, rb.ones(3)).numpy()
    rb.linalg.solve(rb.eye(3) * 2.0, rb.ones(3)).numpy()
    assert ("solve (host)",) in [k.ops for k in rb.explain().kernels]

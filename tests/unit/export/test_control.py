"""Exported `if` and `while`: the same bits as eager, whichever way is taken."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import rabbet as rb
from rabbet import nn
from rabbet.base import tree
from rabbet.runtime.program import CompiledProgram

_spec = importlib.util.spec_from_file_location(
    "control_programs", Path(__file__).parent / "control_programs.py"
)
assert _spec is not None and _spec.loader is not None
control_programs = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(control_programs)
PROGRAMS = control_programs.PROGRAMS


def name_of(program: Any) -> str:
    return type(program).__name__ if isinstance(program, nn.Module) else program.__name__


def bits(result: Any) -> list[tuple[Any, ...]]:
    arrays = [x.numpy() for x in map(rb.asarray, tree.flatten(result)[0])]
    return [(a.dtype, a.shape, a.tobytes()) for a in arrays]


def inputs(count: int, seed: int) -> list[rb.Tensor]:
    rng = np.random.default_rng(seed)
    scale = rng.choice([0.3, 1.0, 4.0, 12.0], (count, 1))
    return [rb.asarray(x) for x in (rng.standard_normal((count, 3)) * scale).astype(np.float32)]


def compare(program: Any, path: Path, xs: list[rb.Tensor]) -> None:
    loaded = rb.load_program(rb.export(program, (xs[0],), path))
    for x in xs:
        wanted, found = bits(program(rb.asarray(x, copy=True))), bits(loaded(x))
        assert wanted == found, x


@pytest.mark.parametrize("program", PROGRAMS, ids=name_of)
def test_programs_as_they_are_written(program: Any, tmp_path: Path) -> None:
    assert len(PROGRAMS) == 20
    compare(program, tmp_path / "p.rbt", inputs(50, len(name_of(program))))


@pytest.mark.slow
@pytest.mark.parametrize("program", PROGRAMS, ids=name_of)
def test_programs_on_a_thousand_inputs(program: Any, tmp_path: Path) -> None:
    compare(program, tmp_path / "p.rbt", inputs(1000, 1))


# ---- refusals ------------------------------------------------------------------------------------


class Remembers(nn.Module):
    def forward(self, x: Any) -> Any:
        if x.sum() > 0:
            self.last = x
        return x


def raises(x: Any) -> Any:
    if x.sum() > 0:
        raise ValueError("positive")
    return x


def collects(x: Any) -> Any:
    found: list[Any] = []
    while x.sum() < 10:
        x = x + 1
        found.append(x)
    return x


def dtypes_differ(x: Any) -> Any:
    y = x
    if x.sum() > 0:
        y = x.astype("float64")
    return y


def grows(x: Any) -> Any:
    while x.sum() < 10:
        x = rb.concat([x, x])
    return x


def one_way_only(x: Any) -> Any:
    if x.sum() > 0:
        y = x + 1
    return y * 2


def none_or_tensor(x: Any) -> Any:
    if x.sum() > 0:
        return x


def in_place_outside(x: Any) -> Any:
    other = {"y": x + 1}
    if x.sum() > 0:
        y = other["y"]
        y += 1
    return other["y"]


def a_generator_inside(x: Any) -> Any:
    def parts() -> Any:
        if x.sum() > 0:
            yield x
        yield -x

    return sum(parts())


def never_changes(x: Any) -> Any:
    while x.sum() > 0:
        pass
    return x


@pytest.mark.parametrize(
    ("program", "message"),
    [
        (
            Remembers(),
            r"assigning the attribute 'last' \(line \d+\).*rb.cond[\s\S]*if x.sum\(\) > 0",
        ),
        (raises, r"`raise` \(line \d+\)"),
        (collects, r"a call for its effect \(line \d+\).*rb.while_loop"),
        (dtypes_differ, r"'y' is float64\(3,\) where the condition holds, float32\(3,\) where"),
        (grows, r"'x' is float32\(3,\) before the loop, float32\(6,\) after one run"),
        (one_way_only, r"'y' may have no value here: it is assigned in one branch"),
        (none_or_tensor, r"the result is float32\(3,\) where the condition holds, None where"),
        (in_place_outside, "an update in place, under a condition"),
        (a_generator_inside, "not rewritten: it is a generator"),
        (never_changes, "no variable changes"),
        (lambda x: rb.cond(x.sum() > 0, lambda: x, lambda: (x, x)), "results of different forms"),
    ],
)
def test_what_cannot_be_rewritten_says_where(program: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(rb.ExportError, match=message) as raised:
        rb.export(program, (rb.ones(3),), tmp_path / "p.rbt")
    assert "test_control.py" in str(raised.value)


# ---- the explicit forms --------------------------------------------------------------------------

EXPLICIT = {
    "cond": lambda x: rb.cond(x.sum() > 0, lambda x: (x * 2, x.sum()), lambda x: (-x, x.max()), x),
    "while": lambda x: rb.while_loop(
        lambda s: s["n"] < 5,
        lambda s: {"x": rb.cond(s["x"].sum() > 1, rb.sin, rb.exp, s["x"]), "n": s["n"] + 1},
        {"x": x, "n": 0},
    ),
    "switch": lambda x: rb.switch(
        x[0].astype("int64"), [rb.sin, rb.exp, lambda x: x * x[0], rb.abs, rb.cos], x
    ),
    "scan": lambda x: rb.scan(lambda c, v: (c + v * x, c.max()), x * 0, x),
    "scan-reverse": lambda x: rb.scan(
        lambda c, v: (c * v["a"], {"c": c}), x[0], {"a": x}, reverse=True
    ),
    "scan-length": lambda x: rb.scan(lambda c, _: (c * 0.5, c[0]), x, length=4),
}


@pytest.mark.parametrize("form", EXPLICIT)
def test_explicit_forms(form: str, tmp_path: Path) -> None:
    compare(EXPLICIT[form], tmp_path / "p.rbt", inputs(12, 5))


def test_sizes_that_vary(tmp_path: Path) -> None:
    def f(x: Any) -> Any:
        total = x.sum(0)
        while total.max() < 10:
            if total[0] > 1:
                x = x * 2
            total = total + x.sum(0) / x.shape[0] + 1
        return total, rb.scan(lambda c, r: (c + r, c.sum()), total * 0, x)[1]

    path = rb.export(f, (rb.ones((3, 2)),), tmp_path / "p.rbt", dynamic={"x": {0: "n"}})
    loaded = rb.load_program(path)
    for n in (3, 1, 2, 9):
        for scale in (0.1, 2.0):
            x = rb.asarray((np.random.default_rng(n).random((n, 2)) * scale).astype(np.float32))
            assert bits(f(x)) == bits(loaded(x)), n


def test_tensors_from_outside_become_operands(tmp_path: Path) -> None:
    layer = nn.Linear(3, 3)

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = layer

        def forward(self, x: Any) -> Any:
            while x.sum() > -5 and x.sum() < 5:
                x = self.layer(x) + x
            return x

    path = rb.export(Model(), (rb.ones(3),), tmp_path / "p.rbt")
    loaded = rb.load_program(path)
    assert {w.name for w in loaded.file.program.weights} == {"layer.weight", "layer.bias"}
    assert "forward" not in vars(layer)


def test_the_reference_engine_agrees(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = rb.export(EXPLICIT["while"], (rb.ones(3),), tmp_path / "p.rbt")
    compiled = rb.load_program(path)(rb.ones(3))
    monkeypatch.setattr("rabbet.base.config.config.engine", "reference")
    interpreted = rb.load_program(path)(rb.ones(3))
    assert np.allclose(compiled["x"].numpy(), interpreted["x"].numpy(), rtol=1e-6)


def test_a_host_op_inside_runs_in_python_and_not_in_native_code(tmp_path: Path) -> None:
    eye = rb.eye(3)

    def f(x: Any) -> Any:
        y = rb.cond(x.sum() > 0, lambda x: rb.linalg.solve(eye + x, x), lambda x: -x, x * 2)
        return rb.while_loop(lambda y: y.max() > 1, lambda y: y / 2, y), y

    compare(f, tmp_path / "p.rbt", inputs(6, 8))
    with pytest.raises(rb.CompileError, match="cond holds what runs on the host"):
        rb.build(tmp_path / "p.rbt", output=tmp_path)


def test_a_program_with_control_flow_is_one_plan(tmp_path: Path) -> None:
    loaded = rb.load_program(rb.export(EXPLICIT["while"], (rb.ones(3),), tmp_path / "p.rbt"))
    loaded(rb.ones(3))
    program = loaded.version(()).program
    assert isinstance(program, CompiledProgram)
    assert [names[0] for names in program.ops].count("while_loop") == 1
    assert any("cond" in names for names in program.ops)


def test_an_index_out_of_range_inside_a_loop(tmp_path: Path) -> None:
    def f(x: Any) -> Any:
        i = rb.tensor(0)
        while i < 5:
            x = x + x[i]
            i = i + 2
        return x

    loaded = rb.load_program(rb.export(f, (rb.ones(7),), tmp_path / "p.rbt"))
    assert bits(loaded(rb.ones(7))) == bits(f(rb.ones(7)))
    short = rb.load_program(rb.export(f, (rb.ones(3),), tmp_path / "q.rbt"))
    with pytest.raises(IndexError, match="index 4"):
        short(rb.ones(3))

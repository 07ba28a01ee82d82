"""Everything about an op lives in one place: a new file in rabbet/ops is all that an op needs."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

from rabbet import ops  # noqa: F401  (declares the ops)
from rabbet.codegen import _loader
from rabbet.graph.op import make_op
from rabbet.graph.value import registry
from rabbet.recorder import _recorder
from rabbet.runtime import _runtime

ROOT = Path(__file__).resolve().parent.parent

SCRATCH = '''
"""A family of one op, written for a test."""

from __future__ import annotations

import numpy as np

from rabbet.graph.op import op
from rabbet.graph.value import Value
from rabbet.ops.arithmetic import abs_, square
from rabbet.ops.rules import unary_samples


@op(
    "composite",
    promote="float",
    reference=lambda x, steepness: x * x / (1 + steepness * np.abs(x)),
    samples=unary_samples(avoid=(0.0,)),
)
def scratch_curve(x: Value, steepness: float = 1.0) -> Value:
    """x * x / (1 + steepness * |x|).

    >>> rb.scratch_curve(rb.asarray([1.0])).shape
    (1,)
    """
    return square(x) / (abs_(x) * steepness + 1.0)
'''

# An editable installation finds the package by a finder of its own, before any path.
WITHOUT_EDITABLE = """
import sys
sys.meta_path[:] = [f for f in sys.meta_path if type(f).__name__ != "ScikitBuildRedirectingFinder"]
"""

USE = """
import numpy as np
import rabbet as rb
from rabbet import nn

assert rb.__file__.startswith(HERE), rb.__file__
x = np.linspace(-2, 2, 9)
wanted = x * x / (1 + 2 * np.abs(x))
t = rb.tensor(x, requires_grad=True)
for found in (rb.scratch_curve(t, 2.0), t.scratch_curve(steepness=2.0)):
    assert np.allclose(found.numpy(), wanted)
assert "steepness * |x|" in rb.scratch_curve.__doc__
rb.scratch_curve(t, 2.0).sum().backward()
slope = (2 * x + 2 * x * np.abs(x)) / (1 + 2 * np.abs(x)) ** 2
assert np.allclose(t.grad.numpy(), slope)
jitted = rb.jit(lambda v: rb.scratch_curve(v))
for _ in range(3):
    assert np.allclose(jitted(rb.asarray(x)).numpy(), x * x / (1 + np.abs(x)))


class Curve(nn.Module):
    def forward(self, x):
        return rb.scratch_curve(x, 2.0)


rb.export(Curve(), (rb.asarray(x),), "curve.rbt", dynamic={"x": {0: "n"}})
program = rb.load_program("curve.rbt")
assert "scratch_curve" in open("curve.rbt", "rb").read().decode("latin-1")
assert np.allclose(program(rb.asarray(x)).numpy(), wanted)
assert np.allclose(program(rb.asarray(x[:4])).numpy(), wanted[:4])
print("everything")
"""


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project as links, with one more file in rabbet/ops."""
    here = tmp_path_factory.mktemp("tree")
    for name in ("tests", "pyproject.toml"):
        (here / name).symlink_to(ROOT / name)
    for folder in ("rabbet", "rabbet/ops", "rabbet/runtime", "rabbet/recorder", "rabbet/codegen"):
        (here / folder).mkdir()
        for entry in (ROOT / folder).iterdir():
            if entry.name not in ("ops", "runtime", "recorder", "codegen", "__pycache__"):
                (here / folder / entry.name).symlink_to(entry)
    for native in (_runtime, _recorder, _loader):  # an editable installation keeps them elsewhere
        place = here / Path(*native.__name__.split(".")[:-1]) / Path(str(native.__file__)).name
        if not place.exists():
            place.symlink_to(str(native.__file__))
    (here / "rabbet" / "ops" / "scratch.py").write_text(SCRATCH)
    (here / "sitecustomize.py").write_text(WITHOUT_EDITABLE)
    return here


def run(here: Path, *arguments: str) -> str:
    """What a Python in the tree prints."""
    done = subprocess.run(
        [sys.executable, *arguments],
        capture_output=True,
        text=True,
        cwd=here,
        env={**os.environ, "PYTHONPATH": str(here)},
        timeout=200,
    )
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
    return done.stdout


def test_function_method_docs_gradient_and_export(tree: Path) -> None:
    """From one declaration: rb.name, Tensor.name, its text, its gradient, jit, a program file."""
    assert run(tree, "-c", USE.replace("HERE", repr(str(tree)))).strip() == "everything"


def test_the_matrix_has_the_op(tree: Path) -> None:
    """Reference, decomposition, gradients, symbols: all generated."""
    file = str(tree / "tests" / "ops" / "test_matrix.py")
    printed = run(
        tree, "-m", "pytest", "-q", "-rA", file, "-k", "scratch_curve", "-p", "no:cacheprovider"
    )
    passed = [line for line in printed.splitlines() if line.startswith("PASSED")]
    kinds = {line.split("::")[1].split("[")[0] for line in passed}
    assert {"test_reference_and_rule_agree", "test_engine_agrees", "test_gradient"} <= kinds
    assert "test_sizes_may_be_symbols" in kinds


COMPILER = ("graph", "transform", "kernel", "targets", "runtime", "recorder")
WORDS = {"positive"}  # words of its own that an op shares


@pytest.mark.parametrize("folder", COMPILER)
def test_the_compiler_knows_no_ops(folder: str) -> None:
    """No name of a composite or elementwise op is a string in the compiler."""
    names = {o.name for o in registry.values() if o.kind in ("composite", "elementwise")}
    names = {n for n in names if len(n) > 6} - WORDS
    found = []
    for file in sorted((ROOT / "rabbet" / folder).rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "lookup":
                node.args = []  # a use of the op, as any user's
            if isinstance(node, ast.Constant) and node.value in names:
                found.append(f"{file.relative_to(ROOT)}:{node.lineno}: {node.value}")
    assert not found


def test_each_op_is_declared_in_one_file_of_ops() -> None:
    """And there are as many names as ops."""
    for op in registry.values():
        if op.kind != "input":
            assert op.module.startswith("rabbet.ops."), op.name
            assert op.reference is not None, op.name
            # The operands of a control op are drawn by tests/unit/export/test_control.py.
            assert op.samples is not None or op.kind == "control", op.name


def test_an_op_has_no_fields_beside_those_of_the_record() -> None:
    with pytest.raises(TypeError, match="promot"):
        make_op(lambda x: x, kind="composite", reference=None, promot="float")


@pytest.mark.parametrize("tool", ["make_stubs.py", "make_ops_table.py"])
def test_what_is_generated_is_fresh(tool: str) -> None:
    """`make generated` was run after the last change to an op's declaration."""
    command = [sys.executable, str(ROOT / "tools" / tool), "--check"]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=env)
    assert done.returncode == 0, done.stderr

"""Random programs through function transforms: laws that hold between them, whatever the program.

A program is a function of its floating leaves. Each law computes one thing in two ways, once by a
transform or several in one another and once plainly; `LAWS` names them.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import Any

import numpy as np

import rabbet as rb
from rabbet.tensor import Tensor
from tests.equivalence import ways
from tests.equivalence.check import fails_alike
from tests.equivalence.families import EVERY, branch, random
from tests.equivalence.generator import generate
from tests.equivalence.programs import (
    Program,
    Registers,
    array_of,
    last_uses,
    perturbed,
    shrunk,
    specs_of,
)

# Under vmap a truth is many; random numbers differ between examples.
FAMILIES = {f"{f.__name__}{n}": f for n, f in enumerate(EVERY) if f not in (branch, random)}
BRANCHING = {f"{f.__name__}{n}": f for n, f in enumerate(EVERY) if f is not random}
EXAMPLES = 3
Arrays = list[np.ndarray]


@dataclass(frozen=True)
class Function:
    """A program as a function of its floating leaves; the other leaves are constants."""

    program: Program
    constants: tuple[Any, ...]  # a tensor for each leaf that is none of the arguments

    @staticmethod
    def of(program: Program) -> Function:
        leaves = program.leaves
        constants = tuple(None if x.is_float else rb.asarray(array_of(x)) for x in leaves)
        return Function(program, constants)

    def registers(self, *arguments: Tensor) -> list[Any]:
        """All registers; those that nobody needs any more are dropped on the way."""
        given = iter(arguments)
        run = Registers([next(given) if c is None else c for c in self.constants])
        dying = last_uses(self.program)
        for number, step in enumerate(self.program.steps):
            run.run(step)
            for dead in dying.get(number, ()):
                run.values[dead] = None
        return run.values

    def outputs(self, *arguments: Tensor) -> list[Tensor]:
        found = self.registers(*arguments)
        return [found[n] for n in self.program.outputs]

    def loss(self, *arguments: Tensor) -> Tensor:
        """A weighted sum of what the program differentiates, float64."""
        found = self.registers(*arguments)
        total = rb.zeros((), dtype=rb.float64)
        for number, register in enumerate(self.program.differentiated):
            part = (found[register] * (number + 1.5)).sum()
            total = total + part.astype(rb.float64)
        return total


def arguments(program: Program, noise: int = 0) -> Arrays:
    """The floating leaves' elements, moved by some ulps if `noise` is not 0."""
    floats = [x for x in program.leaves if x.is_float]
    return [perturbed(x, noise) if noise else array_of(x) for x in floats]


def examples(program: Program, noise: int = 0) -> list[Arrays]:
    """Several sets of arguments: the program's own, and others of the same shapes."""
    found = []
    for n in range(EXAMPLES):
        leaves = tuple(replace(x, seed=x.seed + 1000 * n) for x in program.leaves)
        found.append(arguments(replace(program, leaves=leaves), noise))
    return found


def directions(xs: Arrays) -> Arrays:
    """A direction for each argument, the same for the same shapes."""
    random_ = np.random.default_rng(7)
    return [random_.uniform(-1, 1, x.shape).astype(x.dtype) for x in xs]


def tensors(xs: Arrays) -> list[Tensor]:
    return [rb.asarray(x) for x in xs]


def numbers(ts: Sequence[Any]) -> Arrays:
    return [np.array(t.numpy()) for t in ts]


def everywhere(xs: Arrays) -> tuple[int, ...]:
    return tuple(range(len(xs)))


# ---- the plain ways ------------------------------------------------------------------------------


def gradients(program: Program, xs: Arrays) -> Arrays:
    """By backward(); zeros where there is no path."""
    leaves = [rb.tensor(x, requires_grad=True) for x in xs]
    loss = Function.of(program).loss(*leaves)
    if loss.requires_grad:
        loss.backward()
    return numbers([rb.zeros_like(x) if x.grad is None else x.grad for x in leaves])


def one_by_one(program: Program, xs: list[Arrays]) -> Arrays:
    """Outputs of each example, stacked."""
    each = [numbers(Function.of(program).outputs(*tensors(x))) for x in xs]
    return [np.stack(o) for o in zip(*each, strict=True)]


def gradients_one_by_one(program: Program, xs: list[Arrays]) -> Arrays:
    return [np.stack(g) for g in zip(*(gradients(program, x) for x in xs), strict=True)]


def slope(program: Program, xs: Arrays) -> Arrays:
    """The loss and its derivative along the directions, by backward()."""
    value = Function.of(program).loss(*tensors(xs)).numpy()
    pairs = list(zip(gradients(program, xs), directions(xs), strict=True))
    size = _terms(program, xs)
    along = sum(float(np.sum(g.astype(np.float64) * d)) for g, d in pairs)
    along = along if np.isfinite(value) else np.nan  # no slope where there is no value
    return [np.asarray(value), np.asarray(along / size)]


def second_order(program: Program, xs: Arrays) -> Arrays:
    """Reverse over reverse: the gradient of gradient . direction."""
    function, ds = Function.of(program), tensors(directions(xs))

    def along(*args: Tensor) -> Tensor:
        found = rb.grad(function.loss, everywhere(xs))(*args)
        total = rb.zeros((), dtype=rb.float64)
        for g, d in zip(found, ds, strict=True):
            total = total + (g * d).sum().astype(rb.float64)
        return total

    return numbers(rb.grad(along, everywhere(xs))(*tensors(xs)))


# ---- the same by transforms ----------------------------------------------------------------------


def stacked(xs: list[Arrays]) -> list[Tensor]:
    return [rb.asarray(np.stack(x)) for x in zip(*xs, strict=True)]


def grad(program: Program, xs: Arrays) -> Arrays:
    return numbers(rb.grad(Function.of(program).loss, everywhere(xs))(*tensors(xs)))


def jit_of_grad(program: Program, xs: Arrays) -> Arrays:
    found = rb.jit(rb.grad(Function.of(program).loss, everywhere(xs)))
    found(*tensors(xs))
    return numbers(found(*tensors(xs)))


def grad_of_jit(program: Program, xs: Arrays) -> Arrays:
    inner = rb.jit(Function.of(program).loss)
    return numbers(rb.grad(inner, everywhere(xs))(*tensors(xs)))


def vmapped(program: Program, xs: list[Arrays]) -> Arrays:
    return numbers(rb.vmap(Function.of(program).outputs)(*stacked(xs)))


def jit_of_vmap(program: Program, xs: list[Arrays]) -> Arrays:
    found = rb.jit(rb.vmap(Function.of(program).outputs))
    found(*stacked(xs))
    return numbers(found(*stacked(xs)))


def over_other_axes(program: Program, xs: list[Arrays]) -> Arrays:
    """Examples along another axis of each argument, and along the last of each result."""
    axes = tuple((n + 1) % (x.ndim + 1) for n, x in enumerate(xs[0]))
    given = [rb.moveaxis(x, 0, a) for x, a in zip(stacked(xs), axes, strict=True)]
    found = rb.vmap(Function.of(program).outputs, in_axes=axes, out_axes=-1)(*given)
    return numbers([rb.moveaxis(y, -1, 0) for y in found])


def sharing(xs: list[Arrays]) -> list[Arrays]:
    """The examples with every other argument that of the first one."""
    return [[xs[0][n] if n % 2 else x for n, x in enumerate(example)] for example in xs]


def shared_one_by_one(program: Program, xs: list[Arrays]) -> Arrays:
    return one_by_one(program, sharing(xs))


def sharing_arguments(program: Program, xs: list[Arrays]) -> Arrays:
    axes = tuple(None if n % 2 else 0 for n in everywhere(xs[0]))
    pairs = zip(stacked(xs), tensors(xs[0]), axes, strict=True)
    given = [one if a is None else many for many, one, a in pairs]
    return numbers(rb.vmap(Function.of(program).outputs, in_axes=axes)(*given))


def twice_vmapped(program: Program, xs: list[Arrays]) -> Arrays:
    """Each example twice: along two axes."""
    given = [rb.stack([x, x], axis=1) for x in stacked(xs)]
    found = rb.vmap(rb.vmap(Function.of(program).outputs))(*given)
    return numbers([y[:, 1] for y in found])


def vmap_of_jit(program: Program, xs: list[Arrays]) -> Arrays:
    return numbers(rb.vmap(rb.jit(Function.of(program).outputs))(*stacked(xs)))


def jit_of_vmap_of_grad(program: Program, xs: list[Arrays]) -> Arrays:
    found = rb.jit(rb.vmap(rb.grad(Function.of(program).loss, everywhere(xs[0]))))
    found(*stacked(xs))
    return numbers(found(*stacked(xs)))


def vmap_of_grad(program: Program, xs: list[Arrays]) -> Arrays:
    each = rb.vmap(rb.grad(Function.of(program).loss, everywhere(xs[0])))
    return numbers(each(*stacked(xs)))


def grad_of_vmap(program: Program, xs: list[Arrays]) -> Arrays:
    def total(*args: Tensor) -> Tensor:
        return rb.vmap(Function.of(program).loss)(*args).sum()

    return numbers(rb.grad(total, everywhere(xs[0]))(*stacked(xs)))


def forward(program: Program, xs: Arrays) -> Arrays:
    given = tuple(tensors(xs)), tuple(tensors(directions(xs)))
    value, along = numbers(rb.jvp(Function.of(program).loss, *given))
    return [value, np.asarray(along / _terms(program, xs))]


def _terms(program: Program, xs: Arrays) -> float:
    """How large the terms of a slope are, which may cancel."""
    pairs = zip(gradients(program, xs), directions(xs), strict=True)
    return 1.0 + sum(float(np.sum(np.abs(g.astype(np.float64) * d))) for g, d in pairs)


def forward_over_reverse(program: Program, xs: Arrays) -> Arrays:
    given = tuple(tensors(xs)), tuple(tensors(directions(xs)))
    return numbers(rb.jvp(rb.grad(Function.of(program).loss, everywhere(xs)), *given)[1])


@dataclass(frozen=True)
class Law:
    """Two ways to the same numbers; `many`: of several examples; `bits`: the very same."""

    plain: Callable[..., Arrays]
    transformed: Callable[..., Arrays]
    many: bool = False
    bits: bool = False
    derivative: bool = False  # zero times infinity is NaN only where it is computed


LAWS = {
    "grad": Law(gradients, grad, bits=True),
    "jit of grad": Law(gradients, jit_of_grad, bits=True),
    "grad of jit": Law(gradients, grad_of_jit, bits=True),
    "vmap": Law(one_by_one, vmapped, many=True),
    "jit of vmap": Law(one_by_one, jit_of_vmap, many=True),
    "vmap of jit": Law(one_by_one, vmap_of_jit, many=True),
    "vmap over other axes": Law(one_by_one, over_other_axes, many=True),
    "vmap sharing arguments": Law(shared_one_by_one, sharing_arguments, many=True),
    "vmap of vmap": Law(one_by_one, twice_vmapped, many=True),
    "vmap of grad": Law(gradients_one_by_one, vmap_of_grad, many=True, derivative=True),
    "jit of vmap of grad": Law(
        gradients_one_by_one, jit_of_vmap_of_grad, many=True, derivative=True
    ),
    "grad of vmap": Law(gradients_one_by_one, grad_of_vmap, many=True, derivative=True),
    "jvp": Law(slope, forward, derivative=True),
    "forward over reverse": Law(second_order, forward_over_reverse, derivative=True),
}
WITH_BRANCHES = ("grad", "jit of grad", "grad of jit", "jvp")


def generated(seed: int, *, branching: bool = False, length: int = 4) -> Program:
    """The program of a seed, with something to differentiate where it has floats."""
    families = BRANCHING if branching else FAMILIES
    program = generate(Random(seed), families, length=length)
    if program.differentiated:
        return program
    floats = [n for n in program.outputs if specs_of(program)[n].dtype.kind == "f"]
    return replace(program, differentiated=tuple(floats[-2:]))


def check(program: Program, names: Sequence[str] = tuple(LAWS)) -> None:
    """Raise ways.Difference where a law does not hold, or what the framework raised."""
    if not any(x.is_float for x in program.leaves):
        return
    with np.errstate(all="ignore"), warnings.catch_warnings():  # NaN and infinities belong here
        warnings.filterwarnings("ignore", message="an in-place update of an indexing result")
        for name in names:
            _check(program, name, LAWS[name])


def _check(program: Program, name: str, law: Law) -> None:
    given = examples if law.many else arguments
    wanted = law.plain(program, given(program))
    found = law.transformed(program, given(program))
    if law.derivative:
        with np.errstate(all="ignore"):
            pairs = zip(wanted, found, strict=True)
            found = [np.where(np.isfinite(w), f, w).astype(f.dtype) for w, f in pairs]
    result = ways.Result(wanted, [])
    if law.bits:
        ways.same_bits(result, ways.Result(found, []), name)
        return
    if not ways.far(result, ways.Result(found, []), None):
        return
    # Far apart: more than the plain way moves with its arguments?
    noisy = [ways.Result(law.plain(program, given(program, n)), []) for n in range(1, 6)]
    problem = ways.far(result, ways.Result(found, []), noisy)
    if problem:
        raise ways.Difference(f"{name}: {problem}")


def explain(
    program: Program, names: Sequence[str], failure: BaseException, rounds: int = 60
) -> str:
    """What failed, on the smallest program found that fails in the same manner."""
    small = shrunk(program, fails_alike(failure, lambda p: check(p, names)), rounds)
    return f"{type(failure).__name__}: {failure}\n{small.show()}"

"""Kernels as text, and contractions by the interpreter."""

import numpy as np

from rabbet.base.dtypes import float32, float64, int32, int64
from rabbet.expr.expr import acc, cast, const, load, size, var
from rabbet.expr.scalars import exp, maximum
from rabbet.kernel.loops import (
    ContractKernel,
    Operand,
    Reduction,
    RowKernel,
    ScatterKernel,
    Store,
    Sweep,
)
from rabbet.kernel.show import kernel_name, show

SOFTMAX = """\
rows along
  in0: float32 in
  in1: float32 out
  for v0 < s0:  # outer
    sweep
      for v1 < s1:  # inner
        t0 := ((v0 * s1) + v1)
        t1 := in0[t0]
        a0 = max(t1)
    sweep
      for v1 < s1:  # inner
        t2 := exp((t1 - a0))
        a1 = sum(t2)
    sweep
      for v1 < s1:  # inner
        in1[t0] = (t2 / a1)
"""

PRODUCT = """\
contract
  in0: float32 in
  in1: float32 in
  in2: float32 out
  for v0 < s0:  # m
    for v1 < s1:  # n
      for v2 < s2:  # k
        a0 = contract(in0[((v0 * s2) + v2)], in1[((v2 * s1) + v1) if (v2 < 200:int64) else 0.0])
  finish
  in2[((v0 * s1) + v1)] = max(a0, 0.5:float32)
"""

SCATTER = """\
scatter into in1
  in0: float64 in
  in1: float64 out
  in2: int32 in
  for v0 < s0:  # updates
    t0 := int64(in2[v0])
    check t0 in s1
    in1[t0] add= in0[v0]
"""


def softmax() -> RowKernel:
    place = var(0) * size(1) + var(1)
    x = load(0, float32, place)
    shifted = exp(x - acc(0, float32))
    return RowKernel(
        (Operand(float32, "in"), Operand(float32, "out")),
        (size(0),),
        (size(1),),
        (
            Sweep((Reduction("max", x),)),
            Sweep((Reduction("sum", shifted),)),
            Sweep(stores=(Store(1, place, shifted / acc(1, float32)),)),
        ),
    )


def product() -> ContractKernel:
    m, n, k = var(0), var(1), var(2)
    return ContractKernel(
        (Operand(float32, "in"), Operand(float32, "in"), Operand(float32, "out")),
        (),
        (size(0),),
        (size(1),),
        (size(2),),
        load(0, float32, m * size(2) + k),
        load(1, float32, k * size(1) + n, k < 200),
        (Store(2, m * size(1) + n, maximum(acc(0, float32), const(0.5, float32))),),
    )


def scatter() -> ScatterKernel:
    place = cast(load(2, int32, var(0)), int64)
    operands = (Operand(float64, "in"), Operand(float64, "out"), Operand(int32, "in"))
    value = load(0, float64, var(0))
    checks = ((place, size(1)),)
    return ScatterKernel(operands, (), (size(0),), (), 1, place, value, "add", checks)


def test_text():
    assert show(softmax()) == SOFTMAX
    assert show(product()) == PRODUCT
    assert show(scatter()) == SCATTER


def test_names_tell_kernels_apart():
    names = {kernel_name(k) for k in (softmax(), product(), scatter(), softmax())}
    assert len(names) == 3
    assert all(name.isidentifier() for name in names)


def test_long_chains_have_short_lines():
    x = load(0, float32, var(0))
    for n in range(3000):
        x = x * float(n)
    operands = (Operand(float32, "in"), Operand(float32, "out"))
    kernel = RowKernel(operands, (), (size(0),), (Sweep(stores=(Store(1, var(0), x),)),))
    assert max(map(len, show(kernel).splitlines())) < 200


def test_contraction(runner, rng):
    for m, n, k in ((5, 7, 300), (1, 40, 256), (3, 2, 0), (17, 33, 513)):
        a = rng.standard_normal(m * k).astype(np.float32)
        b = rng.standard_normal(min(k, 200) * n).astype(np.float32)
        runner.check(product(), [a, b, np.zeros(m * n, np.float32)], [m, n, k], pieces=1)

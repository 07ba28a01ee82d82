"""GFLOP/s of contraction kernels, against the register-only FMA peak of the same run.

    python benchmarks/gemm.py [--threads 2] [--seconds 0.2] [--small]

Every line is one shape: the median of repeated runs in the native runtime, after a warm-up.
Measured are the kernels alone: no tensors, no allocation of results. Shapes interleave with
measurements of the peak, so that a machine that slows down shows.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from rabbet import targets
from rabbet.base.dtypes import float32, int64
from rabbet.base.target import Target
from rabbet.codegen import library, machine
from rabbet.codegen.build import build, launch
from rabbet.codegen.emit import PARAMETERS
from rabbet.codegen.ir import Module, Value, literal
from rabbet.expr.expr import Expr, acc, const, load, size, var
from rabbet.expr.interpret import evaluate
from rabbet.kernel.access import Arguments
from rabbet.kernel.loops import ContractKernel, Operand, Store
from rabbet.kernel.lower import Lowered
from rabbet.runtime import _runtime
from rabbet.runtime.packing import prepared
from rabbet.runtime.plan import INPUT, OUTPUT, Plan, PlanCall

CHAINS = 24  # independent sums of the peak loop: more than latency times units needs
STEPS = 1 << 16  # multiply-adds of each chain in a task of the peak loop


@dataclass(frozen=True)
class Case:
    """One measurement: a kernel, its sizes, and what it computes."""

    name: str
    kernel: ContractKernel
    sizes: tuple[int, ...]
    inputs: tuple[int, int]  # elements
    outputs: int
    flops: int


# ---------------------------------------------------------------------- kernels


def product(a_turned: bool, b_turned: bool) -> ContractKernel:
    """out[b, m, n] = a[b, m, k] b[b, k, n]; turned: stored with swapped axes."""
    _, m, n, k = (size(i) for i in range(4))
    i, r, c, s = (var(j) for j in range(4))
    a = i * m * k + (s * m + r if a_turned else r * k + s)
    b = i * n * k + (c * k + s if b_turned else s * n + c)
    operands = tuple(Operand(float32, mode) for mode in ("in", "in", "out"))
    store = Store(2, i * m * n + r * n + c, acc(0, float32))
    left, right = load(0, float32, a), load(1, float32, b)
    return ContractKernel(operands, (size(0),), (m,), (n,), (k,), left, right, (store,))


def matrices(m: int, n: int, k: int, turned: str, count: int = 1) -> Case:
    """A (batched) matrix product as programs make it; `turned`: N or T for each operand, as in
    BLAS.
    """
    name = f"{f'{count} x ' if count > 1 else ''}{m} x {n} x {k} {turned}"
    inputs = (count * m * k, count * n * k)
    kernel, sizes = product(turned[0] == "T", turned[1] == "T"), (count, m, n, k)
    lowered = Lowered(kernel, [], list(sizes), Arguments(), [], [])
    kernel = prepared(lowered, targets.host()).kernel
    return Case(name, kernel, sizes, inputs, count * m * n, 2 * count * m * n * k)


def convolution(images: int, c: int, o: int, side: int, kernel: int, stride: int) -> Case:
    """A square convolution with padding kernel // 2, as an implicit matrix product."""
    pad = kernel // 2
    out = (side + 2 * pad - kernel) // stride + 1
    _, filters, rows, columns, channels, kh, kw, height, width, border = (
        size(j) for j in range(10)
    )
    i, f, r, q, ch, y, x = (var(j) for j in range(7))
    row, column, zero = r * stride + y - border, q * stride + x - border, const(0, int64)
    valid = (zero <= row) & (row < height) & (zero <= column) & (column < width)
    image = load(1, float32, ((i * channels + ch) * height + row) * width + column, valid)
    weight = load(0, float32, ((f * channels + ch) * kh + y) * kw + x)
    operands = tuple(Operand(float32, mode) for mode in ("in", "in", "out"))
    store = Store(2, ((i * filters + f) * rows + r) * columns + q, acc(0, float32))
    extents = ((size(0),), (filters,), (rows, columns), (channels, kh, kw))
    return Case(
        f"conv {c}->{o} {kernel}x{kernel} stride {stride}, {images} x {side}x{side}",
        ContractKernel(operands, *extents, weight, image, (store,)),
        (images, o, out, out, c, kernel, kernel, side, side, pad),
        (o * c * kernel**2, images * c * side**2),
        images * o * out**2,
        2 * images * o * out**2 * c * kernel**2,
    )


def peak_text(target: Target) -> str:
    """A kernel that does nothing but multiply-adds in registers."""
    module = Module(target)
    fn = module.function("peak", PARAMETERS)
    lanes = target.lanes(32)
    kind = f"<{lanes} x float>"
    sums = [fn.variable(kind, literal(0.001 * (i + 1), kind)) for i in range(CHAINS)]
    factor = literal(0.999999, kind)
    with fn.loop(fn.parameters["begin"], fn.parameters["end"]):
        with fn.loop(Value("0", "i64"), Value(str(STEPS), "i64")):
            for total in sums:
                if target.has_fma:
                    name = f"fma.v{lanes}f32"
                    total.set(fn.intrinsic(name, kind, total.get(), factor, factor))
                else:
                    total.set(fn.binary("fadd", fn.binary("fmul", total.get(), factor), factor))
    everything = sums[0].get()
    for total in sums[1:]:
        everything = fn.binary("fadd", everything, total.get())
    fn.store(everything, fn.parameters["scratch"])
    return module.text()


# ---------------------------------------------------------------------- running

_libraries: dict[tuple[str, Target], library.Library] = {}


def number(e: Expr, sizes: Sequence[int]) -> int:
    """The value of an expression over size(n)."""
    return int(evaluate((e,), lambda leaf: np.int64(sizes[leaf.value]))[0])  # type: ignore[call-overload]


def bound(
    address: int, sizes: Sequence[int], bytes_of: Sequence[int], counts: tuple[int, int, int]
) -> _runtime.Bound:
    """One launch as a program of the runtime; counts: tasks, cost, scratch bytes."""
    plan = Plan(None, kernels=1)
    kinds = [(INPUT, n) for n in range(len(bytes_of) - 1)] + [(OUTPUT, 0)]
    buffers = [
        plan.buffer(kind, n, nbytes) for (kind, n), nbytes in zip(kinds, bytes_of, strict=True)
    ]
    tasks, cost, scratch = (plan.expr(n) for n in counts)
    arguments = [plan.expr(n) for n in sizes]
    plan.calls.append(PlanCall(0, tasks, cost, scratch, False, buffers, arguments))
    return _runtime.Program(plan.words(), [address], [], None).bind(())


def runner(case: Case, target: Target) -> tuple[Callable[[], None], float]:
    """A function that runs the case once, and the milliseconds its kernel took to compile (0: it
    was known).
    """
    begin = time.perf_counter()
    code = build(case.kernel, target)
    known, compiled = (code.name, target), 0.0
    if known not in _libraries:
        _libraries[known] = library.Library({code.name: machine.object_code(code.text, target)})
        compiled = time.perf_counter() - begin
    loaded = _libraries[known]
    needs = launch(case.kernel, target)
    counts = tuple(number(e, case.sizes) for e in (needs.tasks, needs.cost, needs.scratch_bytes))
    draw = np.random.default_rng(0)
    inputs = [filled(draw.standard_normal(n, np.float32)) for n in case.inputs]
    sizes_of = [4 * n for n in (*case.inputs, case.outputs)]
    program = bound(loaded.addresses[code.name], case.sizes, sizes_of, counts)  # type: ignore[arg-type]
    output = _runtime.Buffer(sizes_of[-1])

    def run() -> None:
        assert loaded.addresses  # keeps the code mapped
        program.run(inputs, [output])

    return run, compiled * 1e3


def filled(values: np.ndarray) -> _runtime.Buffer:
    """A buffer of the runtime that holds the values."""
    buffer = _runtime.Buffer(values.nbytes)
    buffer.fill_from(values)
    return buffer


def median(run: Callable[[], None], seconds: float) -> float:
    """Median seconds of a run, over at least five runs and `seconds`."""
    run()
    times: list[float] = []
    end = time.perf_counter() + seconds
    while len(times) < 5 or time.perf_counter() < end:
        begin = time.perf_counter()
        run()
        times.append(time.perf_counter() - begin)
    return statistics.median(times)


def peak_runner(target: Target, threads: int) -> tuple[Callable[[], None], int]:
    """A function that runs the peak loop on all threads, and its FLOPs."""
    loaded = library.Library({"peak": machine.object_code(peak_text(target), target)})
    tasks = 8 * threads
    flops = 2 * tasks * STEPS * CHAINS * target.lanes(32)
    program = bound(loaded.addresses["peak"], (), (64,), (tasks, flops, 64))
    output = _runtime.Buffer(64)

    def run() -> None:
        assert loaded.addresses
        program.run([], [output])

    return run, flops


def cases(small: bool) -> list[Case]:
    """What is measured."""
    variants = ("NN", "NT", "TN", "TT")
    shapes = [(256,) * 3, (1024,) * 3]
    if not small:
        shapes += [(2048,) * 3, (2047, 1999, 2011)]
    found = [matrices(*shape, turned) for shape in shapes for turned in variants]
    found += [matrices(128, 128, 32, "NT", 128), matrices(512, 256, 784, "NT")]
    found += [matrices(1, 4096, 4096, "NT"), matrices(1, 4096, 4096, "NN")]
    found += [convolution(8, 64, 64, 56, 3, 1), convolution(8, 512, 512, 7, 3, 1)]
    if not small:
        found += [convolution(8, 3, 64, 224, 7, 2), convolution(8, 256, 64, 56, 1, 1)]
    return found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="GFLOP/s of contraction kernels")
    parser.add_argument("--threads", type=int, default=_runtime.num_threads())
    parser.add_argument("--seconds", type=float, default=0.2, help="least time for each shape")
    parser.add_argument("--small", action="store_true", help="leave out the large shapes")
    options = parser.parse_args()
    _runtime.set_num_threads(options.threads)
    target = targets.host()
    peak, peak_flops = peak_runner(target, options.threads)
    print(
        f"{target.name}, {options.threads} threads; peak: multiply-adds in registers, same moment"
    )
    print(f"{'shape':48}{'GFLOP/s':>9}{'peak':>7}{'share':>7}{'compile ms':>12}")
    for case in cases(options.small):
        run, compiled = runner(case, target)
        seconds = median(run, options.seconds)
        best = peak_flops / median(peak, options.seconds / 8) / 1e9
        rate = case.flops / seconds / 1e9
        print(f"{case.name:48}{rate:9.1f}{best:7.0f}{rate / best:7.0%}{compiled:12.0f}", flush=True)


if __name__ == "__main__":
    main()

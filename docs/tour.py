"""One expression through every stage of the house, printed. Run: python docs/tour.py"""

from __future__ import annotations

import rabbet as rb
from rabbet.codegen.build import build
from rabbet.codegen.machine import assembly
from rabbet.engine.segment import graph_of
from rabbet.kernel.fuse import Fusion
from rabbet.kernel.lower import lower
from rabbet.kernel.show import show
from rabbet.recorder import current
from rabbet.runtime.compile import compile_plan
from rabbet.runtime.program import host_target
from rabbet.transform.decompose import decompose


def title(text: str) -> None:
    print(f"\n== {text} " + "=" * (70 - len(text)))


def main() -> None:
    rb.manual_seed(0)
    a, b, c = rb.randn(64, 32), rb.randn(32, 16), rb.randn(16)
    rb.flush()

    title("1. recorded: nodes on the tape, nothing computed")
    y = rb.gelu(a @ b + c)
    total = y.sum(axis=1)
    tape = current()
    for node in tape.nodes:
        print(f"  {node.op.name:<10} -> {node.specs[0]}")
    segment = tape.take()

    title("2. the segment's graph: composites are single calls")
    outputs = [(len(segment.nodes) - 1, 0)]
    graph = graph_of(segment, list(segment.sizes), outputs)
    for call in graph.calls():
        print(f"  {call.op.name:<10} {[str(v.spec) for v in call.inputs]} -> {call.specs[0]}")

    title("3. decomposed: primitives only")
    primitive, _ = decompose(graph)
    for call in primitive.calls():
        print(f"  {call.op.name:<12} {call.op.kind:<12} -> {call.specs[0]}")

    title("4. fused: which calls share a kernel")
    fusion = Fusion(primitive, set())
    for group in fusion.order():
        print(f"  {group.kind}: {' + '.join(call.op.name for call in group.calls)}")

    title("5. lowered: loops over scalar expressions, sizes as arguments")
    target = host_target()
    kernels = [lower(group, fusion).kernel for group in fusion.order()]
    for kernel in kernels:
        print(show(kernel))

    title(f"6. machine code for {target.name}, where the last kernel begins")
    code = build(kernels[-1], target)
    lines = assembly(code.text, target).splitlines()
    begin = next(i for i, line in enumerate(lines) if line.endswith(":") and line[0] not in ".\t")
    print("\n".join(lines[begin : begin + 20]))

    title("7. the plan: words for the native runtime")
    compiled = compile_plan(graph, target)
    print(f"  {len(compiled.words) // 8} words; one launch for each of these:")
    for ops in compiled.ops:
        print(f"  {' + '.join(ops)}")

    title("8. run: op by op at first sight, fused from the second on")
    for _ in range(2):
        total = rb.gelu(a @ b + c).sum(axis=1)
        rb.flush()
        print(rb.explain())
    print(f"  sum of the first row: {float(total[0]):.5f}")


if __name__ == "__main__":
    main()

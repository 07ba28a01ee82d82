"""One expression through every stage of the house, printed. Run: python docs/tour.py"""

from __future__ import annotations

import rabbet as rb
from rabbet.codegen.build import build
from rabbet.codegen.machine import assembly
from rabbet.kernel.fuse import Fusion
from rabbet.kernel.lower import lower
from rabbet.kernel.show import show
from rabbet.recorder import current
from rabbet.runtime.compile import compile_plan
from rabbet.runtime.program import host_target
from rabbet.tensor.segment import graph_of
from rabbet.transform.decompose import decompose


def title(text: str) -> None:
    print(f"\n== {text} " + "=" * (70 - len(text)))


def main() -> None:
    a, b, c = rb.rand(64, 32), rb.rand(32, 16), rb.rand(16)
    rb.flush()

    title("1. recorded: nodes on the tape, nothing computed")
    y = rb.relu(a @ b + c)
    total = y.sum(axis=1)
    tape = current()
    for node in tape.nodes:
        print(f"  {node.op.name:<10} -> {node.specs[0]}")
    segment = tape.take()

    title("2. the segment's graph: composites are single calls")
    outputs = [(len(segment.nodes) - 1, 0)]
    graph, _ = graph_of(segment, list(segment.sizes), outputs)
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

    title(f"6. machine code for {target.name} (first lines of the last kernel)")
    code = build(kernels[-1], target)
    text = assembly(code.text, target)
    print("\n".join(text.splitlines()[:30]))

    title("7. the plan: words for the native runtime")
    compiled = compile_plan(graph, target)
    print(f"  {len(compiled.words) // 8} words, kernels: {compiled.ops}")

    title("8. run: the same expression, computed")
    y = rb.relu(a @ b + c)
    total = y.sum(axis=1)
    print(f"  sum of the first row: {float(total[0]):.6f}")
    print(rb.explain())


if __name__ == "__main__":
    main()

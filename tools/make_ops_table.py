"""Write docs/ops.md: every public op with what it can do, from its declaration.

`make_ops_table.py --check` fails where the file is not what would be written.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import rabbet as rb
from rabbet.graph import sample
from rabbet.graph.op import Op
from rabbet.graph.value import registry
from rabbet.tensor.lift import functions

TABLE = Path(__file__).resolve().parents[1] / "docs" / "ops.md"
HEAD = """# Ops

Made from the ops' declarations by `make generated`; not edited by hand. *dtypes* are those an op's
generated tests sweep; *gradient* is "rule" where the op has one of its own and "body" where it
follows from its decomposition (forward mode is the transpose of it); *vmap* is "rule", "kind" (the
rule of all ops of its kind) or "body"; *autocast* is "narrow" where `rb.autocast` has it compute in
a half and "wide" where it has it compute in float32; *ONNX* is the operator of the ONNX standard
(version 28) that computes it, at least for some of its arguments; *kind* is the class of kernels it
becomes: composites are taken apart into the other kinds when they are compiled, `host` ops run
NumPy's LAPACK and FFT between programs.

| op | dtypes | gradient | forward | vmap | autocast | ONNX | kind |
|---|---|---|---|---|---|---|---|
"""
SHORT = {
    "float16": "f2",
    "bfloat16": "b2",
    "float32": "f4",
    "float64": "f8",
    "complex64": "c8",
    "complex128": "c16",
    "int8": "i1",
    "int16": "i2",
    "int32": "i4",
    "int64": "i8",
    "uint8": "u1",
    "uint16": "u2",
    "uint32": "u4",
    "uint64": "u8",
    "bool": "?",
}


def dtypes(op: Op) -> str:
    """The dtypes that samples sweep, in short."""
    found = {
        name
        for case in (op.samples() if op.samples else ())
        if any(d.swept for d in sample.draws(case))
        for name in case.dtypes
    }
    return " ".join(short for name, short in SHORT.items() if name in found) or "-"


def row(op: Op) -> str:
    """One line of the table."""
    has_gradient = op.differentiable and (op.grad is not None or op.body is not None)
    gradient = ("rule" if op.grad is not None else "body") if has_gradient else "-"
    own = "rule" if op.batch is not None else "body" if op.body is not None else "kind"
    batched = own if op.operands else "-"
    forward = "yes" if has_gradient else "-"
    does = (dtypes(op), gradient, forward, batched, op.autocast or "-")
    cells = (f"`{op.name}`", *does, op.onnx or "-", op.kind)
    return f"| {' | '.join(cells)} |"


def text() -> str:
    """The whole page."""
    public = [op for op in registry.values() if op.public and op.name in functions]
    hidden = [op for op in registry.values() if not op.public and op.kind not in ("input",)]
    lines = [row(op) for op in sorted(public, key=lambda op: op.name)]
    inside = [row(op) for op in sorted(hidden, key=lambda op: op.name)]
    rest = "\n\nInside (what composites are made of, or functions under other names):\n\n"
    rest += "".join(HEAD.splitlines(keepends=True)[-2:])
    return HEAD + "\n".join(lines) + rest + "\n".join(inside) + "\n"


def main(arguments: list[str]) -> Any:
    """Write the page, or with --check compare it."""
    made = text()
    if "--check" in arguments:
        same = TABLE.exists() and TABLE.read_text() == made
        return None if same else f"{TABLE.name} is stale: run `make generated`"
    TABLE.write_text(made)
    return None


if __name__ == "__main__":
    assert rb.__version__
    sys.exit(main(sys.argv[1:]))

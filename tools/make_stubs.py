"""Write rabbet/tensor/declared.pyi: what type checkers and editors know of ops.

Functions and methods are made from the ops' declarations when Rabbet is imported, so no checker
sees them in the sources. `make_stubs.py --check` fails where the file is not what would be written.
"""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import rabbet as rb
from rabbet.base.dtypes import DType
from rabbet.graph.binding import Parameter
from rabbet.graph.op import Op
from rabbet.graph.value import registry
from rabbet.ops.operators import OPERATORS
from rabbet.tensor import Tensor
from rabbet.tensor.lift import IN_PLACE_OPERATORS, RENAMED, functions

STUB = Path(str(rb.__file__)).parent / "tensor" / "declared.pyi"
HEAD = '''"""What ops declare, for type checkers: made by tools/make_stubs.py, never by hand."""

import builtins
from collections.abc import Sequence
from typing import Any

import numpy as np

from rabbet.base.dtypes import DType
from rabbet.recorder import Handle
from rabbet.tensor.tensor import Tensor

Operand = Tensor | np.ndarray | np.generic | builtins.complex | Sequence[Any]
DTypeLike = DType | str | type | np.dtype
Ints = Sequence[int]
Axes = int | Ints | None
Padding = str | int | Ints
'''
KNOWN = set("Any None bool int float str tuple Sequence Ints Axes Padding Literal".split())
ROLES = {"operand": "Operand", "optional": "Operand | None", "list": "Sequence[Operand]"}


def annotation(p: Parameter) -> str:
    """The type of a parameter as a caller may give it."""
    if p.role != "attribute":
        return ROLES[p.role]
    if p.name == "dtype":
        return "DTypeLike | None" if p.default is None else "DTypeLike"
    note = p.annotation.replace("tuple[int, ...]", "Sequence[int]").replace("Dim", "int")
    return note if note and set(re.findall(r"[A-Za-z_]+", note)) <= KNOWN else "Any"


def parameters(op: Op, *, method: bool) -> Iterator[str]:
    """The parameters as written in a signature; PyTorch's names for some are taken as well."""
    for number, p in enumerate(op.parameters):
        if method and number == 0:
            yield "self"
            continue
        text = f"{p.name}: {annotation(p)}"
        if p.default is not inspect.Parameter.empty:
            plain = p.default is None or isinstance(p.default, bool | int | float | str | tuple)
            text += f" = {p.default!r}" if plain and not isinstance(p.default, DType) else " = ..."
        yield text


def result(op: Op) -> str:
    """One tensor, or a tuple of them."""
    if op.outputs == 1:
        return "Tensor"
    return f"tuple[{', '.join(['Tensor'] * op.outputs)}]"


def packs(op: Op) -> bool:
    """True where sizes may also be given one by one, as in x.reshape(2, 3)."""
    return len(op.parameters) > 1 and op.parameters[1].annotation.startswith("tuple[int, ...]")


def function_text(name: str, op: Op, *, method: bool = False) -> str:
    """The stub of one function or method."""
    inside = list(parameters(op, method=method))
    if packs(op):
        head, rest = inside[0], inside[2:]
        inside = [head, f"*{op.parameters[1].name}: Any", *rest]
    inside = [*inside, *(["**names: Any"] if has_other_names(op) else [])]
    return f"def {name}({', '.join(inside)}) -> {result(op)}: ..."


def has_other_names(op: Op) -> bool:
    """True where PyTorch's words, as `dim` for `axis`, are taken too."""
    ours = {name for names in RENAMED.values() for name in names}
    return any(p.role == "attribute" and p.name in ours for p in op.parameters)


def methods() -> Iterator[str]:
    """Every method and operator that lift.py attaches to Tensor."""
    found: dict[str, str] = {}
    for name, attribute in vars(Tensor).items():
        op = getattr(attribute, "op", None)
        if isinstance(op, Op):
            found[name] = function_text(name, op, method=True)
    for name, (op, _) in OPERATORS.items():
        ignored = "  # type: ignore[override]" if name in ("__eq__", "__ne__") else ""
        second = "" if len(op.operands) == 1 else ", other: Any"
        found[name] = f"def {name}(self{second}) -> Tensor: ...{ignored}"
    found["__pow__"] = "def __pow__(self, exponent: Any) -> Tensor: ..."
    for name in IN_PLACE_OPERATORS:
        found[name] = f"def {name}(self, other: Any) -> Tensor: ..."
    for name, attribute in vars(Tensor).items():
        if getattr(attribute, "is_in_place", False) and name not in IN_PLACE_OPERATORS:
            found[name] = f"def {name}(self, *args: Any, **kwargs: Any) -> Tensor: ..."
    for name in sorted(found):
        yield f"    {found[name]}"


def text() -> str:
    """The whole file, formatted."""
    lines = [HEAD, "class Methods(Handle):"]
    lines += methods()
    public = {n: f.op for n, f in functions.items() if getattr(rb, n, None) is f and f.op.public}
    lines += ["", *(function_text(name, public[name]) for name in sorted(public))]
    command = [sys.executable, "-m", "ruff", "format", "--stdin-filename", str(STUB), "-"]
    done = subprocess.run(
        command, input="\n".join(lines) + "\n", capture_output=True, text=True, check=True
    )
    return done.stdout


def main(arguments: list[str]) -> Any:
    """Write the file, or with --check compare it."""
    made = text()
    if "--check" in arguments:
        same = STUB.exists() and STUB.read_text() == made
        return None if same else f"{STUB.name} is stale: run `make generated`"
    STUB.write_text(made)
    return None


if __name__ == "__main__":
    assert registry, "ops are declared when rabbet is imported"
    sys.exit(main(sys.argv[1:]))

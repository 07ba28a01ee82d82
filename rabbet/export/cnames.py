"""What the C texts of a native library are made from, and how things are called in them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from rabbet.base.target import Target
from rabbet.export.constants import Constants
from rabbet.export.portable import Entry
from rabbet.export.versions import Compilation

C_TYPES = {
    "bool": "uint8_t",
    "float32": "float",
    "float64": "double",
    **{f"{u}int{b}": f"{u}int{b}_t" for u in ("", "u") for b in (8, 16, 32, 64)},
}
KEYWORDS = frozenset(
    "auto break case char const continue default do double else enum extern float for goto if "
    "inline int long register restrict return short signed sizeof static struct switch "
    "typedef union unsigned void volatile while m status shape number sizes inputs outputs "
    "fits library_inputs library_outputs".split()
)
# LLVM's feature names that compilers can ask for at run time; the rest come with these.
CPU_FEATURES = (
    *("sse3", "ssse3", "sse4.1", "sse4.2", "popcnt", "avx", "avx2", "fma", "bmi", "bmi2"),
    *("avx512f", "avx512cd", "avx512bw", "avx512dq", "avx512vl"),
)
STATUSES = (
    ("OK", "success"),
    ("ARGUMENT", "an argument is missing (NULL)"),
    ("SIZE", "the model was not exported for these sizes"),
    ("INDEX", "an index computed by the model lies outside its axis"),
    ("MEMORY", "not enough memory"),
    ("CPU", "this CPU lacks instructions that the library was built with"),
    ("INTERNAL", "internal error"),
)


@dataclass(frozen=True)
class Unit:
    """What the texts are made from."""

    name: str
    entry: Entry
    constants: Constants
    versions: Sequence[Compilation]
    kernels: Sequence[Sequence[str]]  # per version: function names
    target: Target
    weights_file: str


def identifier(name: str, taken: set[str] | None = None) -> str:
    """`name` as a C identifier, another than those taken (and then added to them)."""
    plain = re.sub(r"\W", "_", name, flags=re.ASCII) or "_"
    plain = f"_{plain}" if plain[0].isdigit() or plain in KEYWORDS else plain
    unique, number = plain, 1
    while taken is not None and unique in taken:
        number += 1
        unique = f"{plain}_{number}"
    if taken is not None:
        taken.add(unique)
    return unique


def size_names(unit: Unit) -> list[str]:
    """The names of the sizes, as C identifiers."""
    taken: set[str] = set()
    return [identifier(n, taken) for n, _ in unit.entry.symbols]


def size_parameters(unit: Unit) -> str:
    """The sizes as parameters of a function, each with a comma behind."""
    return "".join(f"int64_t {s}, " for s in size_names(unit))


def port_names(unit: Unit) -> tuple[list[str], list[str]]:
    """The names of inputs and outputs, as C identifiers."""
    taken = set(size_names(unit))
    inputs = [identifier(n.name, taken) for n in unit.entry.inputs]
    return inputs, [identifier(n.name, taken) for n in unit.entry.outputs]


def predict_parameters(unit: Unit) -> str:
    """The parameters of NAME_predict."""
    inputs, outputs = port_names(unit)
    given = [
        f"const {C_TYPES[n.spec.dtype.name]} *{p}"
        for n, p in zip(unit.entry.inputs, inputs, strict=True)
    ]
    given += [
        f"{C_TYPES[n.spec.dtype.name]} *{p}"
        for n, p in zip(unit.entry.outputs, outputs, strict=True)
    ]
    return f"{unit.name}_model *m, {size_parameters(unit)}{', '.join(given)}"


def c_string(text: str) -> str:
    """A C string literal."""
    escaped = "".join(
        chr(b) if 32 <= b < 127 and chr(b) not in '"\\?' else f"\\{b:03o}" for b in text.encode()
    )
    return f'"{escaped}"'

"""Portable records <-> the JSON text of a program file.

Decoding checks every type, count and name that can be checked without knowing any op; each refusal
is a FormatError that says where. What the ops have to say is checked in graph.py.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any, NoReturn

from rabbet.base import dtypes
from rabbet.base.dtypes import DType
from rabbet.base.errors import FormatError
from rabbet.export import layout
from rabbet.export.portable import (
    Body,
    Entry,
    Named,
    Number,
    OpCall,
    Operand,
    Portable,
    Ref,
    Size,
    SizedDType,
    SizeForm,
    Weight,
    all_calls,
)

FORMAT = "rabbet program"
ROLES = ("parameter", "buffer", "constant")
RELATIONS = ("==", "!=", "<", ">=")
SIZE_OPERATIONS = ("+", "*", "//", "%", "max", "min")
MAX_INT = 1 << 62

# ---- writing ------------------------------------------------------------------------------------


def version_of(program: Portable) -> int:
    """The first version of the format that can say what `program` says."""
    calls = [c for e in program.entries for c in all_calls(e.calls)]
    operands = [o for e in program.entries for o in e.results]
    operands += [o for c in calls for o in (*c.operands, *(r for b in c.bodies for r in b.results))]
    literals = [o.value for o in operands if isinstance(o, Number)]
    if any(map(_has_complex, (*literals, *(c.attributes for c in calls)))):
        return 3
    return 2 if any(c.bodies for c in calls) else 1


def _has_complex(value: Any) -> bool:
    if isinstance(value, tuple | dict):
        return any(map(_has_complex, value.values() if isinstance(value, dict) else value))
    return isinstance(value, complex)


def encode(program: Portable, version: int) -> bytes:
    """The JSON text, as UTF-8."""
    document = {
        "format": FORMAT,
        "producer": program.producer,
        "weights_sha256": program.weights_sha256,
        "weights": [_weight_out(w) for w in program.weights],
        "entries": [_entry_out(e, version) for e in program.entries],
    }
    return json.dumps(document, allow_nan=False, separators=(",", ":")).encode()


def _weight_out(w: Weight) -> dict[str, Any]:
    return {
        "name": w.name,
        "role": w.role,
        "dtype": w.dtype.name,
        "shape": list(w.shape),
        "offset": w.offset,
        "bytes": w.n_bytes,
    }


def _entry_out(e: Entry, version: int) -> dict[str, Any]:
    return {
        "name": e.name,
        "symbols": [{"name": n, "example": v} for n, v in e.symbols],
        "guards": [[relation, _form_out(form)] for relation, form in e.guards],
        "inputs": [_named_out(n) for n in e.inputs],
        "outputs": [
            {**_named_out(n), "value": _operand_out(o)}
            for n, o in zip(e.outputs, e.results, strict=True)
        ],
        "structure": _structure_out(e.structure),
        "calls": [_call_out(c, version) for c in e.calls],
    }


def _named_out(n: Named) -> dict[str, Any]:
    return {
        "name": n.name,
        "dtype": n.spec.dtype.name,
        "shape": [_form_out(d) for d in n.spec.shape],
    }


def _call_out(c: OpCall, version: int) -> dict[str, Any]:
    text = {
        "op": c.op,
        "since": c.since,
        "operands": [_operand_out(o) for o in c.operands],
        "form": list(c.form),
        "attributes": {k: _attribute_out(v) for k, v in c.attributes.items()},
        "results": [_spec_out(r) for r in c.results],
        "layer": c.layer,
    }
    if version >= 2:
        text["bodies"] = [_body_out(b, version) for b in c.bodies]
    return text


def _body_out(b: Body, version: int) -> dict[str, Any]:
    return {
        "inputs": [_spec_out(s) for s in b.inputs],
        "calls": [_call_out(c, version) for c in b.calls],
        "results": [_operand_out(o) for o in b.results],
    }


def _spec_out(s: SizedDType) -> list[Any]:
    return [s.dtype.name, [_form_out(d) for d in s.shape]]


def _form_out(form: SizeForm) -> Any:
    return [_form_out(f) for f in form] if isinstance(form, tuple) else form


def _operand_out(operand: Operand) -> list[Any]:
    if isinstance(operand, Number):
        return ["number", operand.dtype.name, _float_out(operand.value)]
    return [operand.kind, operand.number, *([operand.output] if operand.kind == "call" else [])]


def _float_out(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return {"float": "nan" if math.isnan(value) else "inf" if value > 0 else "-inf"}
    if isinstance(value, complex):
        return {"complex": [_float_out(value.real), _float_out(value.imag)]}
    return value


def _attribute_out(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_attribute_out(v) for v in value]
    if isinstance(value, Size):
        return {"size": _form_out(value.form)}
    if isinstance(value, DType):
        return {"dtype": value.name}
    return _float_out(value)


def _structure_out(structure: Any) -> Any:
    if isinstance(structure, int):
        return structure
    kind, keys, children = structure
    inner = [_structure_out(c) for c in children]
    return [kind, list(keys), inner] if keys is not None else [kind, inner]


# ---- reading ------------------------------------------------------------------------------------


def refuse(where: str, what: str) -> NoReturn:
    """Raise the FormatError of a place in the graph text."""
    raise FormatError(f"{where}: {what}")


def decode(text: bytes, version: int) -> Portable:
    """The records of a JSON text; FormatError says what is wrong with it."""
    document = _parse(text)
    top = _object(
        "the graph", document, ("format", "producer", "weights_sha256", "weights", "entries")
    )
    if top["format"] != FORMAT:
        refuse("format", f"{top['format']!r} is not {FORMAT!r}")
    weights = _list("weights", top["weights"], layout.MAX_WEIGHTS)
    entries = _list("entries", top["entries"], layout.MAX_ENTRIES)
    program = Portable(
        weights=[_weight_in(f"weight {i}", w) for i, w in enumerate(weights)],
        entries=[_entry_in(f"entry {i}", e, version) for i, e in enumerate(entries)],
        producer=_text("producer", top["producer"], empty=True),
        weights_sha256=_text("weights_sha256", top["weights_sha256"], empty=True),
    )
    if not program.entries:
        refuse("entries", "there is none")
    if version_of(program) > version:
        refuse("the graph", f"it says what needs version {version_of(program)}, not {version}")
    _unique("entry", [e.name for e in program.entries])
    _unique("weight", [w.name for w in program.weights])
    return program


def _parse(text: bytes) -> Any:
    def pairs(items: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(items)
        if len(found) != len(items):
            raise FormatError("the graph text names a key twice")
        return found

    def constant(name: str) -> NoReturn:
        raise FormatError(f"the graph text holds {name}, which is not JSON")

    try:
        return json.loads(text.decode("utf-8"), object_pairs_hook=pairs, parse_constant=constant)
    except (ValueError, RecursionError) as error:
        if isinstance(error, FormatError):
            raise
        raise FormatError(f"the graph text is not JSON: {error}") from None


def _object(where: str, value: Any, keys: tuple[str, ...]) -> dict[str, Any]:
    if not isinstance(value, dict):
        refuse(where, f"an object is needed, not {_kind(value)}")
    if set(value) != set(keys):
        odd = sorted(set(value) ^ set(keys))
        refuse(where, f"the key {odd[0]!r} is {'unknown' if odd[0] in value else 'missing'}")
    return value


def _list(where: str, value: Any, most: int) -> list[Any]:
    if not isinstance(value, list):
        refuse(where, f"a list is needed, not {_kind(value)}")
    if len(value) > most:
        refuse(where, f"{len(value)} items; at most {most} are allowed")
    return value


def _text(where: str, value: Any, *, empty: bool = False) -> str:
    if not isinstance(value, str):
        refuse(where, f"text is needed, not {_kind(value)}")
    if len(value) > layout.MAX_NAME or not empty and not value:
        refuse(where, f"a name of {len(value)} characters (allowed: 1 to {layout.MAX_NAME})")
    if not value.isprintable():
        refuse(where, "the text holds characters that cannot be printed")
    return value


def _int(where: str, value: Any, low: int = 0, high: int = MAX_INT) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        refuse(where, f"an integer is needed, not {_kind(value)}")
    if not low <= value <= high:
        refuse(
            where, f"{value if abs(value) < 1 << 70 else 'a huge number'} is not in {low} to {high}"
        )
    return value


def _kind(value: Any) -> str:
    return "null" if value is None else type(value).__name__


def _unique(what: str, names: list[str]) -> None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            refuse(f"{what} {name!r}", "the name is used twice")
        seen.add(name)


def _dtype(where: str, value: Any) -> DType:
    if not isinstance(value, str) or value not in dtypes.BY_NAME:
        refuse(where, f"{value!r:.60} is no dtype")
    return dtypes.BY_NAME[value]


def _weight_in(where: str, value: Any) -> Weight:
    w = _object(where, value, ("name", "role", "dtype", "shape", "offset", "bytes"))
    dtype = _dtype(f"{where}: dtype", w["dtype"])
    shape = _list(f"{where}: shape", w["shape"], layout.MAX_RANK)
    sizes = tuple(_int(f"{where}: shape", d) for d in shape)
    if w["role"] not in ROLES:
        refuse(f"{where}: role", f"{w['role']!r:.60} is none of {', '.join(ROLES)}")
    elements = math.prod(sizes)
    if elements > layout.MAX_ELEMENTS:
        refuse(where, f"{elements} elements; at most {layout.MAX_ELEMENTS} are allowed")
    n_bytes = _int(f"{where}: bytes", w["bytes"])
    if n_bytes != elements * dtype.itemsize:
        refuse(f"{where}: bytes", f"{n_bytes}, but its shape needs {elements * dtype.itemsize}")
    offset = _int(f"{where}: offset", w["offset"])
    return Weight(_text(f"{where}: name", w["name"]), w["role"], dtype, sizes, offset, n_bytes)


ENTRY_KEYS = ("name", "symbols", "guards", "inputs", "outputs", "structure", "calls")


def _entry_in(where: str, value: Any, version: int) -> Entry:
    e = _object(where, value, ENTRY_KEYS)
    entry = Entry(_text(f"{where}: name", e["name"]))
    for i, item in enumerate(_list(f"{where}: symbols", e["symbols"], layout.MAX_SYMBOLS)):
        at = f"{where}: symbol {i}"
        symbol = _object(at, item, ("name", "example"))
        name = _text(at, symbol["name"])
        if not name.isidentifier():
            refuse(at, f"{name!r} is no name for a size")
        entry.symbols.append((name, _int(at, symbol["example"], high=layout.MAX_ELEMENTS)))
    _unique(f"{where}: symbol", [n for n, _ in entry.symbols])
    for i, item in enumerate(_list(f"{where}: guards", e["guards"], 1000)):
        entry.guards.append(_guard_in(f"{where}: guard {i}", item))
    for i, item in enumerate(_list(f"{where}: inputs", e["inputs"], layout.MAX_PORTS)):
        at = f"{where}: input {i}"
        entry.inputs.append(_named_in(at, _object(at, item, ("name", "dtype", "shape"))))
    entry.calls = _Calls(version).read(where, e["calls"])
    for i, item in enumerate(_list(f"{where}: outputs", e["outputs"], layout.MAX_PORTS)):
        at = f"{where}: output {i}"
        output = _object(at, item, ("name", "dtype", "shape", "value"))
        entry.outputs.append(_named_in(at, output))
        entry.results.append(_operand_in(f"{at}: value", output["value"]))
    _unique(f"{where}: input", [n.name for n in entry.inputs])
    _unique(f"{where}: output", [n.name for n in entry.outputs])
    if not entry.outputs:
        refuse(f"{where}: outputs", "there is none")
    seen: list[int] = []
    entry.structure = _structure_in(f"{where}: structure", e["structure"], seen, 0)
    if sorted(seen) != list(range(len(entry.outputs))):
        refuse(f"{where}: structure", "it does not name each output once")
    return entry


def _guard_in(where: str, value: Any) -> tuple[str, SizeForm]:
    pair = _list(where, value, 2)
    if len(pair) != 2 or pair[0] not in RELATIONS:
        refuse(where, f"[relation, size] is needed, with one of {' '.join(RELATIONS)}")
    return pair[0], _form_in(where, pair[1])


def _named_in(where: str, value: dict[str, Any]) -> Named:
    spec = _spec_in(where, value["dtype"], value["shape"])
    return Named(_text(f"{where}: name", value["name"]), spec)


def _spec_in(where: str, dtype: Any, shape: Any) -> SizedDType:
    forms = tuple(_form_in(where, d) for d in _list(f"{where}: shape", shape, layout.MAX_RANK))
    return SizedDType(_dtype(where, dtype), forms)


def _form_in(where: str, value: Any, budget: list[int] | None = None) -> SizeForm:
    budget = budget if budget is not None else [64]
    budget[0] -= 1
    if budget[0] < 0:
        refuse(where, "a size has more than 64 parts")
    if isinstance(value, str):
        return _text(where, value)
    if not isinstance(value, list):
        return _int(where, value, low=-MAX_INT)
    if len(value) < 3 or value[0] not in SIZE_OPERATIONS:
        refuse(
            where,
            f"a size must be [operation, size, size], with one of {' '.join(SIZE_OPERATIONS)}",
        )
    if len(value) > 3 and value[0] not in ("+", "*"):
        refuse(where, f"{value[0]} takes two sizes")
    return (value[0], *(_form_in(where, v, budget) for v in value[1:]))


def _operand_in(where: str, value: Any) -> Operand:
    parts = _list(where, value, 3)
    if not parts or parts[0] not in ("input", "weight", "call", "number"):
        refuse(where, "an operand is an input, a weight, a call or a number")
    if len(parts) != (3 if parts[0] in ("call", "number") else 2):
        refuse(where, f"{len(parts)} parts are not right for {parts[0]!r}")
    if parts[0] == "number":
        return _number_in(where, _dtype(where, parts[1]), parts[2])
    return Ref(parts[0], *(_int(where, p, high=layout.MAX_CALLS) for p in parts[1:]))


def _number_in(where: str, dtype: DType, value: Any) -> Number:
    number = _float_in(where, value)
    fits: Callable[[Any], bool] = {
        "b": lambda v: isinstance(v, bool),
        "i": lambda v: type(v) is int and -(1 << dtype.bits - 1) <= v < 1 << dtype.bits - 1,
        "u": lambda v: type(v) is int and 0 <= v < 1 << dtype.bits,
        "f": lambda v: type(v) is float,
        "c": lambda v: type(v) is complex,
    }[dtype.kind]
    if not fits(number):
        refuse(where, f"{value!r:.60} is no {dtype.name}")
    return Number(number, dtype)


def _float_in(where: str, value: Any) -> Any:
    if isinstance(value, dict) and set(value) == {"complex"}:
        parts = [_float_in(where, v) for v in _list(where, value["complex"], 2)]
        if [type(v) for v in parts] != [float, float]:
            refuse(where, "a complex number is two floats")
        return complex(*parts)
    if isinstance(value, dict):
        name = _object(where, value, ("float",))["float"]
        if name not in ("nan", "inf", "-inf"):
            refuse(where, f"{name!r:.60} is no float")
        return float(name)
    if isinstance(value, float) and not math.isfinite(value):
        refuse(where, "a number is too large for a float")
    return value


class _Calls:
    """Reads the calls of an entry; those inside calls count towards the same limit."""

    def __init__(self, version: int) -> None:
        self.version = version
        self.left = layout.MAX_CALLS

    def read(self, where: str, value: Any, depth: int = 0) -> list[OpCall]:
        """A list of calls, `depth` bodies deep."""
        items = _list(f"{where}: calls", value, self.left)
        self.left -= len(items)
        return [self._call(f"{where}: call {i}", item, depth) for i, item in enumerate(items)]

    def _call(self, where: str, value: Any, depth: int) -> OpCall:
        if self.version < 2:
            return _call_in(where, _object(where, value, CALL_KEYS), ())
        c = _object(where, value, (*CALL_KEYS, "bodies"))
        bodies = _list(f"{where}: bodies", c["bodies"], 16)
        if bodies and depth == layout.MAX_NESTING:
            refuse(where, f"bodies lie more than {layout.MAX_NESTING} deep")
        inner = (self._body(f"{where}: body {i}", b, depth + 1) for i, b in enumerate(bodies))
        return _call_in(where, c, tuple(inner))

    def _body(self, where: str, value: Any, depth: int) -> Body:
        b = _object(where, value, ("inputs", "calls", "results"))
        inputs = _list(f"{where}: inputs", b["inputs"], layout.MAX_PORTS)
        results = _list(f"{where}: results", b["results"], layout.MAX_PORTS)
        return Body(
            tuple(_pair_in(f"{where}: input {i}", s) for i, s in enumerate(inputs)),
            tuple(self.read(where, b["calls"], depth)),
            tuple(_operand_in(f"{where}: result {i}", o) for i, o in enumerate(results)),
        )


CALL_KEYS = ("op", "since", "operands", "form", "attributes", "results", "layer")


def _pair_in(where: str, value: Any) -> SizedDType:
    pair = _list(where, value, 2)
    if len(pair) != 2:
        refuse(where, "[dtype, shape] is needed")
    return _spec_in(where, pair[0], pair[1])


def _call_in(where: str, c: dict[str, Any], bodies: tuple[Body, ...]) -> OpCall:
    op = _text(f"{where}: op", c["op"])
    where = f"{where} ({op})"
    operands = _list(f"{where}: operands", c["operands"], layout.MAX_OPERANDS)
    form = _list(f"{where}: form", c["form"], layout.MAX_OPERANDS)
    if not isinstance(c["attributes"], dict):
        refuse(f"{where}: attributes", f"an object is needed, not {_kind(c['attributes'])}")
    results = _list(f"{where}: results", c["results"], layout.MAX_PORTS if bodies else 64)
    return OpCall(
        op=op,
        since=_int(f"{where}: since", c["since"], high=1 << 20),
        operands=tuple(_operand_in(f"{where}: operand {i}", o) for i, o in enumerate(operands)),
        form=tuple(_int(f"{where}: form", f, low=-1, high=1 << 20) for f in form),
        attributes={
            _text(f"{where}: attributes", k): _attribute_in(f"{where}: {k}", v, [10_000])
            for k, v in c["attributes"].items()
        },
        results=tuple(_pair_in(f"{where}: result {i}", r) for i, r in enumerate(results)),
        layer=_text(f"{where}: layer", c["layer"], empty=True),
        bodies=bodies,
    )


def _attribute_in(where: str, value: Any, budget: list[int]) -> Any:
    budget[0] -= 1
    if budget[0] < 0:
        refuse(where, "an attribute has more than 10000 parts")
    if isinstance(value, list):
        return tuple(_attribute_in(where, v, budget) for v in value)
    if isinstance(value, dict):
        if set(value) == {"size"}:
            return Size(_form_in(where, value["size"]))
        if set(value) == {"dtype"}:
            return _dtype(where, value["dtype"])
        return _float_in(where, value)
    if isinstance(value, str):
        return _text(where, value, empty=True)
    if isinstance(value, int) and not isinstance(value, bool):
        return _int(where, value, low=-MAX_INT)
    return _float_in(where, value)


def _structure_in(where: str, value: Any, seen: list[int], depth: int) -> Any:
    if depth > layout.MAX_DEPTH or len(seen) > layout.MAX_PORTS:
        refuse(where, "it is too deep or too large")
    if isinstance(value, int) and not isinstance(value, bool):
        seen.append(value)
        return value
    parts = _list(where, value, 3)
    if len(parts) == 2 and parts[0] in ("list", "tuple"):
        kind, keys, children = parts[0], None, parts[1]
    elif len(parts) == 3 and parts[0] == "dict":
        kind, children = "dict", parts[2]
        keys = tuple(_text(where, k) for k in _list(where, parts[1], layout.MAX_PORTS))
        _unique(where, list(keys))
    else:
        refuse(
            where, 'a number, ["list", items], ["tuple", items] or ["dict", keys, items] is needed'
        )
    inner = _list(where, children, layout.MAX_PORTS)
    if keys is not None and len(keys) != len(inner):
        refuse(where, f"{len(keys)} keys for {len(inner)} items")
    return (kind, keys, tuple(_structure_in(where, c, seen, depth + 1) for c in inner))

"""The canonical byte encoding of attributes: the same in memory, on disk and in keys."""

from __future__ import annotations

import hashlib
import struct
from typing import Any

from rabbet.base.dtypes import DType
from rabbet.base.errors import InternalError
from rabbet.base.sizes import Dim, SizeExpr
from rabbet.graph.op import Op
from rabbet.graph.value import Attrs, attrs_key


def encode(value: Any) -> bytes:
    """Type-tagged bytes of plain data; floats by their bits."""
    match value:
        case None:
            return b"N"
        case bool():
            return b"T" if value else b"F"
        case int():
            text = str(value).encode()
            return b"i" + struct.pack("<I", len(text)) + text
        case float():
            return b"f" + struct.pack("<d", value)
        case complex():
            return b"c" + struct.pack("<dd", value.real, value.imag)
        case str():
            text = value.encode()
            return b"s" + struct.pack("<I", len(text)) + text
        case DType():
            return b"d" + bytes([value.code])
        case tuple() | list():
            return b"(" + struct.pack("<I", len(value)) + b"".join(encode(v) for v in value)
    raise InternalError(f"no encoding for a {type(value).__name__}")


def hollow(value: Any) -> Any:
    """A size attribute with its sizes taken out: only its nesting is part of the structure.

    -1 stays: it stands for a size that follows from others, and for none at all.
    """
    if isinstance(value, tuple):
        return tuple(["#" if type(v) is int and v != -1 else hollow(v) for v in value])
    return "#" if _is_size(value) else value


def sizes_in(value: Any) -> list[Dim]:
    """The sizes of a size attribute, in order."""
    if isinstance(value, tuple):
        if all([type(v) is int and v != -1 for v in value]):
            return [*value]
        return [s for v in value for s in sizes_in(v)]
    return [value] if _is_size(value) else []


def fill_sizes(value: Any, sizes: list[Dim]) -> Any:
    """The size attribute rebuilt with sizes popped from the front of `sizes`."""
    if isinstance(value, tuple):
        return tuple(fill_sizes(v, sizes) for v in value)
    return sizes.pop(0) if _is_size(value) else value


def _is_size(value: Any) -> bool:
    return isinstance(value, SizeExpr) or isinstance(value, int) and value != -1


def structure_code(op: Op, attrs: Attrs, form: tuple[int, ...]) -> bytes:
    """16 bytes that stand for op, static attributes and form."""
    static = attrs if not op.sizes else {n: v for n, v in attrs.items() if n not in op.sizes}
    sized = tuple([hollow(attrs[n]) for n in sorted(op.sizes & attrs.keys())])
    key = op.name, op.since, form, sized, attrs_key(static)
    code = _codes.get(key)
    if code is None:
        parts = [encode(op.name), encode(op.since), encode(form)]
        for name in sorted(attrs):
            value = hollow(attrs[name]) if name in op.sizes else attrs[name]
            parts += [encode(name), encode(value)]
        code = hashlib.sha256(b"".join(parts)).digest()[:16]
        if len(_codes) >= CODES_KEPT:
            _codes.clear()
        _codes[key] = code
    return code


CODES_KEPT = 4096
_codes: dict[tuple[Any, ...], bytes] = {}  # few: they know no sizes


def attribute_sizes(op: Op, attrs: Attrs) -> tuple[Dim, ...]:
    """All sizes in the size attributes, by attribute name."""
    return tuple(s for name in sorted(op.sizes & attrs.keys()) for s in sizes_in(attrs[name]))

"""Values of attributes against the annotations in an op's signature.

Ops are declared with `axis: int | tuple[int, ...] | None` and the like; user functions need no
check, for a wrong value fails in the op. A file's values are checked before any op sees them.
"""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

from rabbet.base.dtypes import DType
from rabbet.export.portable import Size

ALIASES = {
    "Axes": "int | tuple[int, ...] | None",
    "Dim": "int",
    "Ints": "tuple[int, ...]",
    "Labels": "tuple[int, ...]",
    "Padding": "int | tuple[int, ...] | str",
    "Shape": "tuple[int, ...]",
}
PLAIN: dict[str, tuple[type, ...]] = {
    "int": (int, Size),
    "bool": (bool, int),
    "float": (float, int),
    "str": (str,),
    "DType": (DType,),
    "None": (type(None),),
}


class Kinds(NamedTuple):
    """What an annotation allows: plain types, and what a tuple may hold (None: no tuple)."""

    plain: tuple[type, ...]
    items: Kinds | None
    anything: bool = False


@cache
def kinds_of(annotation: str) -> Kinds:
    """An annotation as Kinds; one with a word that is not known here allows anything."""
    plain: tuple[type, ...] = ()
    items: Kinds | None = None
    for word in _alternatives(annotation):
        if word in ALIASES:
            inner = kinds_of(ALIASES[word])
            plain, items = plain + inner.plain, inner.items or items
        elif word in PLAIN:
            plain += PLAIN[word]
        elif word.startswith("tuple[") and word.endswith(", ...]"):
            items = kinds_of(word[len("tuple[") : -len(", ...]")])
        else:
            return Kinds((), None, anything=True)
    return Kinds(plain, items)


def _alternatives(annotation: str) -> list[str]:
    """The parts of `a | b[c | d]` between the outer bars."""
    parts, depth = [""], 0
    for character in annotation:
        depth += (character == "[") - (character == "]")
        if character == "|" and depth == 0:
            parts.append("")
        else:
            parts[-1] += character
    return [p.strip() for p in parts]


def fits(value: Any, annotation: str, *, is_size: bool) -> bool:
    """True where a value may stand for a parameter; symbols only where `is_size`."""
    return _fits(value, kinds_of(annotation), is_size)


def _fits(value: Any, kinds: Kinds, is_size: bool) -> bool:
    if isinstance(value, Size) and not is_size:
        return False
    if kinds.anything:
        return True
    if isinstance(value, tuple):
        return kinds.items is not None and all(_fits(v, kinds.items, is_size) for v in value)
    return isinstance(value, kinds.plain)

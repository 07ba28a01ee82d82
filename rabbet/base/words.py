"""Names that nobody knows: what they may have meant, and what there is instead."""

from __future__ import annotations

import difflib
import functools
import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any

_LISTED = 12  # longer lists of parameters are cut


def meant(name: str, known: Iterable[str]) -> str:
    """A question after a message, with the known name that is most like `name`; or nothing.

    >>> from rabbet.base.words import meant
    >>> meant("Liner", ["Linear", "Conv2d"])
    "; did you mean 'Linear'?"
    """
    close = difflib.get_close_matches(name, list(known), 1, 0.75)
    return f"; did you mean {close[0]!r}?" if close else ""


def check_keywords(
    owner: str, function: Callable[..., Any], keywords: Mapping[str, Any], others: dict[str, str]
) -> None:
    """TypeError where `function` (a method) has no such parameter; `others` are known synonyms."""
    known = _keywords(function)
    unknown = [] if known is None else [name for name in keywords if name not in known]
    if known is None or not unknown:
        return
    name, listed = unknown[0], ", ".join(known[:_LISTED])
    listed += ", ..." if len(known) > _LISTED else ""
    ours = others.get(name)
    hint = f"; did you mean {ours!r}?" if ours in known else meant(name, known)
    raise TypeError(f"{owner}() has no parameter {name!r}; it has {listed}{hint}")


@functools.lru_cache(maxsize=512)
def _keywords(function: Callable[..., Any]) -> tuple[str, ...] | None:
    """Names that may be given by keyword, `self` left out; None where any may."""
    # A decorated function is what its decorator made of it.
    parameters = list(inspect.signature(function, follow_wrapped=False).parameters.values())[1:]
    if any(p.kind is p.VAR_KEYWORD for p in parameters):
        return None
    return tuple(p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY))

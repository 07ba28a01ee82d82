"""Machines as data: one folder per family, found by listing this folder."""

from __future__ import annotations

import os
from functools import lru_cache
from importlib import import_module
from pkgutil import iter_modules

from rabbet.base.errors import BuildError
from rabbet.base.target import Target


@lru_cache(maxsize=1)
def all_targets() -> dict[str, Target]:
    """Every record of every family, by name."""
    found: dict[str, Target] = {}
    for family in iter_modules(__path__):
        module = import_module(f"{__name__}.{family.name}")
        found.update((t.name, t) for t in module.TARGETS)
    return found


def find(name: str) -> Target:
    """The target called `name`; BuildError with the names there are.

    >>> find("x86_v3").vector_bits
    256
    """
    known = all_targets()
    if name not in known:
        raise BuildError(f"there is no target {name!r}; there are {', '.join(sorted(known))}")
    return known[name]


@lru_cache(maxsize=1)
def runnable() -> tuple[Target, ...]:
    """The targets whose code runs on this machine, best first."""
    found: list[Target] = []
    for family in iter_modules(__path__):
        found += import_module(f"{__name__}.{family.name}").runnable()
    return tuple(found)


def host() -> Target:
    """The best target of this machine, or the one named by RABBET_TARGET (which must run here)."""
    chosen = os.environ.get("RABBET_TARGET")
    best = runnable()
    if chosen:
        target = find(chosen)
        if target not in best:
            raise BuildError(f"RABBET_TARGET={chosen}: this CPU cannot run it")
        return target
    if not best:
        raise BuildError("no target of Rabbet runs on this machine")
    return best[0]

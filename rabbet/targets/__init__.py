"""Machines as data: one folder per family, listed in FAMILIES."""

from __future__ import annotations

from functools import lru_cache

from rabbet.base.config import config
from rabbet.base.errors import BuildError
from rabbet.base.target import Target
from rabbet.targets import arm64, x86

FAMILIES = (x86, arm64)


@lru_cache(maxsize=1)
def all_targets() -> dict[str, Target]:
    """Every record of every family, by name."""
    return {target.name: target for family in FAMILIES for target in family.TARGETS}


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
    return tuple(target for family in FAMILIES for target in family.runnable())


def host() -> Target:
    """The best target of this machine, or the one named by RABBET_TARGET (which must run here)."""
    chosen = config.target
    best = runnable()
    if chosen:
        target = find(chosen)
        if target not in best:
            raise BuildError(f"RABBET_TARGET={chosen}: this CPU cannot run it")
        return target
    if not best:
        raise BuildError("no target of Rabbet runs on this machine")
    return best[0]

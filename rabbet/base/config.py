"""Every environment switch, in one table."""

from __future__ import annotations

import os
from dataclasses import dataclass, field

from rabbet.base.errors import RabbetError


def _choice(name: str, allowed: tuple[str, ...]) -> str:
    value = os.environ.get(name, allowed[0])
    if value not in allowed:
        named = " or ".join(repr(a) for a in allowed)
        raise RabbetError(f"{name} is {value!r}; it must be {named}")
    return value


@dataclass
class Config:
    """Settings read from the environment when Rabbet is imported.

    RABBET_DEBUG=eager      run every op at once (for a debugger)
    RABBET_ENGINE=reference compute with the NumPy reference instead of the compiler (an oracle,
    slow)
    RABBET_TARGET=NAME      compile for this target record instead of the host's own
    RABBET_CACHE_DIR=PATH   where compiled kernels are kept (see base/cache.py)
    RABBET_PACKS=PATH       folder of ready kernels instead of the package's own; "none": none
    RABBET_COMPILE=wait     never go on op by op while another process compiles a repeated segment
    RABBET_NUM_THREADS=N    threads of the native runtime (read by the runtime itself)
    """

    debug: str = field(default_factory=lambda: _choice("RABBET_DEBUG", ("", "eager")))
    engine: str = field(default_factory=lambda: _choice("RABBET_ENGINE", ("compiled", "reference")))
    target: str = field(default_factory=lambda: os.environ.get("RABBET_TARGET", ""))
    packs: str = field(default_factory=lambda: os.environ.get("RABBET_PACKS", ""))
    compile: str = field(default_factory=lambda: _choice("RABBET_COMPILE", ("background", "wait")))
    fuse: bool = True


config = Config()

"""Object bytes -> addresses: machine code mapped into this process.

Objects of x86-64 are put in place by our own loader (native/elf.h), each in microseconds; LLVM is
not even loaded where nothing is compiled. On other machines LLVM does it.
"""

from __future__ import annotations

import ctypes
import importlib
import sys
import threading
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from rabbet.base.errors import InternalError
from rabbet.codegen import bundle
from rabbet.codegen._loader import Code, can_load
from rabbet.codegen.outside import ALLOWED_SYMBOLS

_lock = threading.Lock()
_residents: dict[tuple[str, ...], tuple[Any, dict[str, int]]] = {}


class Library:
    """Objects mapped into this process; `addresses[name]` is where a function lies.

    Dropping the Library unmaps the code, so keep it as long as any address may be called. Raises
    InternalError where an object is damaged, or needs what nobody has.
    """

    def __init__(self, objects: Mapping[str, bytes]) -> None:
        own: dict[str, bytes] = {}
        known = dict(_c_library())
        for name, code in objects.items():
            own[name], parts = bundle.split(code)
            for part in parts:
                known |= _resident(part)
        self._held, self.addresses = _linked(own, known)


def _resident(part: bundle.Part) -> dict[str, int]:
    """Where a part's functions lie. Each part is mapped once, as long as this process lives: they
    are few.
    """
    with _lock:
        if part.names not in _residents:
            _residents[part.names] = _linked(dict.fromkeys(part.names, part.code), _c_library())
        return _residents[part.names][1]


def _linked(objects: Mapping[str, bytes], known: Mapping[str, int]) -> tuple[Any, dict[str, int]]:
    """What holds objects (by the functions they give) in memory, and where their functions lie."""
    codes = list(dict.fromkeys(objects.values()))
    try:
        if not can_load:
            found = compiler().linked(objects, codes, known)
            return found[0], found[1]
        held = Code(codes, dict(known))
        functions = held.functions
        return held, {name: functions[name] for name in objects}
    except (RuntimeError, ValueError, KeyError) as error:
        raise InternalError(f"objects cannot be loaded: {error}") from None


@lru_cache(maxsize=1)
def _c_library() -> dict[str, int]:
    """Addresses of the functions that compiled code may call."""
    library = ctypes.cdll.msvcrt if sys.platform == "win32" else ctypes.CDLL(None)
    functions = {name: getattr(library, name) for name in sorted(ALLOWED_SYMBOLS)}
    return {n: ctypes.cast(f, ctypes.c_void_p).value or 0 for n, f in functions.items()}


@lru_cache(maxsize=1)
def compiler() -> Any:
    """The module that compiles, imported when something is compiled: what is ready must not wait
    for LLVM.
    """
    return importlib.import_module("rabbet.codegen.machine")

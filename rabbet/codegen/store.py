"""Kernels to addresses: compiled once per process, and once per machine.

Looks in memory, then on disk, then compiles. The key of an object is a digest of everything that
can change its bytes: the kernel's text, the target's record, LLVM's version and our own sources.
"""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import asdict
from functools import lru_cache
from pathlib import Path
from weakref import WeakValueDictionary

from rabbet import codegen, expr
from rabbet.base.cache import DiskCache
from rabbet.base.target import Target
from rabbet.codegen import machine
from rabbet.codegen.build import build
from rabbet.kernel.loops import Kernel
from rabbet.kernel.show import kernel_name, show

OBJECTS_KEPT = 1024  # objects held in memory; the others come from disk again


@lru_cache(maxsize=1)
def generator_version() -> str:
    """Digest of the sources that turn a kernel into code, and of LLVM's version."""
    digest = hashlib.sha256(repr(machine.llvm_version()).encode())
    for package in (codegen, expr):
        for folder in package.__path__:
            for source in sorted(Path(folder).glob("*.py")):
                digest.update(source.name.encode() + b"\0" + source.read_bytes())
    return digest.hexdigest()


def object_key(kernel: Kernel, target: Target) -> str:
    """The key of a kernel's object on disk."""
    record = {k: sorted(v) if isinstance(v, frozenset) else v for k, v in asdict(target).items()}
    parts = (generator_version(), repr(sorted(record.items())), show(kernel))
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


class Loaded:
    """One kernel mapped into this process: holding this object keeps `address` valid."""

    __slots__ = ("__weakref__", "address", "library")

    def __init__(self, address: int, library: machine.Library) -> None:
        self.address = address
        self.library = library


class KernelStore:
    """Object code and addresses of kernels for one target. Safe to use from several threads.

    >>> addresses, keep = KernelStore(host()).load([kernel])   # doctest: +SKIP
    """

    def __init__(self, target: Target, disk: DiskCache | None = None) -> None:
        self.target = target
        self._disk = DiskCache() if disk is None else disk
        self._lock = threading.RLock()
        self._objects: OrderedDict[Kernel, tuple[str, bytes]] = OrderedDict()
        self._loaded: WeakValueDictionary[Kernel, Loaded] = WeakValueDictionary()
        self._kept: dict[Kernel, Loaded] = {}

    def load(self, kernels: Sequence[Kernel]) -> tuple[list[int], list[Loaded]]:
        """Where each kernel's function lies, and what must be held while it may be called."""
        with self._lock:
            found = {k: self._loaded.get(k) for k in kernels}
            missing = [k for k, loaded in found.items() if loaded is None]
            if missing:
                named = [(kernel, *self._object(kernel)) for kernel in missing]
                library = machine.Library({name: code for _, name, code in named})
                for kernel, name, _ in named:
                    made = Loaded(library.addresses[name], library)
                    self._loaded[kernel] = found[kernel] = made
            loaded = [x for k in kernels if (x := found[k]) is not None]
            return [x.address for x in loaded], loaded

    def addresses(self, kernels: Sequence[Kernel]) -> list[int]:
        """`load`, with the kernels kept as long as this store lives."""
        addresses, loaded = self.load(kernels)
        self._kept.update(zip(kernels, loaded, strict=True))
        return addresses

    def objects(self, kernels: Sequence[Kernel]) -> dict[str, bytes]:
        """Function name -> object bytes, each kernel once, in order."""
        with self._lock:
            return dict(self._object(kernel) for kernel in kernels)

    def _object(self, kernel: Kernel) -> tuple[str, bytes]:
        found = self._objects.pop(kernel, None)
        if found is None:
            key = object_key(kernel, self.target)
            code = self._disk.get(key)
            if code is None:
                code = machine.object_code(build(kernel, self.target).text, self.target)
                self._disk.put(key, code)
            found = (kernel_name(kernel), code)
        self._objects[kernel] = found  # the last one is the most recently used
        if len(self._objects) > OBJECTS_KEPT:
            self._objects.popitem(last=False)
        return found

"""Kernels to addresses: compiled once per process, and once per machine.

Looks in memory, in the pack that came with the package, on disk, then compiles. The key of an
object is a digest of everything that can change its bytes: the kernel's text, the target's record,
llvmlite's version (LLVM's) and our own sources.
"""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import asdict
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple
from weakref import WeakValueDictionary

from rabbet import codegen, expr
from rabbet.base.cache import DiskCache
from rabbet.base.pack import Pack
from rabbet.base.target import Target
from rabbet.codegen import library
from rabbet.codegen.build import build
from rabbet.codegen.outside import llvm_version
from rabbet.kernel import loops
from rabbet.kernel.loops import Kernel
from rabbet.kernel.show import kernel_name, show

OBJECTS_KEPT = 1024  # objects held in memory; the others come from disk again


@lru_cache(maxsize=1)
def generator_version() -> str:
    """Digest of the sources that turn a kernel into code, and of LLVM's version."""
    digest = hashlib.sha256(repr(llvm_version()).encode())
    sources = [
        p for package in (codegen, expr) for f in package.__path__ for p in Path(f).glob("*.py")
    ]
    for source in [*sorted(sources), Path(loops.__file__)]:
        digest.update(source.name.encode() + b"\0" + source.read_bytes())
    return digest.hexdigest()


def object_key(kernel: Kernel, target: Target) -> str:
    """The key of a kernel's object on disk."""
    record = {k: sorted(v) if isinstance(v, frozenset) else v for k, v in asdict(target).items()}
    parts = (generator_version(), repr(sorted(record.items())), show(kernel))
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


class Loaded:
    """One kernel mapped into this process: holding this object keeps `address` valid."""

    __slots__ = ("__weakref__", "address", "code")

    def __init__(self, address: int, code: library.Library) -> None:
        self.address = address
        self.code = code


class Wanted(NamedTuple):
    """A kernel by name: its function, its object's key, how to make it (None: only found)."""

    name: str
    key: str
    kernel: Kernel | None


class KernelStore:
    """Object code and addresses of kernels for one target. Safe to use from several threads.

    >>> addresses, keep = KernelStore(host()).load([kernel])   # doctest: +SKIP
    """

    def __init__(
        self, target: Target, disk: DiskCache | None = None, pack: Pack | None = None
    ) -> None:
        self.target = target
        self.disk = DiskCache() if disk is None else disk
        self.pack = pack
        self._lock = threading.RLock()
        self._objects: OrderedDict[str, bytes] = OrderedDict()
        self._loaded: WeakValueDictionary[str, Loaded] = WeakValueDictionary()
        self._kept: dict[str, Loaded] = {}

    def kept(self, key: str) -> bytes | None:
        """What the pack, or else the disk, has under a key: the same bytes."""
        found = None if self.pack is None else self.pack.get(key)
        return self.disk.get(key) if found is None else found

    def keep(self, key: str, code: bytes) -> None:
        """Store bytes on the disk."""
        self.disk.put(key, code)

    def wanted(self, kernel: Kernel) -> Wanted:
        """The name and key of a kernel."""
        return Wanted(kernel_name(kernel), object_key(kernel, self.target), kernel)

    def load(self, kernels: Sequence[Kernel]) -> tuple[list[int], list[Loaded]]:
        """Where each kernel's function lies, and what must be held while it may be called."""
        found = self.load_named([self.wanted(k) for k in kernels])
        assert found is not None, "a kernel at hand can always be made"
        return found

    def load_named(self, wanted: Sequence[Wanted]) -> tuple[list[int], list[Loaded]] | None:
        """As `load`; None where an object is gone and there is no kernel to make it from."""
        with self._lock:
            found = {w.key: self._loaded.get(w.key) for w in wanted}
            missing = {w.key: w for w in wanted if found[w.key] is None}
            if missing:
                codes = {w.name: self._object(w) for w in missing.values()}
                objects = {name: code for name, code in codes.items() if code is not None}
                if len(objects) < len(codes):
                    return None
                code = library.Library(objects)
                for key, w in missing.items():
                    made = Loaded(code.addresses[w.name], code)
                    self._loaded[key] = found[key] = made
            loaded = [x for w in wanted if (x := found[w.key]) is not None]
            return [x.address for x in loaded], loaded

    def addresses(self, kernels: Sequence[Kernel]) -> list[int]:
        """`load`, with the kernels kept as long as this store lives."""
        addresses, loaded = self.load(kernels)
        self._kept.update(
            (w.key, x) for w, x in zip(map(self.wanted, kernels), loaded, strict=True)
        )
        return addresses

    def objects(self, kernels: Sequence[Kernel]) -> dict[str, bytes]:
        """Function name -> object bytes, each kernel once, in order."""
        with self._lock:
            made = {w.name: self._object(w) for w in map(self.wanted, kernels)}
            return {name: code for name, code in made.items() if code is not None}

    def _object(self, wanted: Wanted) -> bytes | None:
        code = self._objects.pop(wanted.key, None) or self.kept(wanted.key)
        if code is None:
            if wanted.kernel is None:
                return None
            text = build(wanted.kernel, self.target).text
            made: bytes = library.compiler().object_code(text, self.target, self)
            code = made
            self.keep(wanted.key, code)
        self._objects[wanted.key] = code  # the last one is the most recently used
        if len(self._objects) > OBJECTS_KEPT:
            self._objects.popitem(last=False)
        return code

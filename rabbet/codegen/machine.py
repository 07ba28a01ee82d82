"""LLVM text -> object bytes (sole importer of llvmlite.binding, which takes a tenth of a second).

`object_code` is a pure function of text and target. Nothing here knows kernels.
"""

from __future__ import annotations

import hashlib
import itertools
import struct
import threading
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any, Protocol

from llvmlite import binding as llvm

from rabbet.base.errors import CompileError, InternalError
from rabbet.base.target import Target
from rabbet.codegen import bundle
from rabbet.codegen.outside import ALLOWED_SYMBOLS, llvm_version

compilations = 0  # object_code calls of this process so far

_lock = threading.Lock()
_library_numbers = itertools.count()
_part_codes: dict[str, bytes] = {}


@lru_cache(maxsize=1)
def _initialize() -> None:
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()


@lru_cache(maxsize=8)
def _target_machine(target: Target) -> llvm.TargetMachine:
    _initialize()
    try:
        family = llvm.Target.from_triple(target.triple)
    except RuntimeError as error:
        raise CompileError(f"target {target.name}: {error}") from None
    return family.create_target_machine(
        cpu=target.cpu, features=target.features, opt=2, reloc="pic", codemodel="default"
    )


def _optimized(text: str, target: Target) -> llvm.ModuleRef:
    """The module after the few passes that code with explicit vectors and hoisting gains from.

    The full O2 pipeline takes ten times as long and gives kernels of the same speed.
    """
    machine = _target_machine(target)
    try:
        module = llvm.parse_assembly(text)
        module.verify()
    except RuntimeError as error:
        raise InternalError(f"generated code is not valid: {error}") from None
    passes = llvm.create_new_module_pass_manager()
    passes.add_sroa_pass()
    passes.add_simplify_cfg_pass()
    passes.add_instruction_combine_pass()
    passes.add_simplify_cfg_pass()
    passes.add_dead_code_elimination_pass()
    builder = llvm.create_pass_builder(machine, llvm.create_pipeline_tuning_options())
    passes.run(module, builder)
    return module


class PartCache(Protocol):
    """Where compiled parts are looked up, and stored for other processes."""

    def kept(self, key: str) -> bytes | None:
        """The bytes under a key."""

    def keep(self, key: str, code: bytes) -> None:
        """Store bytes under a key."""


def object_code(text: str, target: Target, cache: PartCache | None = None) -> bytes:
    """Compile LLVM text; the same text and target give the same bytes.

    Parts come out of memory, or the cache, where they are known. Raises InternalError if the text
    is not valid or the object needs a symbol that nobody provides.
    """
    global compilations
    own, texts = bundle.split_text(text)
    with _lock:
        compilations += 1
    parts = [bundle.Part(names, _part_code(part, target, cache)) for names, part in texts]
    provided = frozenset(name for names, _ in texts for name in names)
    return bundle.joined(_emitted(own, target, provided), parts)


def part_key(text: str) -> str:
    """The key of a part's object in a cache; its text names the target."""
    return hashlib.sha256(f"{llvm_version()}\0{text}".encode()).hexdigest()


def _part_code(text: str, target: Target, cache: PartCache | None) -> bytes:
    key = part_key(text)
    code = _part_codes.get(key)
    if code is None:
        code = cache.kept(key) if cache is not None else None
        if code is None:
            code = _emitted(text, target, frozenset())
            if cache is not None:
                cache.keep(key, code)
        _part_codes[key] = code
    return code


def _emitted(text: str, target: Target, provided: frozenset[str]) -> bytes:
    with _lock:
        code: bytes = _target_machine(target).emit_object(_optimized(text, target))
    _check_symbols(code, provided)
    return code


def assembly(text: str, target: Target) -> str:
    """The machine's instructions as text, for people and tests; parts come last."""
    own, parts = bundle.split_text(text)
    with _lock:
        machine = _target_machine(target)
        texts = [own, *(part for _, part in parts)]
        return "\n".join(str(machine.emit_assembly(_optimized(t, target))) for t in texts)


# ---------------------------------------------------------------------- symbols


def undefined_symbols(code: bytes) -> set[str]:
    """Names an ELF object needs from elsewhere (other formats: InternalError)."""
    if code[:4] != b"\x7fELF":
        raise InternalError("undefined_symbols reads ELF objects only")
    wide = code[4] == 2
    endian = "<" if code[5] == 1 else ">"
    if wide:
        header, (section_at, count_at, size_at) = "QQ", (0x28, 0x3C, 0x3A)
        section, symbol = "IIQQQQIIQQ", "IBBHQQ"
    else:
        header, (section_at, count_at, size_at) = "II", (0x20, 0x30, 0x2E)
        section, symbol = "IIIIIIIIII", "IIIBBH"
    table = struct.unpack_from(endian + header[0], code, section_at)[0]
    size = struct.unpack_from(endian + "H", code, size_at)[0]
    count = struct.unpack_from(endian + "H", code, count_at)[0]
    sections = [struct.unpack_from(endian + section, code, table + i * size) for i in range(count)]
    found: set[str] = set()
    for _, kind, _, _, offset, length, link, _, _, entry in sections:
        if kind != _SYMBOL_TABLE:
            continue
        names = sections[link][4]
        for at in range(offset + entry, offset + length, entry):  # the first symbol is empty
            fields = struct.unpack_from(endian + symbol, code, at)
            if fields[3 if wide else 5] == 0:
                start = names + fields[0]
                found.add(code[start : code.index(b"\0", start)].decode())
    return found


_SYMBOL_TABLE = 2  # SHT_SYMTAB


def _check_symbols(code: bytes, provided: frozenset[str]) -> None:
    if code[:4] != b"\x7fELF":
        return
    foreign = undefined_symbols(code) - ALLOWED_SYMBOLS - provided - {"_GLOBAL_OFFSET_TABLE_"}
    if foreign:
        raise InternalError(f"compiled code calls {', '.join(sorted(foreign))}")


# ---------------------------------------------------------------------- loading


@lru_cache(maxsize=1)
def _linker() -> llvm.LLJIT:
    _initialize()
    return llvm.create_lljit_compiler()


def linked(
    functions: Iterable[str], codes: Iterable[bytes], known: Mapping[str, int]
) -> tuple[Any, dict[str, int]]:
    """Objects in memory: what holds them there, and where their `functions` lie.

    For machines that our own loader does not know (library.py). RuntimeError where they need more
    than `known`.
    """
    builder = llvm.JITLibraryBuilder()
    for code in codes:
        builder.add_object_img(code)
    for name in functions:
        builder.export_symbol(name)
    for symbol, address in known.items():
        builder.import_symbol(symbol, address)
    with _lock:
        tracker = builder.link(_linker(), f"rabbet{next(_library_numbers)}")
    return tracker, {name: tracker[name] for name in functions}

"""LLVM text -> object bytes -> addresses (sole importer of llvmlite.binding).

`object_code` is a pure function of text and target; `Library` maps objects into this process and drops
the mappings when it is dropped. Nothing here knows kernels.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Mapping
from functools import lru_cache

from llvmlite import binding as llvm

from rabbet.base.errors import CompileError, InternalError
from rabbet.base.target import Target

ALLOWED_SYMBOLS = frozenset({"memcpy", "memset", "memmove"})

compilations = 0  # object_code calls of this process so far

_lock = threading.Lock()
_library_numbers = itertools.count()


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
    machine = _target_machine(target)
    try:
        module = llvm.parse_assembly(text)
        module.verify()
    except RuntimeError as error:
        raise InternalError(f"generated code is not valid: {error}") from None
    tuning = llvm.create_pipeline_tuning_options(speed_level=2)
    tuning.loop_vectorization = False
    tuning.slp_vectorization = False
    tuning.loop_interleaving = False
    tuning.loop_unrolling = False
    builder = llvm.create_pass_builder(machine, tuning)
    builder.getModulePassManager().run(module, builder)
    return module


def object_code(text: str, target: Target) -> bytes:
    """Compile LLVM text; the same text and target give the same bytes.

    Raises InternalError if the text is not valid or the object needs a symbol that nobody provides.
    """
    global compilations
    with _lock:
        compilations += 1
        module = _optimized(text, target)
        code = _target_machine(target).emit_object(module)
    _check_symbols(text, code)
    return code


def assembly(text: str, target: Target) -> str:
    """The machine's instructions as text, for people and tests."""
    with _lock:
        return _target_machine(target).emit_assembly(_optimized(text, target))

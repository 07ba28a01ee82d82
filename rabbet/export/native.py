"""`rb.build`: a program file as a shared library with a C header, for machines without Python."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

from rabbet import runtime, targets
from rabbet.base.errors import BuildError
from rabbet.base.files import write_whole
from rabbet.base.target import Target
from rabbet.codegen.link import shared_library
from rabbet.export import cheader, csource
from rabbet.export.cnames import C_TYPES, Unit, identifier
from rabbet.export.constants import constants_of
from rabbet.export.portable import Entry
from rabbet.export.read import ProgramFile, read_program
from rabbet.export.versions import Compilation, compile_versions
from rabbet.kernel.show import kernel_name
from rabbet.runtime.program import store_of

TARGETS = ("native",)
EXAMPLE = "example.c"
RUNTIME = Path(str(runtime.__file__)).parent / "native"
TEMPLATES = Path(__file__).parent / "clibrary"


def build(
    path: str | os.PathLike[str],
    target: str = "native",
    output: str | os.PathLike[str] | None = None,
    *,
    cpu: str | None = None,
    name: str | None = None,
    entry: str | None = None,
) -> Path:
    """Make libNAME.so, NAME.h and example.c from a program file; the folder they are in.

    The library holds machine code, weights and runtime: it needs neither Python nor Rabbet. Weights
    that products read are in it as the target reads them, in panels.
    `output` is a folder (by default the file's own), `name` the file's by default; `cpu` is a
    target record's name, by default this machine's; for another architecture ("arm64") its cross
    compiler is needed. Raises BuildError (no C compiler, unknown names), FormatError, OSError; each
    of the files appears whole or not at all.

    >>> rb.build("digits.rbt", output="out")
    PosixPath('out')
    """
    if target not in TARGETS:
        raise BuildError(f"there is no target {target!r} yet; there is {', '.join(TARGETS)}")
    file = read_program(path, verify=True)
    chosen = targets.find(cpu) if cpu else targets.host()
    name = _name(path, name)
    folder = Path(output) if output is not None else Path(path).parent
    folder.mkdir(parents=True, exist_ok=True)
    found = _entry(file, entry)
    for port in (*found.inputs, *found.outputs):
        if port.spec.dtype.name not in C_TYPES:
            raise BuildError(f"{port.name} is {port.spec.dtype.name}, which has no type in C")
    versions = compile_versions(file.program, found, chosen)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".build") as temporary:
        _build(file, found, versions, chosen, name, Path(temporary), folder)
    return folder


def file_names(path: str | os.PathLike[str], name: str | None = None) -> tuple[str, str, str]:
    """What `build` calls the files it makes: library, header, example."""
    name = _name(path, name)
    return library_name(name), f"{name}.h", EXAMPLE


def _name(path: str | os.PathLike[str], name: str | None) -> str:
    return identifier(name if name is not None else Path(path).stem)


def _entry(file: ProgramFile, name: str | None) -> Entry:
    entries = {e.name: e for e in file.program.entries}
    if name is None:
        return file.program.entries[0]
    if name not in entries:
        raise BuildError(f"{file.path}: there is no entry {name!r}; there are {', '.join(entries)}")
    return entries[name]


def _build(
    file: ProgramFile,
    entry: Entry,
    versions: list[Compilation],
    target: Target,
    name: str,
    temporary: Path,
    folder: Path,
) -> None:
    weights = temporary / "weights.bin"
    constants = constants_of(file, versions)
    write_whole(weights, constants.chunks())
    kernels = {kernel_name(k): k for v in versions for k in v.compiled.kernels}
    names = [[kernel_name(k) for k in v.compiled.kernels] for v in versions]
    unit = Unit(name, entry, constants, versions, names, target, str(weights.resolve()))
    header = cheader.header_text(unit)
    (temporary / f"{name}.h").write_text(header)
    source = temporary / f"{name}.c"
    source.write_text(csource.source_text(unit))
    objects = store_of(target).objects(list(kernels.values()))
    library = shared_library(
        objects,
        temporary / library_name(name),
        triple=target.triple,
        sources=[source, *sorted(RUNTIME.glob("*.c"))],
        arguments=_arguments(name, temporary),
    )
    write_whole(folder / library.name, [library.read_bytes()])
    write_whole(folder / f"{name}.h", [header.encode()])
    write_whole(folder / EXAMPLE, [cheader.example_text(unit).encode()])


def library_name(name: str) -> str:
    """The file name of a library on this system."""
    return f"lib{name}.dylib" if sys.platform == "darwin" else f"lib{name}.so"


def _arguments(name: str, temporary: Path) -> list[str]:
    """Compiler flags: nothing but the public functions is visible, so libraries do not meet."""
    flags = ["-std=c11", "-O2", "-fvisibility=hidden", "-pthread", "-Wall", "-Wextra", "-Werror"]
    flags += [f"-I{temporary}", f"-I{TEMPLATES}", f"-I{RUNTIME}"]
    if sys.platform == "darwin":
        return [*flags, f"-Wl,-exported_symbol,_{name}_*"]
    exports = temporary / "exports.map"
    exports.write_text(f"{{ global: {name}_*; local: *; }};\n")
    return [*flags, f"-Wl,--version-script={exports}", "-Wl,-z,defs", "-Wl,-z,noexecstack"]

"""Objects -> shared library, by the system's C compiler as a linker."""

from __future__ import annotations

import os
import platform
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from rabbet.base.errors import BuildError
from rabbet.codegen import bundle

_SECONDS = 120


def c_compiler(triple: str | None = None) -> list[str]:
    """The command of a C compiler for `triple` (None: this machine); BuildError if there is none.

    For this machine: $CC, else cc, gcc or clang; for another one the cross compiler by its name.
    """
    arch = (triple or platform.machine()).split("-")[0]
    if arch != platform.machine():
        cross = f"{arch}-linux-gnu-gcc"
        if shutil.which(cross):
            return [cross]
        raise BuildError(f"building a library for {arch} needs {cross}; install gcc for {arch}")
    chosen = os.environ.get("CC")
    if chosen:
        return shlex.split(chosen)
    for name in ("cc", "gcc", "clang"):
        if shutil.which(name):
            return [name]
    raise BuildError("building a library needs a C compiler; install gcc or clang, or set CC")


def shared_library(
    objects: Mapping[str, bytes],
    output: Path,
    *,
    triple: str | None = None,
    sources: Sequence[Path] = (),
    arguments: Sequence[str] = (),
) -> Path:
    """Link kernels' bytes (and compile C sources) into the shared library `output`, written whole.

    `triple` names the machine it is for, `arguments` go to the compiler as they are. Raises
    BuildError with the linker's words.
    """
    output = Path(output)
    with tempfile.TemporaryDirectory(dir=output.parent, prefix=".link") as folder:
        found = bundle.object_files(objects)
        files = [Path(folder) / name for name in found]
        for file, code in zip(files, found.values(), strict=True):
            file.write_bytes(code)
        made = Path(folder) / output.name
        command = [*c_compiler(triple), "-shared", "-fPIC", "-o", str(made), *arguments]
        _run([*command, *map(str, files), *map(str, sources)], output)
        made.replace(output)
    return output


def _run(command: list[str], output: Path) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise BuildError(f"{output.name}: {command[0]} failed: {error}") from None
    if done.returncode:
        raise BuildError(f"{output.name}: {command[0]} failed: {done.stderr.strip()[-2000:]}")

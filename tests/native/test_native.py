"""The C runtime without Python, under the sanitizers: each test_*.c here is one program."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from rabbet.runtime import _runtime

HERE = Path(__file__).parent
NATIVE = HERE.parent.parent / "rabbet" / "runtime" / "native"
SANITIZERS = {
    "plain": ["-O2"],
    "address": ["-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"],
    "thread": ["-O1", "-g", "-fsanitize=thread"],
    "no-threads": ["-O1", "-DRB_NO_THREADS"],
}
WARNINGS = ["-std=gnu11", "-Wall", "-Wextra", "-Werror"]


def has_sanitizer(cc: str, flags: list[str], folder: Path) -> bool:
    """Whether programs with these flags can be linked and run here."""
    source = folder / "empty.c"
    source.write_text("int main(void) { return 0; }\n")
    built = subprocess.run([cc, *flags, str(source), "-o", str(folder / "empty")], check=False)
    return built.returncode == 0 and subprocess.run([folder / "empty"], check=False).returncode == 0


PROGRAMS = [
    (p, k)
    for p in ("arena", "bind", "control", "memory", "hostile", "pool")
    for k in ("plain", "address")
]
PROGRAMS.append(("split", "address"))
PROGRAMS.append(("pool", "thread"))  # the others have one thread


@pytest.mark.parametrize(("program", "kind"), PROGRAMS)
def test_program(program: str, kind: str, c_compiler: str, tmp_path: Path) -> None:
    """Builds tests/native/test_PROGRAM.c with the runtime and runs it."""
    cc, flags = c_compiler, SANITIZERS[kind]
    if not has_sanitizer(cc, flags, tmp_path):
        pytest.skip(f"{cc} has no {' '.join(flags)}")
    inside = "pool.c" if program == "split" else ""  # that test looks into it
    sources = [str(p) for p in sorted(NATIVE.glob("*.c")) if p.name != inside]
    command = [cc, *WARNINGS, *flags, f"-I{NATIVE}", f"-I{HERE}", f"{HERE}/test_{program}.c"]
    subprocess.run([*command, *sources, "-o", str(tmp_path / "test"), "-pthread"], check=True)
    arguments = ["--no-fork"] if kind == "thread" else []
    # Sanitizers refuse huge requests with a report; the runtime is meant to see the failure itself.
    environment = os.environ | {
        "ASAN_OPTIONS": "allocator_may_return_null=1:max_allocation_size_mb=4096"
    }
    done = subprocess.run(
        [tmp_path / "test", *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        env=environment,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    assert done.stdout == f"{program}: ok\n"


@pytest.mark.parametrize("kind", ["plain", "no-threads"])
def test_strict_c11(kind: str, c_compiler: str, tmp_path: Path) -> None:
    """The sources are C11 without extensions' help, without warnings, and every symbol is rb_."""
    sources = sorted(NATIVE.glob("*.c"))
    for source in sources:
        flags = ["-std=c11", "-Wpedantic", "-Wall", "-Wextra", "-Werror", *SANITIZERS[kind]]
        target = tmp_path / f"{source.stem}.o"
        subprocess.run([c_compiler, *flags, "-c", str(source), "-o", str(target)], check=True)
    nm = shutil.which("nm")
    if nm is None:
        pytest.skip("there is no nm")
    command = [nm, "-g", "--defined-only", *(str(p) for p in sorted(tmp_path.glob("*.o")))]
    listing = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    names = [
        line.split()[-1].lstrip("_") for line in listing.splitlines() if len(line.split()) == 3
    ]
    assert names and all(name.startswith("rb_") for name in names)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_loading_starts_nothing() -> None:
    """Loading the runtime starts no threads: an exported library may be loaded and never used."""
    code = (
        "import importlib.util as u, os;"
        f"spec = u.spec_from_file_location('rabbet.runtime._runtime', {_runtime.__file__!r});"
        "m = u.module_from_spec(spec); spec.loader.exec_module(m); m.Buffer(64);"
        "print(len(os.listdir('/proc/self/task')))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "1\n"

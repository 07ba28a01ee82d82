"""Plans word by word, and kernels compiled from kernels.c."""

from __future__ import annotations

import ctypes
import struct
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from rabbet.runtime._runtime import Buffer, Program

HERE = Path(__file__).parent
OPCODES = {"const": 0, "symbol": 1, "+": 2, "-": 3, "*": 4, "//": 5, "%": 6, "max": 7, "min": 8}
RELATIONS = {"==": 0, "!=": 1, "<": 2, ">=": 3}
KINDS = {"input": 0, "output": 1, "constant": 2, "arena": 3}


@dataclass
class Plan:
    """A plan under construction; every method returns the number of what it added."""

    n_symbols: int = 0
    exprs: list[list[int]] = field(default_factory=list)
    guards: list[list[int]] = field(default_factory=list)
    buffers: list[list[int]] = field(default_factory=list)
    calls: list[list[int]] = field(default_factory=list)
    kernels: list[int] = field(default_factory=list)
    constants: list[Buffer] = field(default_factory=list)
    commit_call: int | None = None

    def expr(self, opcode: str, a: int, b: int = 0) -> int:
        """An expression from earlier ones."""
        self.exprs.append([OPCODES[opcode], a, b])
        return len(self.exprs) - 1

    def const(self, value: int) -> int:
        """A number."""
        return self.expr("const", value)

    def symbol(self) -> int:
        """The next symbol."""
        self.n_symbols += 1
        return self.expr("symbol", self.n_symbols - 1)

    def guard(self, relation: str, expr: int) -> None:
        """A condition on the symbols: expr relation 0."""
        self.guards.append([RELATIONS[relation], expr])

    def buffer(self, kind: str, size: int, life: tuple[int, int] = (0, 0), alias: int = -1) -> int:
        """A buffer with the next number of its kind."""
        number = -1 if kind == "arena" else self.count(kind)
        self.buffers.append([KINDS[kind], number, size, *life, alias])
        return len(self.buffers) - 1

    def constant(self, buffer: Buffer, size: int) -> int:
        """A constant with its data."""
        index = self.buffer("constant", size)
        self.constants.append(buffer)
        return index

    def count(self, kind: str) -> int:
        """How many buffers of a kind there are."""
        return sum(b[0] == KINDS[kind] for b in self.buffers)

    def call(
        self,
        kernel: int,
        tasks: int,
        buffers: list[int],
        sizes: list[int] | None = None,
        *,
        cost: int | None = None,
        scratch: int | None = None,
        can_fail: bool = False,
        copy: bool = False,
    ) -> int:
        """A call of the kernel at an address; cost and scratch are expressions, else zero."""
        if kernel not in self.kernels:
            self.kernels.append(kernel)
        zero = self.const(0) if cost is None or scratch is None else 0
        head = [
            self.kernels.index(kernel),
            tasks,
            zero if cost is None else cost,
            zero if scratch is None else scratch,
            can_fail + 2 * copy,
        ]
        sizes = sizes or []
        self.calls.append([*head, len(buffers), len(sizes), *buffers, *sizes])
        return len(self.calls) - 1

    def words(self) -> list[int]:
        """The plan."""
        parts = [*self.exprs, *self.guards, *self.buffers, *self.calls]
        body = [word for part in parts for word in part]
        commit = len(self.calls) if self.commit_call is None else self.commit_call
        counts = [
            *(
                self.n_symbols,
                len(self.exprs),
                len(self.guards),
                len(self.buffers),
                len(self.calls),
            ),
            *(self.count("input"), self.count("output"), len(self.constants), len(self.kernels)),
        ]
        magic = int.from_bytes(b"RABBETP1", "little")
        return [magic, 1, 16 + len(body), *counts, commit, 0, 0, 0, *body]

    def program(self) -> Program:
        """The program."""
        return Program(pack(self.words()), self.kernels, self.constants)


def pack(words: list[int]) -> bytes:
    """Words as bytes."""
    return struct.pack(f"<{len(words)}q", *words)


class Kernels:
    """kernels.c in memory: attributes are addresses of kernels."""

    def __init__(self, library: Path) -> None:
        self.library = ctypes.CDLL(str(library))
        self.path = library

    def __getattr__(self, name: str) -> int:
        address = ctypes.cast(self.library[name], ctypes.c_void_p).value
        assert address is not None
        return address


@pytest.fixture(scope="session")
def kernels(c_compiler: str, tmp_path_factory: pytest.TempPathFactory) -> Kernels:
    """The kernels of kernels.c."""
    library = tmp_path_factory.mktemp("kernels") / "kernels.so"
    flags = ["-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC"]
    subprocess.run([c_compiler, *flags, str(HERE / "kernels.c"), "-o", str(library)], check=True)
    return Kernels(library)


@pytest.fixture
def plan() -> Plan:
    """An empty plan."""
    return Plan()


@pytest.fixture(scope="session")
def new_plan() -> type[Plan]:
    """Makes plans."""
    return Plan

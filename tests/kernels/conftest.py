"""Run a kernel's machine code beside unreadable pages, and compare with the interpreter."""

import ctypes
import mmap
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pytest

from rabbet import targets
from rabbet.base.target import Target
from rabbet.codegen import library, machine
from rabbet.codegen.build import build, launch
from rabbet.expr.interpret import evaluate
from rabbet.kernel import interpret
from rabbet.kernel.inplace import overwritable
from rabbet.kernel.loops import Kernel
from rabbet.kernel.points import Failure
from rabbet.kernel.sums import has_pairs

ENTRY = ctypes.CFUNCTYPE(
    None, *(ctypes.c_void_p,) * 2, *(ctypes.c_int64,) * 2, *(ctypes.c_void_p,) * 2
)
PAGE = mmap.PAGESIZE
_libc = ctypes.CDLL(None, use_errno=True)


class Guarded:
    """Bytes that end (or begin) exactly where the readable memory does."""

    def __init__(self, array: np.ndarray, at_end: bool) -> None:
        pages = max(1, -(-array.nbytes // PAGE))
        self._map = mmap.mmap(-1, (pages + 2) * PAGE)
        self._keep = (ctypes.c_char * len(self._map)).from_buffer(self._map)
        base = ctypes.addressof(self._keep)
        for forbidden in (base, base + (pages + 1) * PAGE):
            failed = _libc.mprotect(ctypes.c_void_p(forbidden), PAGE, 0)
            assert not failed
        self.address = base + PAGE + (pages * PAGE - array.nbytes if at_end else 0)
        self._like = array
        ctypes.memmove(self.address, array.ctypes.data, array.nbytes)

    def array(self) -> np.ndarray:
        """A copy of what is there now."""
        data = ctypes.string_at(self.address, self._like.nbytes)
        return np.frombuffer(data, dtype=self._like.dtype).copy()


@dataclass
class Runner:
    """Compiles and runs kernels for one target."""

    target: Target
    libraries: dict[str, library.Library] = field(default_factory=dict)

    def address(self, kernel: Kernel) -> int:
        code = build(kernel, self.target)
        if code.name not in self.libraries:
            compiled = machine.object_code(code.text, self.target)
            self.libraries[code.name] = library.Library({code.name: compiled})
        return self.libraries[code.name].addresses[code.name]

    def run(
        self,
        kernel: Kernel,
        buffers: Sequence[np.ndarray],
        sizes: Sequence[int],
        *,
        at_end: bool = True,
        pieces: int = 1,
        shared: tuple[int, int] | None = None,
    ) -> tuple[list[np.ndarray], list[int]]:
        """The buffers after the kernel, and the status record; `shared`: (input, output) in one."""
        tasks, scratch_bytes = (
            int(evaluate([e], lambda leaf: np.asarray(sizes[leaf.value]))[0])
            for e in (launch(kernel, self.target).tasks, launch(kernel, self.target).scratch_bytes)
        )
        memory = [Guarded(b, at_end) for b in buffers]
        if shared is not None:
            memory[shared[1]] = memory[shared[0]]
        pointers = (ctypes.c_void_p * max(1, len(memory)))(*[m.address for m in memory])
        arguments = (ctypes.c_int64 * max(1, len(sizes)))(*sizes)
        status = (ctypes.c_int64 * 5)()
        scratch = ctypes.create_string_buffer(scratch_bytes + 64)
        aligned = (ctypes.addressof(scratch) + 63) & -64
        function = ENTRY(self.address(kernel))
        cuts = np.linspace(0, tasks, pieces + 1).astype(int)
        for begin, end in zip(cuts[:-1], cuts[1:], strict=True):
            function(pointers, arguments, int(begin), int(end), aligned, status)
        return [m.array() for m in memory], list(status)

    def check(
        self,
        kernel: Kernel,
        buffers: Sequence[np.ndarray],
        sizes: Sequence[int],
        *,
        at_end: bool = True,
        pieces: int = 1,
    ) -> Failure | None:
        """Machine code and interpreter give the same bits in every buffer, and the same failure.

        So does machine code that writes an output over an input, where that is allowed.
        """
        expected = [b.copy() for b in buffers]
        fused, pairs = self.target.has_fma, has_pairs(self.target)
        failure = interpret.run(kernel, expected, sizes, fused=fused, pairs=pairs)
        found, status = self.run(kernel, buffers, sizes, at_end=at_end, pieces=pieces)
        for number, (f, e) in enumerate(zip(found, expected, strict=True)):
            same = same_bits(f, e)
            assert same.all(), (
                f"operand {number} at {np.flatnonzero(~same)[:5]}: {f[~same][:5]} instead of "
                f"{e[~same][:5]}"
            )
        for shared in overwritable(kernel):
            if buffers[shared[0]].nbytes == buffers[shared[1]].nbytes:
                again, _ = self.run(
                    kernel, buffers, sizes, at_end=at_end, pieces=pieces, shared=shared
                )
                again[shared[1]] = again[shared[0]].view(expected[shared[1]].dtype)
                again[shared[0]] = expected[shared[0]]
                for number, (f, e) in enumerate(zip(again, expected, strict=True)):
                    assert same_bits(f, e).all(), f"operand {number} with {shared} in one memory"
        assert (status[0] != 0) == (failure is not None)
        if failure is not None and not getattr(kernel, "across", False) and pieces == 1:
            assert (status[2], status[3]) == failure
        return failure


def same_bits(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Where two arrays have the same bits, or both NaN."""
    assert a.dtype == b.dtype and a.shape == b.shape
    if a.dtype == bool:
        return a == b
    kind = np.dtype(f"u{a.dtype.itemsize}")
    with np.errstate(invalid="ignore"):
        return (a.view(kind) == b.view(kind)) | ((a != a) & (b != b))


@pytest.fixture(scope="session", params=targets.runnable(), ids=lambda t: t.name)
def runner(request: pytest.FixtureRequest) -> Runner:
    """One Runner for each target that this machine runs."""
    return Runner(request.param)

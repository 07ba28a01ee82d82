"""Programs of single ops that came with the package: which one is taken, and when none is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import pytest

import rabbet as rb
from rabbet.engine import programs
from rabbet.engine.singly import Single, single_of
from rabbet.graph.value import registry
from rabbet.runtime.saved import Launchable, Ready, decode_ready, encode_ready

ALL = frozenset({(0, 0)})
ROWS, ANY = ("n0", 1, "n0", 1), ("n0", "n1", "n0", "n1")


@dataclass
class Program:
    """What a pack's program becomes once its kernels are mapped."""

    of: Launchable
    refuses: tuple[int, ...] = ()

    def accepts(self, symbols: tuple[int, ...]) -> bool:
        return symbols != self.refuses


@dataclass
class Compiler:
    """A pack with some programs for any op, of which the kernels of `gone` are missing."""

    dims: tuple[tuple[int | str, ...], ...]
    keep: tuple[tuple[int, int], ...] = ((0, 0),)
    gone: tuple[bytes, ...] = ()
    refuses: tuple[int, ...] = ()
    asked: list[bytes] = field(default_factory=list)

    def ready_programs(self, family: bytes) -> list[Ready]:
        self.asked.append(family)
        some = [
            Ready.of(dims, self.keep, Launchable(str(at).encode(), [], [], []))
            for at, dims in enumerate(self.dims)
        ]
        return decode_ready(encode_ready(some))

    def loaded(self, program: Launchable) -> Program | None:
        return None if program.words in self.gone else Program(program, self.refuses)


def _single(*shape: int) -> Single:
    return single_of((rb.ones(shape) + rb.ones(shape))._node)


def _ready(
    compiler: Compiler, single: Single, monkeypatch: pytest.MonkeyPatch, family: object = None
) -> tuple[bytes, tuple[int, ...]] | None:
    """The words of the program that is taken, and its symbols."""
    monkeypatch.setattr(programs, "compiler", lambda: compiler)
    made = family if isinstance(family, programs.Family) else programs.Family()
    found = programs._ready(single, made, ALL)
    assert [found[0]] == made.entries if found else not made.entries
    return None if found is None else (found[0].program.of.words, found[1])


def test_the_first_that_fits_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    compiler = Compiler((ROWS, ANY))
    assert _ready(compiler, _single(4, 1), monkeypatch) == (b"0", (4,))
    assert _ready(compiler, _single(4, 5), monkeypatch) == (b"1", (4, 5))


@pytest.mark.parametrize(
    "compiler",
    [
        Compiler(()),
        Compiler((ROWS, (4, 6, 4, 6))),
        Compiler((ANY,), keep=()),
        Compiler((ANY,), gone=(b"0",)),
        Compiler((ANY,), refuses=(4, 5)),
    ],
    ids=["no program", "other sizes", "other outputs", "a kernel is gone", "a guard fails"],
)
def test_none_fits(compiler: Compiler, monkeypatch: pytest.MonkeyPatch) -> None:
    assert _ready(compiler, _single(4, 5), monkeypatch) is None


def test_one_that_cannot_be_loaded_leaves_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    compiler = Compiler((ANY, ANY), gone=(b"0",))
    assert _ready(compiler, _single(4, 5), monkeypatch) == (b"1", (4, 5))


def test_a_family_is_looked_up_once(monkeypatch: pytest.MonkeyPatch) -> None:
    compiler, family = Compiler(((4, 6, 4, 6),)), programs.Family()
    for rows in (4, 5):
        assert _ready(compiler, _single(rows, 5), monkeypatch, family) is None
    assert len(compiler.asked) == 1


def test_large_ops_are_planned_for_their_sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    compiler, single = Compiler((ANY,)), _single(4, 5)
    monkeypatch.setattr(programs, "LARGE_BYTES", 4 * 3 * 4 * 5)  # of both operands and the result
    assert _ready(compiler, single, monkeypatch) is None and not compiler.asked
    monkeypatch.setattr(programs, "LARGE_BYTES", 4 * 3 * 4 * 5 + 1)
    assert _ready(compiler, single, monkeypatch) == (b"0", (4, 5))


@pytest.mark.parametrize("join", [rb.stack, rb.concat])
def test_lists_of_any_length_share_programs(join: Callable[..., rb.Tensor]) -> None:
    """Their values and gradients too; nothing of a new length is compiled as a whole."""

    def run(length: int) -> set[bytes]:
        before = {*programs.families}
        parts = [rb.full((2, 3), float(i), requires_grad=True) for i in range(length)]
        joined = join(parts, axis=1)
        wanted = getattr(np, join.__name__)([p.numpy() for p in parts], axis=1)
        np.testing.assert_array_equal(joined.numpy(), wanted)
        weight = np.arange(wanted.size, dtype=np.float32).reshape(wanted.shape)
        (joined * rb.asarray(weight)).sum().backward()
        per_part = np.split(weight, length, axis=1)
        for part, own in zip(parts, per_part, strict=True):
            assert part.grad is not None
            np.testing.assert_array_equal(part.grad.numpy(), own.reshape(2, 3))
        return {key for key in programs.families if key.startswith(b"one")} - before

    for length in (22, 20, 39, 280):
        run(length)
    assert run(38) == run(36) == run(23) == set()


def test_long_lists_of_large_or_unlike_tensors_are_one_op() -> None:
    large = [rb.zeros((1 << 15,)) for _ in range(17)]
    unlike = [rb.zeros((1 + i % 2,)) for i in range(17)]
    for parts in (large, unlike, [rb.zeros(1)] * 16):
        assert len(rb.concat(parts)._node.inputs) == len(parts)


def test_a_full_table_of_calls_makes_room() -> None:
    """What a long program calls now is bound natively, whatever it called before."""
    op = registry["expand"]
    for n in range(1200):
        rb.expand(rb.zeros(()), (n % 40 + 2, n // 40 + 2))
    last = (rb.zeros((2, 3)), (5, 2, 3))
    assert op.caller.call(last, {}) is NotImplemented
    rb.expand(*last)
    assert op.caller.call(last, {}) is not NotImplemented

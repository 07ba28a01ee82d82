"""Patterns of sizes: what of one op's sizes is any size, and what are the same."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

import rabbet as rb
from rabbet.engine import programs
from rabbet.engine.segment import Compared, Pattern, general_pattern
from rabbet.engine.singly import single_of
from rabbet.tensor import functions as F


def _general(made: rb.Tensor) -> Pattern:
    return general_pattern(single_of(made._node))


CASES: dict[str, tuple[Callable[[], rb.Tensor], tuple[int | str, ...]]] = {
    "what must be equal is one symbol, what happens to be is not": (
        lambda: rb.ones((3, 3)) + rb.ones((3, 3)),
        ("n0", "n1", "n0", "n1"),
    ),
    "one operand twice": (lambda: (lambda x: x * x)(rb.ones((5, 2))), ("n0", "n1")),
    "one stays": (lambda: rb.ones((1, 4)) + rb.ones((3, 4)), (1, "n0", "n1", "n0")),
    "nothing can be said of no elements": (
        lambda: rb.ones((0, 4)) + rb.ones((0, 4)),
        (0, 4, 0, 4),
    ),
    "a number has no sizes": (lambda: rb.ones(()) + rb.ones(()), ()),
    "sides of a product": (
        lambda: F["linear"](rb.ones((4, 4)), rb.ones((4, 4))),
        ("n0", "n1", "n2", "n1"),
    ),
    "parts of several lengths": (
        lambda: F["concat"]([rb.ones((3, 2)), rb.ones((3, 5)), rb.ones((3, 2))], axis=1),
        ("n0", "n1", "n0", "n2", "n0", "n3"),
    ),
    "0 and 1 are nothing special where they say where": (
        lambda: F["pad"](rb.ones((1, 3)), (0, 2), (1, 0), (0, 0)),
        (1, "n0", "p1", "p2", 0, 0, "p3", "p4"),
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_general_patterns(name: str) -> None:
    make, wanted = CASES[name]
    assert _general(make()).plain() == wanted


def test_a_general_pattern_fits_other_sizes_but_neither_none_nor_one() -> None:
    pattern = _general(rb.ones((2, 3)) + rb.ones((2, 3)))
    assert pattern.match((7, 5, 7, 5)) == (7, 5)
    assert pattern.match((5, 5, 5, 5)) == (5, 5)
    for sizes in ((7, 5, 7, 6), (7, 5, 8, 5), (1, 5, 1, 5), (7, 0, 7, 0)):
        assert pattern.match(sizes) is None
    fixed = _general(rb.ones((0, 4)) + rb.ones((0, 4)))
    assert fixed.match((0, 4, 0, 4)) == () and fixed.match((0, 5, 0, 5)) is None


def test_a_position_is_any_number() -> None:
    pattern = _general(F["pad"](rb.ones((4,)), (2,), (3,), (0,)))
    plain, sizes = pattern.plain(), (5, 0, 0, 1)
    assert pattern.match(sizes) == Compared.of(plain).match(sizes) == (5, 0, 1)
    assert pattern.match((1, 0, 0, 1)) is None is Compared.of(plain).match((1, 0, 0, 1))


def test_reading_and_writing_elements_makes_programs_for_any_place() -> None:
    """Forward and backward: of an array's number of axes, one for each op."""

    def known() -> int:
        return sum(len(f.entries) for key, f in programs.families.items() if key[:3] == b"one")

    x = rb.tensor(np.arange(24.0).reshape(2, 3, 4), requires_grad=True)
    counts = []
    for place in np.ndindex(x.shape):
        y = x * 1
        y[place] = -1
        (y[place] + x[place]).backward()
        assert x.grad is not None and x.grad.sum() == x.grad[place] == 1
        x.grad = None
        counts.append(known())
    assert counts[0] == counts[-1] > 0


def test_a_pattern_in_plain_words_matches_the_same_sizes() -> None:
    pattern = _general(rb.ones((1, 4)) + rb.ones((3, 4)))
    again = Compared.of(pattern.plain())
    assert again.match((1, 9, 2, 9)) == pattern.match((1, 9, 2, 9)) == (9, 2)
    for sizes in ((1, 9, 2, 8), (3, 9, 2, 9), (1, 9, 1, 9), (1, 0, 2, 0)):
        assert again.match(sizes) is pattern.match(sizes) is None
    assert Compared.of((0, 4)).match((0, 4)) == ()
    assert Compared.of((0, 4)).match((0, 5)) is None


def test_equal_sizes_that_a_rule_finds_out_late_become_one_symbol() -> None:
    made = F["where"](rb.ones((4, 6), dtype=rb.bool), rb.ones((4, 6)), rb.ones((6,)))
    assert _general(made).plain() == ("n0", "n1", "n0", "n1", "n1")

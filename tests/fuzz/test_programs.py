"""The long search: RABBET_FUZZ_PROGRAMS programs (10 000), or what RABBET_FUZZ_SECONDS allows.

Transforms are searched for RABBET_FUZZ_SECONDS, from another seed each day (RABBET_FUZZ_SEED).
"""

from __future__ import annotations

import os
import random
import time

import pytest

from tests.equivalence import transformed
from tests.equivalence.check import check, explain, sizes_in_turn
from tests.equivalence.families import FAMILIES
from tests.equivalence.generator import generate

PROGRAMS = int(os.environ.get("RABBET_FUZZ_PROGRAMS", "10000"))
PARTS = 8
SLOW_EVERY = 8  # other targets and the reference for one program in so many
FIRST = int(os.environ.get("RABBET_FUZZ_SEED", time.strftime("%y%m%d"))) * 10_000_000
SIZES_EVERY = 16  # several batch sizes in turn


@pytest.mark.slow
@pytest.mark.parametrize("part", range(PARTS))
def test_random_programs(part: int, fuzz_seconds: float) -> None:
    """Programs that differ from those of every other part and of the quick suite."""
    until = time.monotonic() + max(fuzz_seconds, 5.0) * 3.5
    done = 0
    for number in range(PROGRAMS // PARTS):
        seed = 1_000_000 + part * 1_000_000 + number
        program = generate(random.Random(seed), FAMILIES)
        try:
            check(program, slow=number % SLOW_EVERY == 0)
            if number % SIZES_EVERY == 1:
                batches = (7, 11, 18)
                sizes_in_turn([random.Random(seed) for _ in batches], batches)
        except Exception as failure:
            pytest.fail(f"seed {seed}: {explain(program, failure)}", pytrace=False)
        done += 1
        if time.monotonic() > until and "RABBET_FUZZ_PROGRAMS" not in os.environ:
            break
    assert done > 0


@pytest.mark.slow
@pytest.mark.parametrize("part", range(2))
def test_random_programs_transformed(part: int, fuzz_seconds: float) -> None:
    """vmap, grad, jvp, jit, and each in another; every fourth program branches on values."""
    until = time.monotonic() + max(fuzz_seconds, 5.0)
    done = 0
    while time.monotonic() < until:
        seed = FIRST + part * 1_000_000 + done
        branching = done % 4 == 0
        program = transformed.generated(seed, branching=branching, length=5)
        laws = transformed.WITH_BRANCHES if branching else tuple(transformed.LAWS)
        try:
            transformed.check(program, laws)
        except Exception as failure:
            found = transformed.explain(program, laws, failure)
            pytest.fail(f"seed {seed}: {found}", pytrace=False)
        done += 1
    assert done > 0

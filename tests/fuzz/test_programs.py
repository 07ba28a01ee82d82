"""The long search: RABBET_FUZZ_PROGRAMS programs, others each day (RABBET_FUZZ_SEED).

One in TRANSFORMED_EVERY goes through function transforms, every fourth of those branches on values.
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

PROGRAMS = int(os.environ.get("RABBET_FUZZ_PROGRAMS", "80"))
TRANSFORMED_EVERY = 10
PARTS = 8
SLOW_EVERY = 8  # other targets and the reference for one program in so many
SIZES_EVERY = 16  # several batch sizes in turn
FIRST = int(os.environ.get("RABBET_FUZZ_SEED", time.strftime("%y%m%d"))) * 10_000_000


def seeds(part: int) -> range:
    """No part sees what another one sees."""
    first = FIRST + part * 1_000_000
    return range(first, first + max(PROGRAMS // PARTS, TRANSFORMED_EVERY))


@pytest.mark.slow
@pytest.mark.parametrize("part", range(PARTS))
def test_random_programs(part: int) -> None:
    for number, seed in enumerate(seeds(part)):
        if number % TRANSFORMED_EVERY == 0:
            continue
        program = generate(random.Random(seed), FAMILIES)
        try:
            check(program, slow=number % SLOW_EVERY == 1)
            if number % SIZES_EVERY == 1:
                batches = (7, 11, 18)
                sizes_in_turn([random.Random(seed) for _ in batches], batches)
        except Exception as failure:
            pytest.fail(f"seed {seed}: {explain(program, failure)}", pytrace=False)


@pytest.mark.slow
@pytest.mark.parametrize("part", range(PARTS))
def test_random_programs_transformed(part: int) -> None:
    """vmap, grad, jvp, jit, and each in another."""
    for number, seed in enumerate(seeds(part)[::TRANSFORMED_EVERY]):
        branching = number % 4 == 0
        program = transformed.generated(seed, branching=branching, length=5)
        laws = transformed.WITH_BRANCHES if branching else tuple(transformed.LAWS)
        try:
            transformed.check(program, laws)
        except Exception as failure:
            found = transformed.explain(program, laws, failure)
            pytest.fail(f"seed {seed}: {found}", pytrace=False)

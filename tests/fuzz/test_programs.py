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
from tests.equivalence.programs import Program
from tests.equivalence.views import generate_viewed

PROGRAMS = int(os.environ.get("RABBET_FUZZ_PROGRAMS", "80"))
TRANSFORMED_EVERY = 10
PARTS = 8
SLOW_EVERY = 8  # other targets and the reference for one program in so many
SIZES_EVERY = 16  # several batch sizes in turn
VIEWED_EVERY = 3  # operands of all kinds of layouts for one program in so many
BATCHES = (7, 11, 18)
FIRST = int(os.environ.get("RABBET_FUZZ_SEED", time.strftime("%y%m%d"))) * 10_000_000


def seeds(part: int) -> range:
    """No part sees what another one sees."""
    first = FIRST + part * 1_000_000
    return range(first, first + max(PROGRAMS // PARTS, TRANSFORMED_EVERY))


def made(seed: int, viewed: bool, batch: int) -> Program:
    """The program of a seed for a batch size."""
    source = random.Random(seed)
    if viewed:
        return generate_viewed(source, batch)
    return generate(source, FAMILIES, batch=batch)


@pytest.mark.slow
@pytest.mark.parametrize("part", range(PARTS))
def test_random_programs(part: int) -> None:
    for number, seed in enumerate(seeds(part)):
        if number % TRANSFORMED_EVERY == 0:
            continue
        viewed = number % VIEWED_EVERY == 2
        program = made(seed, viewed, BATCHES[0])
        try:
            check(program, slow=number % SLOW_EVERY == 1)
            if number % SIZES_EVERY == 1:
                sizes_in_turn([made(seed, viewed, n) for n in BATCHES], BATCHES)
        except Exception as failure:
            pytest.fail(f"seed {seed}: {explain(program, failure)}", pytrace=False)


@pytest.mark.slow
@pytest.mark.parametrize("part", range(PARTS))
def test_random_programs_transformed(part: int) -> None:
    """vmap, grad, jvp, jit, and each in another."""
    for number, seed in enumerate(seeds(part)[::TRANSFORMED_EVERY]):
        branching = number % 4 == 3
        program = transformed.generated(seed, branching=branching, length=5)
        laws = transformed.WITH_BRANCHES if branching else tuple(transformed.LAWS)
        try:
            transformed.check(program, laws)
        except Exception as failure:
            found = transformed.explain(program, laws, failure)
            pytest.fail(f"seed {seed}: {found}", pytrace=False)

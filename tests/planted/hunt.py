"""Plant one bug in this process and search for it: `python -m tests.planted.hunt NAME LIMIT`.

Prints "found SEED ..." or "not found".
"""

from __future__ import annotations

import random
import sys

from rabbet.runtime import saved
from tests.equivalence.check import check, sizes_in_turn
from tests.equivalence.families import FAMILIES
from tests.equivalence.generator import generate
from tests.planted.bugs import PLANTED


def hunt(name: str, limit: int) -> str:
    """The first program of `limit` that a planted bug breaks."""
    saved.load = lambda key, store: None  # plans on disk come from compilers without the bug
    saved.save = lambda key, program, store: None
    if name != "none":
        PLANTED[name]()
    batches = (7, 20, 11, 1)
    for seed in range(limit):
        try:
            check(generate(random.Random(seed), FAMILIES))
            if seed % 4 == 0:
                made = [
                    generate(random.Random(seed), FAMILIES, batch=n, empty=False) for n in batches
                ]
                sizes_in_turn(made, batches)
        except Exception as failure:
            return f"found {seed} {type(failure).__name__}: {failure}"
    return "not found"


if __name__ == "__main__":
    print(hunt(sys.argv[1], int(sys.argv[2])))

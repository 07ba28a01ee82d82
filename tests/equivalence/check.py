"""One program tried in every way, and smaller programs that fail as it does."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence

from rabbet import targets
from tests.equivalence import ways
from tests.equivalence.programs import Program, shrunk


def other_targets() -> list[str]:
    """Targets of this machine that fuse multiplications and additions as the best one does."""
    best = targets.host()
    runnable = targets.runnable()
    return [t.name for t in runnable if t is not best and t.has_fma == best.has_fma]


def check(program: Program, names: Sequence[str] = tuple(ways.WAYS), *, slow: bool = True) -> None:
    """Raise ways.Difference, or what the framework raised, unless all ways agree.

    `slow`: also the other targets and the reference.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="an in-place update of an indexing result")
        wanted = ways.eager(program)
        for name in names:
            ways.same_bits(wanted, ways.WAYS[name](program), name)
        if slow:
            for target in other_targets():
                ways.same_bits(wanted, ways.fused_for(target)(program), target)
            ways.near_reference(program, wanted)


def explain(program: Program, failure: BaseException, rounds: int = 60) -> str:
    """What failed, on the smallest program found that fails in the same manner."""
    small = shrunk(program, fails_alike(failure, check), rounds)
    return f"{type(failure).__name__}: {failure}\n{small.show()}"


def fails_alike(
    failure: BaseException, attempt: Callable[[Program], None]
) -> Callable[[Program], bool]:
    """Does an attempt at a program fail as it did before?"""
    kind, words = type(failure), str(failure)[:12]

    def fails(candidate: Program) -> bool:
        try:
            attempt(candidate)
        except Exception as error:
            return type(error) is kind and str(error)[:12] == words
        return False

    return fails


def sizes_in_turn(made: Sequence[Program], batches: Sequence[int]) -> None:
    """One program for several batch sizes in turn, as symbols: the bits of each size's own.

    `made`: what equal sources of random numbers gave, a program for each batch size.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="an in-place update of an indexing result")
        wanted = [ways.eager(p) for p in made]
        with ways.setting():
            for _ in range(2):
                for n, program, result in zip(batches, made, wanted, strict=True):
                    ways.same_bits(result, ways.evaluate(program), f"batch {n} of {batches}")

"""The order of launches and the memory they share."""

import random
from typing import Any

import numpy as np
import pytest

from rabbet.runtime import arrange as arrange_module
from rabbet.runtime.arrange import Arrangement, Launch, arrange
from rabbet.runtime.plan import ARENA, INPUT, OUTPUT, PlanBuffer

BYTES = 1 << 20


def launch(
    reads: list[int], writes: list[int], *, over: bool = True, fails: bool = False
) -> Launch:
    """A launch that may write its first result over any operand."""
    pairs = [(r, writes[0]) for r in reads] if over else []
    return Launch(reads, writes, pairs, fails, -1, [])


def plan(kinds: str, launches: list[Launch], sizes: list[int] | None = None) -> Arrangement:
    """Buffers by their kinds: i, o or a, all as large as one another unless `sizes` says else."""
    names = {"i": INPUT, "o": OUTPUT, "a": ARENA}
    sizes = sizes or [BYTES] * len(kinds)
    return arrange(
        launches, [PlanBuffer(names[k], 0, s) for k, s in zip(kinds, sizes, strict=True)], sizes
    )


def test_a_chain_stays_in_one_place() -> None:
    found = plan("iaao", [launch([0], [1]), launch([1], [2]), launch([2], [3])])
    assert found.order == [0, 1, 2]
    assert found.alias == {2: 1, 3: 2}
    assert found.donated == {}


def test_an_operand_read_again_later_keeps_its_memory() -> None:
    found = plan("iaao", [launch([0], [1]), launch([1], [2]), launch([1, 2], [3])])
    assert 2 not in found.alias
    assert found.alias[3] in (1, 2)


def test_a_parameter_is_written_over_last() -> None:
    # new = f(p, g); g = h(p); another reader of p comes first
    found = plan(
        "iaoo", [launch([0], [1], over=False), launch([0, 1], [2]), launch([0], [3], over=False)]
    )
    assert found.donated == {2: 0}
    assert found.order[-1] == 1
    assert found.commit == 2


def test_swapped_inputs_are_not_both_given_up() -> None:
    """Each new value is made of both old ones: one of them needs memory of its own."""
    found = plan("iioo", [launch([0, 1], [2]), launch([0, 1], [3])])
    assert len(found.donated) == 1
    giver = next(iter(found.donated))
    assert found.order[-1] == giver - 2


def test_what_can_fail_comes_first() -> None:
    found = plan("iaoo", [launch([0], [2]), launch([0], [1], fails=True), launch([1], [3])])
    assert found.donated[2] == 0
    assert found.order.index(1) < found.order.index(0)
    assert found.commit == found.order.index(0)


def test_nothing_is_given_up_for_what_then_fails() -> None:
    found = plan("ioo", [launch([0], [1]), launch([1], [2], fails=True)])
    assert found.donated == {}
    assert plan("io", [launch([0], [1], fails=True)]).donated == {}


def test_an_early_update_saves_memory() -> None:
    """Gradients are used up one by one where that saves memory, not all kept to the end."""
    launches = [launch([n], [4 + n], over=False) for n in range(4)]
    launches += [launch([4 + n, n], [8 + n]) for n in range(4)]
    found = plan("iiiiaaaaoooo", launches)
    assert len(found.donated) == 4
    assert found.order == [0, 4, 1, 5, 2, 6, 3, 7]


@pytest.mark.parametrize("seed", range(30))
def test_random_plans(seed: int) -> None:
    """Played through with names of values for their contents, shared memory changes nothing."""
    rng = np.random.default_rng(seed)
    n_inputs, n_launches = int(rng.integers(1, 4)), int(rng.integers(1, 14))
    kinds, launches = "i" * n_inputs, []
    for _ in range(n_launches):
        reads = [
            int(b) for b in rng.choice(len(kinds), min(len(kinds), int(rng.integers(1, 4))), False)
        ]
        kinds += "o" if rng.random() < 0.3 else "a"
        launches.append(
            launch(reads, [len(kinds) - 1], over=rng.random() < 0.8, fails=rng.random() < 0.1)
        )
    found = plan(kinds, launches)
    assert sorted(found.order) == list(range(n_launches))
    check_contents(kinds, launches, found)
    places = {n: place for place, n in enumerate(found.order)}
    failing = [places[n] for n, one in enumerate(launches) if one.can_fail]
    assert not found.donated or max(failing, default=-1) < found.commit


def check_contents(kinds: str, launches: list[Launch], found: Arrangement) -> None:
    """Runs the order with and without donation on memory that holds the name of a value."""
    for given in (found.donated, {}):
        where = {b: b for b in range(len(kinds))}
        where |= given
        for n in found.order:
            for b in launches[n].writes:
                if b in found.alias:
                    where[b] = where[found.alias[b]]
        memory = {where[b]: b for b, k in enumerate(kinds) if k == "i"}
        for n in found.order:
            for b in launches[n].reads:
                assert memory[where[b]] == b, f"launch {n} reads {b} after it was overwritten"
            for b in launches[n].writes:
                memory[where[b]] = b
        for b, kind in enumerate(kinds):
            assert kind != "o" or memory[where[b]] == b


def _least_first(graph: Any, launches: list[Launch], hints: list[int], late: set[int]) -> list[int]:
    """The frugal order by asking every launch that may run, each time; all buffers in the arena."""
    order: list[int] = []
    while len(order) < len(launches):
        left = [n for n in range(len(launches)) if n not in order]

        def growth(n: int, left: list[int] = left) -> tuple[bool, int, int]:
            made = {b for m in order for b in launches[m].writes}
            needed = {b for m in left if m != n for b in launches[m].reads}
            new = sum(hints[b] for b in {*launches[n].writes} - made)
            return n in late, new - sum(hints[b] for b in {*launches[n].reads} - needed), n

        waiting = {n for m in left for n in graph.after[m]}
        order.append(min({*left} - waiting, key=growth))
    return order


@pytest.mark.parametrize("seed", range(100))
def test_the_frugal_order_is_that_of_asking_every_launch(seed: int) -> None:
    draw = random.Random(seed)
    hints = [draw.randint(1, 9) for _ in range(draw.randint(2, 12))]
    numbers = range(len(hints))
    launches = [
        launch(draw.choices(numbers, k=draw.randint(0, 3)), draw.choices(numbers, k=2))
        for _ in range(draw.randint(1, 12))
    ]
    graph = arrange_module._Dependences(launches)
    late = graph.reachable({n for n in range(len(launches)) if draw.random() < 0.2})
    buffers = [PlanBuffer(ARENA, 0, size) for size in hints]
    found = arrange_module._frugal(graph, launches, buffers, hints, late)
    assert found == _least_first(graph, launches, hints, late)
